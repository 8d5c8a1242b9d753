"""What the apiserver has, over an open connection: who looks ten times a second cannot afford a kubectl (70 ms of CPU) each."""

from collections.abc import Mapping
from functools import cache
from typing import Final

from kubernetes import client, config

_MABEAM: Final = "/apis/mabeam.dev/v1alpha1"
# What tests wait for, by the words that they have for it in common with kubectl.
_RESOURCES: Final[Mapping[str, tuple[str, str]]] = {
    "mba": (_MABEAM, "agents"),
    "mov": (_MABEAM, "orchestrationvariables"),
    "msup": (_MABEAM, "supervisors"),
    "pod": ("/api/v1", "pods"),
    "configmap": ("/api/v1", "configmaps"),
    "lease": ("/apis/coordination.k8s.io/v1", "leases"),
    "networkpolicy": ("/apis/networking.k8s.io/v1", "networkpolicies"),
}
_PATIENCE_SECONDS: Final = 60


def path_of(namespace: str, kind: str, name: str = "") -> str | None:
    """Where the kind's objects, or the one of that name, are; None for a kind that is left to kubectl."""
    if kind not in _RESOURCES:
        return None
    prefix, plural = _RESOURCES[kind]
    return "/".join([prefix, "namespaces", namespace, plural, *([name] if name else [])])


def ask(kubeconfig: str, path: str, **query: str) -> tuple[int, bytes]:
    """The apiserver's answer to a GET: its code and its body."""
    api = _client(kubeconfig)
    request = api.param_serialize("GET", path, query_params=[*query.items()], auth_settings=["BearerToken"])
    answer = api.call_api(*request, _request_timeout=_PATIENCE_SECONDS)
    return answer.status, answer.read()


@cache
def _client(kubeconfig: str) -> client.ApiClient:
    return config.new_client_from_config(kubeconfig)
