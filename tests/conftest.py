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


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Last of all what installs an operator for the whole cluster: it lives to the end, and would act on everybody's agents."""
    items.sort(key=lambda item: "e2e" in item.path.parts)
