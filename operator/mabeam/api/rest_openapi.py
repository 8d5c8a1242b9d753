"""The OpenAPI 3.1 document of `/v1`, generated from the records; the apiserver's own API is described by the CRDs."""

from functools import cache
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from mabeam import __version__
from mabeam.api.base import JsonDict, KubeModel
from mabeam.api.rest import AgentInfo, AgentList, Problem, SystemStatus, VariableInfo, VariableList

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 500
DOCUMENT: Final = "/v1/openapi.json"

_NAMESPACE: Final[JsonDict] = {
    "name": "namespace",
    "in": "query",
    "description": "Only of this namespace.",
    "schema": {"type": "string"},
}
_LIMIT: Final[JsonDict] = {
    "name": "limit",
    "in": "query",
    "description": "The most items of a page.",
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
}
_CONTINUE: Final[JsonDict] = {
    "name": "continue",
    "in": "query",
    "description": "The `continue` of the page before.",
    "schema": {"type": "string"},
}
_PATH: Final = [
    {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in ("namespace", "name")
]
LIST_QUERY: Final = (_NAMESPACE, _LIMIT, _CONTINUE)
STATUS_QUERY: Final = (_NAMESPACE,)

# Path, what it answers, its query's parameters, in a sentence.
OPERATIONS: Final[tuple[tuple[str, type[KubeModel], tuple[JsonDict, ...], str], ...]] = (
    ("/v1/status", SystemStatus, STATUS_QUERY, "The system at a glance."),
    ("/v1/agents", AgentList, LIST_QUERY, "Agents, by namespace and name, in pages."),
    ("/v1/agents/{namespace}/{name}", AgentInfo, (), "One agent."),
    ("/v1/variables", VariableList, LIST_QUERY, "Variables, by namespace and name, in pages."),
    ("/v1/variables/{namespace}/{name}", VariableInfo, (), "One variable."),
)
PATHS: Final = (*(path for path, *_ in OPERATIONS), DOCUMENT)


@cache
def document() -> JsonDict:
    """The document; the same object each time, not to be changed."""
    models: list[tuple[type[KubeModel], Any]] = [(model, "serialization") for _, model, _, _ in OPERATIONS]
    _, schemas = models_json_schema(
        [*models, (Problem, "serialization")], by_alias=True, ref_template="#/components/schemas/{model}"
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "MABEAM on Kubernetes",
            "version": __version__,
            "summary": "What the operator knows of agents and variables; read-only.",
        },
        "paths": {path: {"get": _operation(model, query, text)} for path, model, query, text in OPERATIONS},
        "components": {"schemas": schemas["$defs"]},
    }


def _operation(model: type[KubeModel], query: tuple[JsonDict, ...], summary: str) -> JsonDict:
    one = model in (AgentInfo, VariableInfo)
    told = {200: _answer(summary, model, "application/json"), 503: _problem("Nothing was listed yet.")}
    if query:
        told[400] = _problem("The query is not one that is answered.")
    if one:
        told[404] = _problem("There is none of that name.")
    return {
        "operationId": f"get{model.__name__}",
        "summary": summary,
        "parameters": [*(_PATH if one else ()), *query],
        "responses": {str(code): told[code] for code in sorted(told)},
    }


def _problem(description: str) -> JsonDict:
    return _answer(description, Problem, "application/problem+json")


def _answer(description: str, model: type[KubeModel], content: str) -> JsonDict:
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"description": description, "content": {content: {"schema": schema}}}
