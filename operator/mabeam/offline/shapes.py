"""The fields of cluster objects that a world may hold, with the types an apiserver would insist on."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from mabeam.api.base import DNS_LABEL, DNS_SUBDOMAIN, Quantity, StatusModel
from mabeam.core.conventions.times import parse_instant


class _Metadata(StatusModel):
    name: Annotated[str, Field(pattern=DNS_SUBDOMAIN, max_length=253)]
    namespace: Annotated[str, Field(pattern=DNS_LABEL, max_length=63)] = "default"
    generation: Annotated[int, Field(strict=True, ge=0, le=2**53)] = 0  # the bounds of `status.observedGeneration`


class NamedShape(StatusModel):
    """What every object has."""

    metadata: _Metadata


def _moment(text: str) -> str:
    if parse_instant(text) is None:
        shown = f"{text!r:.80}"
        raise PydanticCustomError("rule", "must be a time such as 2026-01-01T00:00:00Z, not {text}", {"text": shown})
    return text


_Moment = Annotated[str, AfterValidator(_moment)]
_Int32 = Annotated[int, Field(strict=True, ge=-(2**31), le=2**31 - 1)]


class _Owner(StatusModel):
    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class _ChildMeta(StatusModel):
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[_Owner] = []
    creation_timestamp: _Moment | None = None
    deletion_timestamp: _Moment | None = None
    deletion_grace_period_seconds: Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)] = 0


class _Running(StatusModel):
    started_at: _Moment | None = None


class _Waiting(StatusModel):
    reason: str = ""
    message: str = ""


class _Terminated(_Waiting):
    exit_code: _Int32 = 0
    started_at: _Moment | None = None
    finished_at: _Moment | None = None


class _State(StatusModel):
    waiting: _Waiting | None = None
    running: _Running | None = None
    terminated: _Terminated | None = None


class _ContainerStatus(StatusModel):
    name: str
    ready: bool = True
    state: _State = _State()


class _PodCondition(StatusModel):
    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str = ""
    message: str = ""
    last_transition_time: _Moment | None = None


class _PodStatus(StatusModel):
    phase: Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"] = "Pending"
    reason: str = ""
    message: str = ""
    pod_ip: Annotated[str, Field(alias="podIP")] = ""
    start_time: _Moment | None = None
    conditions: list[_PodCondition] = []
    container_statuses: list[_ContainerStatus] = []
    init_container_statuses: list[_ContainerStatus] = []


class _Container(StatusModel):
    name: str


class _PodSpec(StatusModel):
    node_name: str = ""
    host_network: bool = False
    containers: list[_Container] = []


class PodShape(StatusModel):
    """The fields of a Pod that are read."""

    metadata: _ChildMeta
    spec: _PodSpec = _PodSpec()
    status: _PodStatus = _PodStatus()


# Kubernetes' own kinds take any number for a quantity; the CRDs an integer or text.
_CoreQuantity = Annotated[Quantity, BeforeValidator(lambda value: str(value) if isinstance(value, float) else value)]


class _NodeStatus(StatusModel):
    allocatable: dict[str, _CoreQuantity] = {}


class NodeShape(StatusModel):
    """The fields of a Node that are read."""

    status: _NodeStatus = _NodeStatus()


class _QuotaSpec(StatusModel):
    hard: dict[str, _CoreQuantity] = {}


class QuotaShape(StatusModel):
    """The fields of a ResourceQuota that are read."""

    spec: _QuotaSpec = _QuotaSpec()


class ConfigMapShape(StatusModel):
    """The fields of a ConfigMap or a NetworkPolicy that are read."""

    metadata: _ChildMeta
    data: dict[str, str] = {}
