"""ScaleUp and ScaleDown with a step (`by`) → with an absolute number, so that reading a directive twice has no further effect."""

from typing import Any, Final

from mabeam.api.agent import MAX_REPLICAS
from mabeam.api.base import JsonDict
from mabeam.api.directive import DirectiveAction

_STEPS: Final = {DirectiveAction.SCALE_UP: 1, DirectiveAction.SCALE_DOWN: -1}


def absolute_replicas(action: DirectiveAction, parameters: JsonDict, replicas: int) -> JsonDict:
    """The parameters with `replicas` instead of `by` (default 1): that many steps from `replicas`, within `min` and `max`.

    Unchanged are parameters of other actions, and invalid ones, which `validity` refuses.
    """
    sign = _STEPS.get(action)
    if sign is None or "replicas" in parameters or invalid_step(parameters) is not None:
        return parameters
    wanted = replicas + sign * _whole(parameters.get("by"), 1)
    least, most = _whole(parameters.get("min"), 0), _whole(parameters.get("max"), MAX_REPLICAS)
    rest = {key: value for key, value in parameters.items() if key not in ("by", "min", "max")}
    return rest | {"replicas": max(0, min(max(wanted, least), most, MAX_REPLICAS))}


def invalid_step(parameters: JsonDict) -> str | None:
    """The problem with `by`, `min` or `max`; None when there is none."""
    for name in ("by", "min", "max"):
        if name in parameters and _whole(parameters[name], -1) < 0:
            return f"`{name}` must be a whole number from 0 on, not {parameters[name]!r:.40}"
    if _whole(parameters.get("min"), 0) > _whole(parameters.get("max"), MAX_REPLICAS):
        return f"`min` {parameters['min']} is above `max` {parameters.get('max', MAX_REPLICAS)}"
    return None


def _whole(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default
