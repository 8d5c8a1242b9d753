"""Where the test of a module is: in the folder that mirrors its own, under its name, or where the one table below says."""

from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
SOURCES = TESTS.parent / "operator/mabeam"
MODULES = sorted(
    str(path.relative_to(SOURCES))
    for room in ("core", "state")
    for path in (SOURCES / room).rglob("*.py")
    if path.stem != "__init__"
)
# Module → where it is tested, when that is not in a file of its name.
TESTED_IN: dict[str, str] = {
    "core/algorithms/consensus.py": "properties/test_consensus.py",
    "core/algorithms/fair_division.py": "properties/test_division.py",
    "core/algorithms/peer_graph.py": "properties/test_topology.py",
    "core/conventions/hashing.py": "unit/core/pods/test_body.py",
    "core/coordination/config_maps/decision.py": "unit/offline/test_explain.py",
    "core/coordination/config_maps/write.py": "unit/core/passes/test_variable.py",
    "core/coordination/round_record.py": "unit/core/coordination/test_rounds.py",
    "core/coordination/strategies/table.py": "unit/core/passes/test_variable.py",
    "core/coordination/working_set.py": "unit/core/passes/test_variable.py",
    "core/decision.py": "unit/core/passes/test_agent.py",
    "core/directives/suspension.py": "unit/core/directives/test_effective.py",
    "core/directives/working_set.py": "unit/core/directives/test_delivery.py",
    "core/functions.py": "unit/shell/functions/test_scheduler.py",
    "core/snapshot.py": "properties/test_supervision_invariants.py",
    "core/supervision/summary.py": "unit/core/supervision/test_status.py",
    "core/supervision/working_set.py": "unit/core/supervision/test_records.py",
    "core/tree/status.py": "unit/core/passes/test_supervisor.py",
    "core/tree/working_set.py": "unit/core/passes/test_supervisor.py",
    "state/capacity.py": "unit/shell/telemetry/test_usage.py",
}


@pytest.mark.parametrize("module", MODULES)
def test_every_module_of_the_core_and_the_state_has_its_tests_where_one_looks_for_them(module: str) -> None:
    own = TESTS / "unit" / Path(module).parent / f"test_{Path(module).name}"
    assert own.is_file() or (TESTS / TESTED_IN[module]).is_file()


def test_the_table_names_only_modules_without_a_test_file_of_their_own() -> None:
    assert [m for m in TESTED_IN if (TESTS / "unit" / Path(m).parent / f"test_{Path(m).name}").is_file()] == []
    assert set(TESTED_IN) <= set(MODULES)


def test_every_folder_of_unit_tests_mirrors_a_package_or_the_tests_own_support() -> None:
    folders = {path.parent.relative_to(TESTS / "unit") for path in (TESTS / "unit").rglob("test_*.py")}
    assert [str(one) for one in folders if not (SOURCES / one).is_dir()] == ["support"]
