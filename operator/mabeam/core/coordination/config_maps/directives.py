"""The variable's ConfigMaps of directives: one entry an agent, in shards that stay below the size limit of an object."""

import json
from collections.abc import Iterator, Sequence
from typing import Final

from mabeam.api.base import JsonDict
from mabeam.api.directive import VariableDirective
from mabeam.api.names import DIRECTIVES_KEY, variable_config_map
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.coordination.config_maps.write import config_map_effect
from mabeam.core.coordination.convergence import STATUS_ITEMS, DirectiveProgress
from mabeam.core.decision import Effect
from mabeam.core.snapshot import ConfigMapFacts, VariableSnapshot

# Half of what the apiserver takes, so that metadata and managed fields never tip it over.
SHARD_BYTES: Final = 512 * 1024


# --- the ConfigMaps of a variable with more directives than its status carries ----------------------------------------


def directive_shard_effects(snapshot: VariableSnapshot, told: Sequence[DirectiveProgress]) -> tuple[Effect, ...]:
    """The writes that make the variable's ConfigMaps hold all of its directives; those it needs no more are deleted.

    They hold what was told, not how far it came: that changes with every answer, and is counted in the status.
    """
    variable = snapshot.variable
    wanted = dict(_shards(variable, told)) if len(told) > STATUS_ITEMS else {}
    prefix = variable_config_map(variable.metadata.name)
    found = {facts.name: facts for facts in snapshot.config_maps if facts.name.startswith(prefix)}
    writes = [_write(variable, name, document, found.get(name)) for name, document in wanted.items()]
    space = variable.metadata.namespace
    spent = (facts for name, facts in sorted(found.items()) if name not in wanted and facts.owned)
    deletes = (Effect("delete", "ConfigMap", space, facts.name, "spent", uid=facts.uid) for facts in spent)
    return (*(write for write in writes if write is not None), *deletes)


def _shards(variable: OrchestrationVariable, told: Sequence[DirectiveProgress]) -> Iterator[tuple[str, JsonDict]]:
    name = variable_config_map(variable.metadata.name)
    chunks = list(_chunks([_entry(one.directive) for one in told]))
    for number, chunk in enumerate(chunks):
        yield (
            name if len(chunks) == 1 else f"{name}-{number}",
            {"variable": variable.metadata.name, "directives": chunk},
        )


def _entry(directive: VariableDirective) -> JsonDict:
    return directive.model_dump(mode="json", by_alias=True, exclude={"state", "reason", "message", "overruled_by"})


def _chunks(entries: list[JsonDict]) -> Iterator[list[JsonDict]]:
    chunk: list[JsonDict] = []
    size = 0
    for entry in entries:
        # 512 for the document around the entries; 2 for the separator after each.
        length = len(json.dumps(entry, sort_keys=True).encode()) + 2
        if chunk and size + length > SHARD_BYTES - 512:
            yield chunk
            chunk, size = [], 0
        chunk.append(entry)
        size += length
    yield chunk


def _write(
    variable: OrchestrationVariable, name: str, document: JsonDict, found: ConfigMapFacts | None
) -> Effect | None:
    if found is not None and (not found.owned or found.document == document):
        return None
    data = {DIRECTIVES_KEY: json.dumps(document, sort_keys=True)}
    return config_map_effect(variable, name, "directives", "directives", data, found)
