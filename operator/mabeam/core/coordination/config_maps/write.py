"""The write that creates or replaces a ConfigMap of a variable."""

from collections.abc import Mapping

from mabeam.api.base import JsonDict
from mabeam.api.names import LABEL_VARIABLE
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.conventions.metadata import child_labels, owner_reference
from mabeam.core.decision import Effect
from mabeam.core.snapshot import ConfigMapFacts


def config_map_effect(
    variable: OrchestrationVariable,
    name: str,
    found: ConfigMapFacts | None,
    *,
    component: str,
    reason: str,
    data: Mapping[str, str | None],
    annotations: Mapping[str, str] | None = None,
) -> Effect:
    """The write after which the ConfigMap holds this data; a key with None is removed. `found`: the stored ConfigMap, if any."""
    meta = variable.metadata
    metadata: JsonDict = {
        "name": name,
        "namespace": meta.namespace,
        "labels": child_labels(component) | {LABEL_VARIABLE: meta.name},
        **({"annotations": dict(annotations)} if annotations else {}),
        "ownerReferences": [owner_reference(variable.kind, meta.name, meta.uid)],
    }
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(data)}
    if found is None:
        body["data"] = {key: text for key, text in data.items() if text is not None}
        return Effect("create", "ConfigMap", meta.namespace, name, reason, body)
    return Effect("apply", "ConfigMap", meta.namespace, name, reason, body, resource_version=found.resource_version)
