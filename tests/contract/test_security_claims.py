"""docs/security.md: every claim names a test, every named test exists, every figure is the code's."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from mabeam.api.variable import Negotiation
from mabeam.core.reports import report as report
from mabeam.shell.kube.rbac import LEASE_RULES, NODE_RULES, WORKLOAD_RULES
from mabeam.shell.reports import prometheus
from mabeam.shell.reports import reader as reading
from support.rendered import ROOT

PAGE = (ROOT / "docs/security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


def rows(heading: str, columns: str) -> list[list[str]]:
    """The cells of the tables with that header under that heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    tables = section.split(f"| {columns} |\n")[1:]
    lines = [line for table in tables for line in table.split("\n\n")[0].splitlines()[1:]]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@cache
def functions_of(path: Path) -> frozenset[str]:
    return frozenset(n.name for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef))


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_a_test_that_is_named_exists(file: str, test: str) -> None:
    assert test in functions_of(ROOT / file)


def test_every_claim_names_its_test() -> None:
    headers = re.findall(r"^\| (.+ \| held by) \|$", PAGE, flags=re.MULTILINE)
    claims = [
        cells
        for heading in re.findall(r"^## (.+)$", PAGE, flags=re.MULTILINE)
        for columns in sorted(set(headers))
        for cells in rows(heading, columns)
    ]
    assert len(claims) > 40
    assert [cells for cells in claims if not re.search(r"`tests/[\w/]+\.py::\w+`", cells[-1])] == []


def test_every_bound_of_a_report_is_the_codes() -> None:
    told = {cells[0]: cells[1] for cells in rows("Reports", "bound | value | held by") if cells[0]}
    assert report.MAX_BYTES == reading.MAX_BYTES
    assert told["size"].startswith(f"{reading.MAX_BYTES // 1024} KiB")
    assert told["time"] == f"{reading.TIMEOUT.total:.0f} s in all"
    assert told["concurrent reads"].startswith(f"{reading.CONCURRENCY};")
    assert told["series"].startswith(f"{report.MAX_SERIES} ")
    assert told["problems kept"] == f"{report.MAX_PROBLEMS} of {report.MAX_PROBLEM_LENGTH} characters"
    caps = Negotiation()
    assert f"(`maxWeight` {caps.max_weight:g}, `maxBid` {caps.max_bid:g})" in told["influence"]


def test_every_bound_of_prometheus_is_the_codes() -> None:
    told = {cells[0]: cells[1] for cells in rows("Prometheus", "bound | value | held by")}
    assert told["size"].startswith(f"{prometheus.MAX_BYTES / 2**20:.0f} MiB;")
    assert told["time"] == f"{prometheus.TIMEOUT.total:.0f} s in all"
    assert told["concurrent queries"].startswith(f"{prometheus.CONCURRENCY};")
    assert (told["how often"][:13], prometheus.MIN_QUERY_SECONDS) == ("once a second", 1)
    assert told["series"].startswith(f"{report.MAX_SERIES} ")
    assert prometheus.Prometheus() == prometheus.Prometheus(url="", token_file="", any_query=False)


def test_the_table_of_rights_is_the_codes() -> None:
    told = rows("Rights", "what | verbs | where")
    verbs = [cells[1].split(", ") for cells in told]
    rules = [*WORKLOAD_RULES, *NODE_RULES, *LEASE_RULES]
    assert sorted({tuple(rule.verbs) for rule in rules}) == sorted({tuple(sorted(v)) for v in verbs})
    for rule in rules:
        for resource in rule.resources:
            if not resource.endswith("/status"):
                assert any(resource in cells[0] and list(rule.verbs) == sorted(cells[1].split(", ")) for cells in told)


def test_every_link_inside_the_page_leads_somewhere() -> None:
    headings = re.findall(r"^## (.+)$", PAGE, flags=re.MULTILINE)
    places = {re.sub(r"[^a-z -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= places
