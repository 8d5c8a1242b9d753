"""The blocking client of the tests: kubectl on the tests' cluster, and reads over an open connection, with deadlines.

A test that looks ten times a second cannot afford a kubectl each time (70 ms of CPU), so `ask` reads what is read often.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from kubernetes import client, config

from support.resources import path_of

JsonDict = dict[str, Any]

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
_REQUEST_TIMEOUT_SECONDS: Final = 60


class Refused(AssertionError):
    """kubectl said no; its words."""


def required(variable: str) -> str:
    """The value of an environment variable that `make test` sets; fails, rather than skips, without it."""
    value = os.environ.get(variable)
    if not value:
        raise AssertionError(
            f"{variable} is not set: this test needs the tests' cluster; run `make test`, or see `make help`"
        )
    return value


@dataclass(frozen=True)
class Kube:
    """One namespace of a real cluster."""

    namespace: str

    def run(self, *arguments: str, stdin: str | None = None, check: bool = True, timeout: float = 60) -> str:
        """What kubectl printed; raises Refused with its words when it failed."""
        done = subprocess.run(
            [required("MABEAM_TEST_KUBECTL"), "-n", self.namespace, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode != 0:
            raise Refused(done.stderr.strip() or done.stdout.strip())
        return done.stdout

    def apply(self, *objects: JsonDict) -> None:
        """Apply objects as a user would."""
        document = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.run("apply", "-f", "-", stdin=json.dumps(document))

    def get(self, kind: str, name: str) -> JsonDict:
        """The object; raises Refused when there is none."""
        found = self.find(kind, name)
        if found is None:
            raise Refused(f"there is no {kind} {name} in {self.namespace}")
        return found

    def find(self, kind: str, name: str) -> JsonDict | None:
        """The object, None when there is none."""
        if kind in PLURALS:
            return self._read(path_of(self.namespace, PLURALS[kind], name))
        text = self.run("get", kind, name, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def list(self, kind: str, selector: str = "") -> list[JsonDict]:
        """The objects of a kind."""
        if kind in PLURALS:
            path = path_of(self.namespace, PLURALS[kind])
            found = self._read(path, **({"labelSelector": selector} if selector else {})) or {"items": []}
        else:
            found = json.loads(self.run("get", kind, "-o", "json", *(["-l", selector] if selector else [])))
        return list(found["items"])

    def _read(self, path: str, **query: str) -> JsonDict | None:
        status, body = ask(required("KUBECONFIG"), path, **query)
        found: JsonDict = json.loads(body)
        if status not in (200, 404):
            raise Refused(f"{found.get('reason')}: {found.get('message')}")
        return found if status == 200 else None


def ask(kubeconfig: str, path: str, **query: str) -> tuple[int, bytes]:
    """The apiserver's answer to a GET: its code and its body."""
    api = _client(kubeconfig)
    request = api.param_serialize("GET", path, query_params=[*query.items()], auth_settings=["BearerToken"])
    answer = api.call_api(*request, _request_timeout=_REQUEST_TIMEOUT_SECONDS)
    return answer.status, answer.read()


@cache
def _client(kubeconfig: str) -> client.ApiClient:
    return config.new_client_from_config(kubeconfig)


def until(what: str, look: Callable[[], Any], seconds: float = 60, pause: float = 0.1) -> Any:
    """What `look` returned once it was truthy; fails after the deadline, saying what was awaited and last seen."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what} (last seen: {seen!r})")
        time.sleep(pause)


@contextmanager
def namespace(name: str, labels: dict[str, str] | None = None) -> Iterator[Kube]:
    """A namespace of its own for a test, deleted without waiting when the test is over."""
    create_namespace(name, labels)
    try:
        yield Kube(name)
    finally:
        delete_namespace(name)


def create_namespace(name: str, labels: dict[str, str] | None = None) -> None:
    """Make it, if there is none; one of that name that is on its way out is waited for."""

    def is_free() -> bool:
        found = Kube("default").find("namespace", name)
        return found is None or "deletionTimestamp" not in found["metadata"]

    until(f"no namespace {name} is going", is_free, 120)
    Kube("default").apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}})


def delete_namespace(name: str) -> None:
    """Ask for its end, and do not wait for it."""
    Kube("default").run("delete", "namespace", name, "--wait=false", check=False)


def condition(obj: JsonDict, type_: str) -> JsonDict:
    """A condition of an object's status; empty when it is not there."""
    conditions = (obj.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == type_), {})
