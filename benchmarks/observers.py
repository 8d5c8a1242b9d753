"""What one can see of the cluster from outside: watches with the time of each change, the audit log, the operator's metrics."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kubernetes

from e2e.release import NAMESPACE, operator_pods
from support.kube import JsonDict, Kube, required

API = "mabeam.dev", "v1alpha1"
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


class Observer:
    """Watches a kind in a namespace from a thread, and notes when each change arrived."""

    def __init__(self, path: str, kube: Kube) -> None:
        self.events: list[tuple[float, str, JsonDict]] = []
        self._api = kubernetes.client.CustomObjectsApi(kubernetes.config.new_client_from_config())
        self._core = kubernetes.client.CoreV1Api(self._api.api_client)
        self._path, self._kube = path, kube
        self._watch = kubernetes.watch.Watch()
        self._stopped = False
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def _listen(self) -> None:
        space = self._kube.namespace
        if self._path == "pods":
            stream = self._watch.stream(self._core.list_namespaced_pod, space)
        else:
            stream = self._watch.stream(self._api.list_namespaced_custom_object, *API, space, self._path)
        try:
            for event in stream:
                self.events.append((time.time(), event["type"], event["raw_object"]))
        except Exception:  # a stream nobody listens to any more may end as it likes
            if not self._stopped:
                raise

    def first(self, look: Callable[[str, JsonDict], bool]) -> float | None:
        """When the first change arrived that `look` recognises."""
        return next((when for when, event, found in list(self.events) if look(event, found)), None)

    def __enter__(self) -> "Observer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._watch.stop()


class AuditLog:
    """What the operator asked of the apiserver, from the embedded cluster's audit log."""

    def __init__(self) -> None:
        self.path = Path(required("KUBECONFIG")).parent / "logs/audit.log"
        if not self.path.exists():
            raise SystemExit(f"no audit log at {self.path}: the writes can be counted on the embedded cluster only")

    @contextmanager
    def writes(self) -> Iterator[Counter[str]]:
        """The operator's writes while the block runs, counted when it ends: `verb resource/subresource` → number."""
        found: Counter[str] = Counter()
        start = self.path.stat().st_size
        yield found
        with self.path.open() as file:
            file.seek(start)
            for text in file:
                entry = json.loads(text)
                ours = str(entry.get("userAgent", "")).startswith("mabeam/")
                if ours and entry["stage"] == "ResponseComplete" and entry["verb"] in WRITES:
                    place = entry["objectRef"]
                    name = "/".join(part for part in (place["resource"], place.get("subresource")) if part)
                    found[f"{entry['verb']} {name}"] += 1


def apart(writes: Mapping[str, int], *resources: str) -> dict[str, int]:
    """The writes without those to these resources."""
    return {name: count for name, count in writes.items() if name.split()[1].split("/")[0] not in resources}


def operator_metric(name: str) -> float:
    """A number from the operator's own /metrics."""
    (pod,) = operator_pods()
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}:8080/proxy/metrics"
    text = Kube(NAMESPACE).run("get", "--raw", path)
    return next(float(found.split()[1]) for found in text.splitlines() if found.startswith(f"{name} "))


def patch(plural: str, kube: Kube, name: str, spec: JsonDict) -> float:
    """The time right before the spec was merged into the object, over a connection that is open already."""
    return merge(plural, kube, name, {"spec": spec})


def merge(plural: str, kube: Kube, name: str, body: JsonDict) -> float:
    """The time right before the body was merged into the object, over a connection that is open already."""
    started = time.time()
    _api().patch_namespaced_custom_object(*API, kube.namespace, plural, name, body)
    return started


_KEPT: dict[str, Any] = {}


def _api() -> Any:
    if "api" not in _KEPT:
        _KEPT["api"] = kubernetes.client.CustomObjectsApi(kubernetes.config.new_client_from_config())
        _KEPT["api"].api_client.set_default_header("Content-Type", "application/merge-patch+json")
    return _KEPT["api"]
