"""What the apiserver has, over an open connection: who looks ten times a second cannot afford a kubectl (70 ms of CPU) each."""

from collections.abc import Mapping
from functools import cache
from typing import Final

from kubernetes import client, config

# The kinds that tests wait for, by kubectl's words for them; all others are left to kubectl.
PLURALS: Final[Mapping[str, str]] = {
    "mba": "agents",
    "mov": "orchestrationvariables",
    "msup": "supervisors",
    "pod": "pods",
    "configmap": "configmaps",
    "lease": "leases",
    "networkpolicy": "networkpolicies",
}
_PATIENCE_SECONDS: Final = 60


def ask(kubeconfig: str, path: str, **query: str) -> tuple[int, bytes]:
    """The apiserver's answer to a GET: its code and its body."""
    api = _client(kubeconfig)
    request = api.param_serialize("GET", path, query_params=[*query.items()], auth_settings=["BearerToken"])
    answer = api.call_api(*request, _request_timeout=_PATIENCE_SECONDS)
    return answer.status, answer.read()


@cache
def _client(kubeconfig: str) -> client.ApiClient:
    return config.new_client_from_config(kubeconfig)
