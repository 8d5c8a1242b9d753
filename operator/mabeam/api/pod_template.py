"""The pod template of an agent: any PodSpec, without the operator's own labels and annotations."""

from typing import Annotated, Any, ClassVar, Final

from pydantic import BeforeValidator, Field

from mabeam.api.base import AnnotationMap, KubeModel, LabelMap, Rule, without_nulls
from mabeam.api.names import RESERVED_LABELS, RESERVED_PREFIX

# A PodSpec nests about fifteen levels deep; JSON writers stop at 254.
MAX_TEMPLATE_DEPTH: Final = 100

_RESERVED = ", ".join(f"'{label}'" for label in RESERVED_LABELS)


def _unreserved(keys: Any) -> bool:
    return all(key not in RESERVED_LABELS and not key.startswith(RESERVED_PREFIX) for key in keys or ())


class TemplateMeta(KubeModel):
    """Labels and annotations of the agent's pods; the operator's own keys are reserved."""

    labels: Annotated[LabelMap | None, Field(description="Labels of the agent's pods, beside the operator's own.")] = (
        None
    )
    annotations: Annotated[
        AnnotationMap | None, Field(description="Annotations of the agent's pods, beside the operator's own.")
    ] = None
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!has(self.labels) || self.labels.all(k, !k.startsWith('{RESERVED_PREFIX}') && !(k in [{_RESERVED}]))",
            f"`labels` must not set the operator's own keys ({RESERVED_PREFIX}*, {', '.join(RESERVED_LABELS)})",
            lambda meta: _unreserved(meta.labels),
        ),
        Rule(
            f"!has(self.annotations) || self.annotations.all(k, !k.startsWith('{RESERVED_PREFIX}'))",
            f"`annotations` must not set the operator's own keys ({RESERVED_PREFIX}*)",
            lambda meta: _unreserved(meta.annotations),
        ),
    )


def _checked_depth(spec: Any) -> Any:
    """The spec as it is; raises ValueError when it is nested too deep to be written into a pod."""
    without_nulls(spec, MAX_TEMPLATE_DEPTH)
    return spec


def _has_containers(spec: dict[str, Any]) -> bool:
    containers = spec.get("containers")
    return (
        isinstance(containers, list)
        and bool(containers)
        and all(isinstance(c, dict) and c.get("name") for c in containers)
    )


def _is_workable(spec: dict[str, Any]) -> bool:
    """Whether the operator can add its own fields to the pod; the API server validates everything else."""
    containers = [c for c in spec.get("containers") or () if isinstance(c, dict)]
    lists = [spec.get("volumes"), *(c.get(key) for c in containers for key in ("env", "ports", "volumeMounts"))]
    resources = [c.get("resources") for c in containers]
    amounts = [found.get(side) for found in resources if isinstance(found, dict) for side in ("requests", "limits")]
    return (
        all(_named_objects(found) for found in lists if found is not None)
        and all(isinstance(found, dict) for found in (*resources, *amounts) if found is not None)
        and all(isinstance(c.get("name"), str) for c in containers)
    )


def _named_objects(found: Any) -> bool:
    return isinstance(found, list) and all(
        isinstance(item, dict) and isinstance(item.get("name"), str | None) for item in found
    )


class PodTemplate(KubeModel):
    """A pod template: `spec` is an ordinary PodSpec, validated by the API server when the pod is created."""

    metadata: TemplateMeta | None = None
    spec: Annotated[
        dict[str, Any],
        BeforeValidator(_checked_depth),
        Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}),
        Field(
            description="A PodSpec. `restartPolicy` is always Never, and containers have none of their own but native sidecars "
            "(init containers with Always): the operator restarts."
        ),
    ]
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            None,  # CEL cannot look into the pod's spec
            "`spec.containers` must list at least one container, each with a `name`",
            lambda template: _has_containers(template.spec),
        ),
        Rule(
            None,
            "`spec` must be a PodSpec: `volumes`, and `env`, `ports` and `volumeMounts` of a container, are lists of objects,"
            " `resources` is an object, names are text",
            lambda template: _is_workable(template.spec),
        ),
    )
