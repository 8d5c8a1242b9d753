"""What the package promises of itself: module sizes, tables that cover their enums, generated files. Names: test_names.py."""

import ast
import importlib
import json
import operator
import pkgutil
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import mabeam
import mabeam.core
from mabeam.api.agent_status import FailureCause
from mabeam.api.crd import MAX_CRD_BYTES, all_definitions
from mabeam.api.directive import DirectiveAction
from mabeam.api.names import Reason
from mabeam.cli import dump_yaml
from mabeam.core.algorithms.otp import ExitAction

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "operator"
MODULES = sorted((SOURCES / "mabeam").rglob("*.py"))
MAX_LINES = 400


def test_the_source_root_is_no_package_so_that_the_standard_librarys_operator_stays_importable() -> None:
    assert not (SOURCES / "__init__.py").exists()
    assert operator.__file__ is not None
    assert Path(operator.__file__).resolve().parent == Path(json.__file__).resolve().parents[1]
    assert str(SOURCES) in {str(Path(entry).resolve()) for entry in sys.path}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(SOURCES)))
def test_every_module_says_what_it_is_for_and_is_short_enough_to_be_read(module: Path) -> None:
    text = module.read_text()
    if module.parent.name != "api":  # the words are one declaration after the other, and belong together
        assert len(text.splitlines()) <= MAX_LINES
    assert not text or text.startswith('"""'), "a module begins with a sentence on what it is for"


def test_what_is_imported_with_a_module_is_the_standard_library_or_a_dependency_of_every_installation() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {re.split(r"[^A-Za-z0-9-]", line)[0].replace("-", "_").lower() for line in project["dependencies"]}
    # pyyaml is imported as yaml; pydantic_core and yarl are a part of the interfaces of pydantic and aiohttp
    allowed = sys.stdlib_module_names | {"mabeam", "yaml", "pydantic_core", "yarl"} | named
    imported = {
        f"{path.relative_to(SOURCES)}: {name}"
        for path in MODULES
        for node in ast.parse(path.read_text()).body
        for name in _imported(node)
        if name.partition(".")[0] not in allowed
    }
    assert imported == set(), "an optional library is imported where it is used, or under TYPE_CHECKING"


def _imported(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module


# --- tables -------------------------------------------------------------------------------------------------------------

# What a table may leave out, and why.
LEFT_OUT: dict[str, set[Enum]] = {
    # an exit code speaks for itself
    "pods.lifecycle.CAUSE_DESCRIPTIONS": {FailureCause.NORMAL_EXIT},
    # these are confirmed by the process itself
    "directives.confirmation.CONFIRMATIONS": {
        DirectiveAction.CHANGE_ROLE,
        DirectiveAction.UPDATE_COMMUNICATION,
        DirectiveAction.ADJUST_PARAMETERS,
        DirectiveAction.ACTIVATE,
    },
    # any other directive has the priority of its variable
    "directives.effective.DEFAULT_PRIORITY": set(DirectiveAction) - {DirectiveAction.ALLOCATE_RESOURCES},
    # the operator has no reason to refuse the others
    "directives.validity.VALIDATORS": {
        DirectiveAction.START,
        DirectiveAction.STOP,
        DirectiveAction.RECONFIGURE,
        DirectiveAction.MIGRATE,
        DirectiveAction.ADJUST_PARAMETERS,
    },
    # every other directive has the one default (docs/coordination.md, "The eleven actions")
    "directives.effective.DEFAULT_TIMEOUT_SECONDS": set(DirectiveAction) - {DirectiveAction.ALLOCATE_RESOURCES},
    # these two lead to a restart, not to rest
    "supervision.exits.RESTING": {ExitAction.RESTART, ExitAction.REPLACE},
}


def modules_of(package: ModuleType) -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        yield importlib.import_module(found.name)


def tables() -> dict[str, Mapping[Any, Any]]:
    """Every public table of the core that is keyed by an enum, where it is defined."""
    found = {}
    for module in modules_of(mabeam.core):
        for name, value in vars(module).items():
            if f"\n{name}: Final" in _source(module) and not name.startswith("_") and _is_table(value):
                found[f"{module.__name__.removeprefix('mabeam.core.')}.{name}"] = value
    return found


def _is_table(value: object) -> bool:
    if not isinstance(value, Mapping) or not value:
        return False
    # Reasons are words for everything: no table is about all of them.
    return all(isinstance(key, Enum) and not isinstance(key, Reason) for key in value)


def _source(module: ModuleType) -> str:
    assert module.__file__ is not None
    return Path(module.__file__).read_text()


def test_there_are_tables_to_look_at() -> None:
    assert {
        "supervision.exits.RESTING",
        "coordination.strategies.table.STRATEGIES",
        "coordination.strategies.negotiation.AGGREGATIONS",
    } <= set(tables())
    assert set(LEFT_OUT) <= set(tables())


@pytest.mark.parametrize("name", sorted(tables()))
def test_every_table_covers_its_enum(name: str) -> None:
    table = tables()[name]
    enum = type(next(iter(table)))
    assert set(table) == set(enum) - LEFT_OUT.get(name, set())


# --- generated files ------------------------------------------------------------------------------------------------------

DEFINITIONS = {definition["metadata"]["name"]: definition for definition in all_definitions()}


def test_every_crd_is_on_disk_and_nothing_else_is() -> None:
    assert {path.stem for path in (ROOT / "crds").glob("*.yaml")} - {"kustomization"} == set(DEFINITIONS)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_every_crd_on_disk_is_the_one_the_models_make(name: str) -> None:
    assert (ROOT / "crds" / f"{name}.yaml").read_text() == dump_yaml(DEFINITIONS[name])


@pytest.mark.parametrize("name", DEFINITIONS)
def test_every_crd_fits_into_the_annotation_that_kubectl_apply_keeps(name: str) -> None:
    assert len(json.dumps(DEFINITIONS[name])) < MAX_CRD_BYTES
    assert len((ROOT / "crds" / f"{name}.yaml").read_bytes()) < MAX_CRD_BYTES
    assert MAX_CRD_BYTES == 262_144
