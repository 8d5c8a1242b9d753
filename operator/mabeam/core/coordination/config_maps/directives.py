"""A variable's ConfigMaps of directives: one entry for each directive, in shards below the size limit of an object."""

import json
from collections.abc import Iterator, Sequence
from typing import Final

from mabeam.api.base import JsonDict
from mabeam.api.directive import VariableDirective
from mabeam.api.names import DIRECTIVES_KEY, variable_config_map
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.coordination.config_maps.write import config_map_effect
from mabeam.core.coordination.convergence import DirectiveProgress, listed
from mabeam.core.decision import Effect
from mabeam.core.snapshot import ConfigMapFacts, VariableSnapshot

# Half of the apiserver's limit of 1 MiB, so that metadata and managed fields always fit.
SHARD_BYTES: Final = 512 * 1024


def directive_shard_effects(snapshot: VariableSnapshot, progress: Sequence[DirectiveProgress]) -> tuple[Effect, ...]:
    """The writes after which the ConfigMaps hold all directives of a variable that has more than its status lists.

    A ConfigMap that is no longer needed is deleted. States are left out: they change with every acknowledgement, and the status
    counts them.
    """
    variable = snapshot.variable
    wanted = dict(_shards(variable, progress)) if len(listed(progress)) < len(progress) else {}
    prefix = variable_config_map(variable.metadata.name)
    found = {facts.name: facts for facts in snapshot.config_maps if facts.name.startswith(prefix)}
    writes = [_write(variable, name, document, found.get(name)) for name, document in wanted.items()]
    space = variable.metadata.namespace
    spent = (facts for name, facts in sorted(found.items()) if name not in wanted and facts.owned)
    deletes = (
        Effect("delete", "ConfigMap", space, facts.name, "spent", uid=facts.uid, needs_config_maps=True)
        for facts in spent
    )
    return (*(write for write in writes if write is not None), *deletes)


def _shards(variable: OrchestrationVariable, progress: Sequence[DirectiveProgress]) -> Iterator[tuple[str, JsonDict]]:
    """(name, document) of each ConfigMap; the name has no number when there is only one."""
    name = variable_config_map(variable.metadata.name)
    chunks = list(_chunks([_entry(one.directive) for one in progress]))
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
        # 512 bytes for the document around the entries, 2 for the separator after each.
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
    return config_map_effect(variable, name, found, component="directives", reason="directives", data=data)
