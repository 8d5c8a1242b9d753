"""Generation of the CRDs: model → structural schema → CustomResourceDefinition.

A structural schema (KEP-20190425) has no `$ref`, no `const`, no unions of shapes and no numeric `exclusiveMinimum`. The API
server can estimate the cost of CEL only when every string, list and map is bounded, so an unbounded field is an error here.
"""

import re
from typing import Any, Final, get_args

from pydantic import BaseModel

from mabeam.api.agent import Agent
from mabeam.api.base import CRD_DEFAULT, JsonDict, KubeModel
from mabeam.api.names import CATEGORY, GROUP, VERSION
from mabeam.api.supervisor import Supervisor
from mabeam.api.variable import OrchestrationVariable

# `kubectl apply` stores the whole object in one annotation; this is the largest annotation, in bytes.
MAX_CRD_BYTES: Final = 262_144

_KEPT = (
    "type", "format", "pattern", "enum", "minimum", "maximum", "maxLength", "minLength", "maxItems", "minItems",
    "maxProperties", "description", "anyOf",
)  # fmt: skip
_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_INT_OR_STRING = "x-kubernetes-int-or-string"

AGENT_COLUMNS: Final = (
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
    ("State", "string", ".status.state", 0),
    ("Role", "string", ".status.role", 0),
    ("Restarts", "integer", ".status.restarts", 0),
    ("Strategy", "string", ".spec.restartStrategy", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Node", "string", ".status.pods[0].node", 1),
    ("Pod", "string", ".status.pods[0].name", 1),
    ("Message", "string", '.status.conditions[?(@.type=="Ready")].message', 1),
)
VARIABLE_COLUMNS: Final = (
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
    ("Type", "string", ".spec.type", 0),
    ("Value", "string", ".status.valueInForce", 0),
    ("Strategy", "string", ".status.negotiation.strategy", 0),
    ("Agents", "integer", ".status.agents.selected", 0),
    ("Acked", "integer", ".status.directives.agentsAcknowledged", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Round", "integer", ".status.round", 1),
    ("Message", "string", '.status.conditions[?(@.type=="Ready")].message', 1),
)


SUPERVISOR_COLUMNS: Final = (
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
    ("State", "string", ".status.state", 0),
    ("Strategy", "string", ".spec.strategy", 0),
    ("Restarts", "integer", ".status.totalRestarts", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Worst-Case", "integer", ".status.worstCaseRestarts", 1),
    ("Message", "string", '.status.conditions[?(@.type=="Ready")].message', 1),
)


class NotStructural(ValueError):
    """A model cannot be expressed as a bounded structural schema; the message names the field."""


def structural_schema(model: type[BaseModel]) -> JsonDict:
    """The OpenAPI v3 structural schema of `model`, every list, map, string and number bounded; raises `NotStructural`."""
    document = model.model_json_schema(by_alias=True, mode="validation")
    if "metadata" in document["properties"]:  # validated by the API server; a CRD may only declare it an object
        document["properties"] |= {key: {"type": "string", "maxLength": 63} for key in ("apiVersion", "kind")}
        document["properties"]["metadata"] = {"type": "object", _PRESERVE: True}
    models = {found.__name__: found for found in _models_of(model)}
    return _convert(document, document.get("$defs", {}), models, model.__name__)


def _models_of(model: type[BaseModel]) -> set[type[BaseModel]]:
    found = {model}

    def walk(annotation: Any) -> None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            if annotation not in found:
                found.update(_models_of(annotation))
            return
        for inner in get_args(annotation):
            walk(inner)

    for field in model.model_fields.values():
        walk(field.annotation)
    return found


def _convert(node: JsonDict, defs: dict[str, JsonDict], models: dict[str, type[BaseModel]], path: str) -> JsonDict:
    extras = {key: value for key, value in node.items() if key.startswith("x-kubernetes-")}
    crd_default = node["default"] if node.get(CRD_DEFAULT) else None
    described = node.get("description")
    model: type[BaseModel] | None = None
    node = _without_null(node, path)
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        model = models.get(name)
        node = defs[name]
        node = _without_null(node, path)
    elif path in models:
        model = models[path]
    schema: JsonDict = {key: node[key] for key in _KEPT if key in node}
    schema |= {key: value for key, value in node.items() if key.startswith("x-kubernetes-")} | extras
    if "const" in node:
        schema["enum"] = [node["const"]]
    if described:
        schema["description"] = described
    if schema.get("description"):
        schema["description"] = " ".join(schema["description"].split())
    if schema.get("type") == "object" and "properties" in node:
        schema["properties"] = {
            key: _convert(child, defs, models, f"{path}.{key}") for key, child in sorted(node["properties"].items())
        }
        if node.get("required"):
            schema["required"] = sorted(node["required"])
    elif schema.get("type") == "object" and not schema.get(_PRESERVE):
        schema["additionalProperties"] = _convert(node.get("additionalProperties") or {}, defs, models, f"{path}.*")
    if "items" in node:
        schema["items"] = _convert(node["items"], defs, models, f"{path}[]")
    if model is not None and issubclass(model, KubeModel):
        validations = [{"rule": rule.cel, "message": rule.message} for rule in model.rules if rule.cel]
        if validations:
            schema["x-kubernetes-validations"] = validations
            _check_rules(schema, path)
    if crd_default is not None:
        schema["default"] = crd_default
    _check(schema, path)
    return schema


def _without_null(node: JsonDict, path: str) -> JsonDict:
    if "anyOf" not in node or node.get(_INT_OR_STRING):
        return node
    branches: list[JsonDict] = [branch for branch in node["anyOf"] if branch.get("type") != "null"]
    if len(branches) != 1:
        raise NotStructural(f"{path}: a union of shapes is not structural")
    rest: JsonDict = {key: value for key, value in node.items() if key != "anyOf"}
    return rest | branches[0]


def _check(schema: JsonDict, path: str) -> None:
    kind = schema.get("type")
    bounded = {
        "string": "maxLength" in schema or "enum" in schema or schema.get("format") == "date-time",
        "array": "maxItems" in schema,
        "integer": "minimum" in schema and "maximum" in schema,
        "number": "minimum" in schema and "maximum" in schema,
        "object": "properties" in schema or bool(schema.get(_PRESERVE)) or "maxProperties" in schema,
        "boolean": True,
        None: bool(schema.get(_PRESERVE) or schema.get(_INT_OR_STRING)),
    }
    if not bounded.get(kind, False):
        raise NotStructural(f"{path}: a {kind or 'thing without a type'} must be bounded")
    if kind == "array" and "x-kubernetes-list-type" not in schema:
        schema["x-kubernetes-list-type"] = "atomic"


def _check_rules(schema: JsonDict, path: str) -> None:
    """Raise when a rule names a field without a type: CEL does not see it, and the API server refuses the CRD."""
    blind = {key for key, child in schema.get("properties", {}).items() if "type" not in child}
    blind -= {key for key in blind if schema["properties"][key].get(_INT_OR_STRING)}
    for validation in schema["x-kubernetes-validations"]:
        named = blind.intersection(re.findall(r"\bself\.(\w+)", validation["rule"]))
        if named:
            raise NotStructural(f"{path}: CEL cannot see `{min(named)}`, a field of any type: {validation['rule']}")


def custom_resource_definition(
    model: type[BaseModel],
    *,
    plural: str,
    short_name: str,
    columns: tuple[tuple[str, str, str, int], ...],
    scale: bool = False,
) -> JsonDict:
    """The CustomResourceDefinition document of a kind, ready to be dumped; raises `NotStructural`."""
    kind = model.__name__
    root = structural_schema(model)
    properties = root["properties"]
    properties["apiVersion"] = {"type": "string"}
    properties["kind"] = {"type": "string"}
    properties["metadata"] = {"type": "object"}
    # -1 until the operator has seen the object; otherwise kstatus, Helm and Argo CD take a new object for a reconciled one.
    properties["status"]["properties"]["observedGeneration"]["default"] = -1
    properties["status"]["default"] = {"observedGeneration": -1}
    root["required"] = ["spec"]
    subresources: JsonDict = {"status": {}}
    if scale:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "categories": [CATEGORY],
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "shortNames": [short_name],
                "singular": kind.lower(),
            },
            "conversion": {"strategy": "None"},  # as the API server defaults it, so that applied equals live
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": subresources,
                    "additionalPrinterColumns": [
                        {"name": name, "type": type_, "jsonPath": path} | ({"priority": priority} if priority else {})
                        for name, type_, path, priority in columns
                    ],
                    "schema": {"openAPIV3Schema": root},
                }
            ],
        },
    }


def all_definitions() -> tuple[JsonDict, ...]:
    """Every CRD of the project, in the order of installation."""
    return (
        custom_resource_definition(Agent, plural="agents", short_name="mba", columns=AGENT_COLUMNS, scale=True),
        custom_resource_definition(
            OrchestrationVariable, plural="orchestrationvariables", short_name="mov", columns=VARIABLE_COLUMNS
        ),
        custom_resource_definition(Supervisor, plural="supervisors", short_name="msup", columns=SUPERVISOR_COLUMNS),
    )
