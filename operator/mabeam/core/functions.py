"""User functions as data: the core evaluates none; it requests a call and decides again when the result is known.

A decision carries the `FunctionCall`s it needs, a snapshot the `FunctionResult`s known so far, keyed by the call's id. The id is
a hash of the function and of all its inputs, so equal calls are made once and a result never reaches another call.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

from mabeam.api.base import JsonDict
from mabeam.api.variable_blocks import Function, Webhook
from mabeam.core.conventions.hashing import digest

# The largest inputs of one call, as JSON; those of a thousand agents with ten metrics each are a third of it.
MAX_INPUT_BYTES: Final = 1024 * 1024


class Language(StrEnum):
    """The kind of function, which decides where it is evaluated."""

    CEL = "cel"
    CEL_EDGES = "cel-edges"
    WEBHOOK = "webhook"
    PLUGIN = "plugin"


class PluginGroup(StrEnum):
    """The entry point group in which a plug-in is looked up."""

    COORDINATION = "mabeam.coordination"
    CONSENSUS = "mabeam.consensus"
    CONFLICT = "mabeam.conflict"


@dataclass(frozen=True)
class FunctionCall:
    """One call of a user's function with all its inputs.

    `cel`: `text` is the expression, `inputs` its variables. `cel-edges`: `inputs["agents"]` is a list of objects with a `name`;
    the result is the list of [from, to] names of the ordered pairs for which `text`, in which `from` and `to` are two of these
    objects, is true. `webhook`: `text` is the URL, `inputs` the body that is posted. `plugin`: `text` is the entry point's name
    in `group`, `inputs` its one argument.
    """

    language: Language
    text: str  # expression, URL or entry point name
    inputs: JsonDict = field(default_factory=dict)  # JSON values by name
    group: PluginGroup = PluginGroup.COORDINATION  # only for `plugin`
    ca_bundle: str | None = None  # PEM, base64; only for `webhook`
    timeout_seconds: float = 5  # only for `webhook`

    @cached_property
    def id(self) -> str:
        """The hash of all fields: equal calls have equal ids."""
        whole = [self.language, self.text, self.group, self.ca_bundle, self.timeout_seconds, self.inputs]
        return digest(whole)


@dataclass(frozen=True, slots=True)
class FunctionResult:
    """What one call returned, or why it failed."""

    value: Any = None  # a JSON value
    error: str | None = None  # one line for people; None: it succeeded
    timed_out: bool = False


FunctionResults = Mapping[str, FunctionResult]  # call id → result


def function_call(function: Function, inputs: JsonDict, group: PluginGroup = PluginGroup.COORDINATION) -> FunctionCall:
    """The call of a variable's `function` block with these inputs."""
    if function.cel is not None:
        return FunctionCall(Language.CEL, function.cel, inputs)
    if function.webhook is not None:
        hook: Webhook = function.webhook
        return FunctionCall(
            Language.WEBHOOK, hook.url, inputs, ca_bundle=hook.ca_bundle, timeout_seconds=hook.timeout_seconds
        )
    name = function.plugin.name if function.plugin is not None else ""
    return FunctionCall(Language.PLUGIN, name, inputs, group)
