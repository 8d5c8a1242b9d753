"""The OpenAPI 3.1 document of `/v1`, generated from the records of `rest.py`."""

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
    "description": "Only objects of this namespace.",
    "schema": {"type": "string"},
}
_LIMIT: Final[JsonDict] = {
    "name": "limit",
    "in": "query",
    "description": "The largest number of items on a page.",
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
}
_CONTINUE: Final[JsonDict] = {
    "name": "continue",
    "in": "query",
    "description": "The `continue` of the previous page.",
    "schema": {"type": "string"},
}
_PATH: Final = [
    {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in ("namespace", "name")
]
LIST_QUERY: Final = (_NAMESPACE, _LIMIT, _CONTINUE)
STATUS_QUERY: Final = (_NAMESPACE,)

# (path, model of the answer, query parameters, summary)
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
    """The document; one shared object, not to be changed."""
    models: list[tuple[type[KubeModel], Any]] = [(model, "serialization") for _, model, _, _ in OPERATIONS]
    _, schemas = models_json_schema(
        [*models, (Problem, "serialization")], by_alias=True, ref_template="#/components/schemas/{model}"
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "MABEAM on Kubernetes",
            "version": __version__,
            "summary": "Agents and variables as the operator knows them; read-only.",
        },
        "paths": {path: {"get": _operation(model, query, text)} for path, model, query, text in OPERATIONS},
        "components": {"schemas": schemas["$defs"]},
    }


def _operation(model: type[KubeModel], query: tuple[JsonDict, ...], summary: str) -> JsonDict:
    one = model in (AgentInfo, VariableInfo)
    responses = {
        200: _answer(summary, model, "application/json"),
        503: _problem("The operator has not listed the objects yet."),
    }
    if query:
        responses[400] = _problem("A query parameter is unknown or has a value that is not allowed.")
    if one:
        responses[404] = _problem("There is no object of that name.")
    return {
        "operationId": f"get{model.__name__}",
        "summary": summary,
        "parameters": [*(_PATH if one else ()), *query],
        "responses": {str(code): responses[code] for code in sorted(responses)},
    }


def _problem(description: str) -> JsonDict:
    return _answer(description, Problem, "application/problem+json")


def _answer(description: str, model: type[KubeModel], content: str) -> JsonDict:
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"description": description, "content": {content: {"schema": schema}}}
