"""How hard the properties are tried: `HYPOTHESIS_PROFILE=full` takes its time, the default is quick and repeatable."""

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("fast", max_examples=40, deadline=None, derandomize=True, database=None)
settings.register_profile(
    "full", max_examples=100_000, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="Write what `mabeam plan` says now into tests/golden."
    )


# Whole files go to a process each; one of these that began last would keep the others waiting.
LONGEST = ("test_campaigns.py", "test_simulation.py", "test_matrix.py", "test_endings.py", "test_coordination.py")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; last what installs an operator for the whole cluster: it would act on everybody's agents."""

    def turn(item: pytest.Item) -> tuple[bool, bool, int]:
        name = item.path.name
        place = LONGEST.index(name) if name in LONGEST else len(LONGEST)
        return item.get_closest_marker("alone") is not None, "e2e" in item.path.parts, place

    items.sort(key=turn)
