"""docs/coordination.md: every manifest is valid and decides what the text under it says; its tables are the code's."""

import json
import re
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from mabeam.api.agent import Agent
from mabeam.api.directive import DirectiveAction
from mabeam.api.names import ConditionType, Reason
from mabeam.api.variable import CARRIERS, OrchestrationType, OrchestrationVariable
from mabeam.cli import app
from mabeam.core.algorithms.consensus import PROTOCOLS
from mabeam.core.algorithms.peer_graph import LARGEST_MESH
from mabeam.core.coordination.failure_budget import FAILURES
from mabeam.core.coordination.strategies.negotiation import AGGREGATIONS, PAYMENTS
from mabeam.core.coordination.strategies.negotiation import STRATEGIES as NEGOTIATIONS
from mabeam.core.coordination.strategies.rate import CURVES
from mabeam.core.coordination.strategies.topology import LARGEST_PREDICATE, MOST_EDGES
from mabeam.core.directives.conflicts import RESOLVERS
from support.rendered import ROOT

PAGE = (ROOT / "docs/coordination.md").read_text()
NOW = "2026-01-01T00:00:00Z"
KINDS = {"Agent": Agent, "OrchestrationVariable": OrchestrationVariable}
BLOCK = re.compile(r"^```yaml\n(.*?)^```\n(?:→ `([^`\n]+)` by (\w+)\n)?", flags=re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(PAGE)
TEAM = BLOCKS[0][0]
VARIABLES = {yaml.safe_load(text)["metadata"]["name"]: (text, value, rule) for text, value, rule in BLOCKS[1:]}


def planned(*texts: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["plan", "-f", "-", "--now", NOW, "-o", "json"], input="---\n".join(texts))
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def section(heading: str) -> str:
    found = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert found, heading
    return found


def table(text: str, header: str) -> list[list[str]]:
    """The cells of the table with that header."""
    _, there, rest = text.partition(f"{header}\n")
    assert there, header
    lines = rest.split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]


def first_cells(text: str, header: str) -> list[str]:
    return [row[0].strip("`") for row in table(text, header)]


# --- the manifests ----------------------------------------------------------------------------------------------------


def test_there_is_a_team_and_a_manifest_for_each_type() -> None:
    assert {d["kind"] for d in yaml.safe_load_all(TEAM)} == {"Agent"}
    types = {yaml.safe_load(text)["spec"]["type"] for text, _, _ in VARIABLES.values()}
    assert types == {str(kind) for kind in OrchestrationType}
    assert len(VARIABLES) == len(BLOCKS) - 1


@pytest.mark.parametrize("text", [block[0] for block in BLOCKS])
def test_a_manifest_is_valid_and_says_nothing_that_is_lost(text: str) -> None:
    for document in yaml.safe_load_all(text):
        parsed = KINDS[document["kind"]].model_validate(document)
        assert parsed.to_wire(stored=True)["spec"].keys() == document["spec"].keys()


@pytest.mark.parametrize("name", VARIABLES)
def test_a_manifest_decides_what_is_written_under_it(name: str) -> None:
    text, value, rule = VARIABLES[name]
    assert value, f"nothing is said under {name}"
    status = planned(TEAM, text)["variables"][f"default/{name}"]
    assert (status["value"], status["lastDecision"]["rule"]) == (json.loads(value), rule)


@pytest.mark.parametrize("name", VARIABLES)
def test_a_manifest_has_no_fault(name: str) -> None:
    result = CliRunner().invoke(app, ["lint", "-f", "-"], input=f"{TEAM}---\n{VARIABLES[name][0]}")
    assert (result.exit_code, "error" in result.output) == (0, False), result.output


def test_all_manifests_of_the_page_live_together() -> None:
    found = planned(TEAM, *(text for text, _, _ in VARIABLES.values()))
    accepted = {
        name: next(c["status"] for c in status["conditions"] if c["type"] == "Accepted")
        for name, status in found["variables"].items()
    }
    assert set(accepted.values()) == {"True"}
    assert {name.partition("/")[2] for name in accepted} == set(VARIABLES)


# --- what is said about them ------------------------------------------------------------------------------------------


def test_the_auction_is_won_and_paid_as_the_page_says() -> None:
    session = planned(TEAM, VARIABLES["model"][0])["variables"]["default/model"]["negotiation"]
    assert (session["winner"], session["payment"]) == ("planner", 2)


def test_the_vote_is_won_as_the_page_says() -> None:
    vote = planned(TEAM, VARIABLES["pace"][0])["variables"]["default/pace"]["consensus"]
    assert (vote["proposal"], vote["outcome"]) == ("pace-1", "Accepted")
    assert [ballot["choice"] for ballot in vote["votes"]] == ["Yes", "Yes", "No"]


OFFERS = (0.1, 0.5, 0.6, 2.0)


@pytest.mark.parametrize("row", table(PAGE, "| `aggregation` | | of 0.1, 0.5, 0.6, 2.0, all of weight 1 |"))
def test_the_example_of_an_aggregation_is_what_it_comes_to(row: list[str]) -> None:
    agents = [
        f"{{apiVersion: mabeam.dev/v1alpha1, kind: Agent, metadata: {{name: a{i}}},"
        f" spec: {{module: 'x:Y', preferences: [{{variable: v, value: {value}}}]}}}}\n"
        for i, value in enumerate(OFFERS)
    ]
    names = ", ".join(f"a{i}" for i in range(len(OFFERS)))
    variable = (
        "{apiVersion: mabeam.dev/v1alpha1, kind: OrchestrationVariable, metadata: {name: v},"
        f" spec: {{agents: {{names: [{names}]}}, negotiation: {{aggregation: {row[0]}}}}}}}\n"
    )
    assert planned(*agents, variable)["variables"]["default/v"]["value"] == float(row[2])


@pytest.mark.parametrize("resolver", RESOLVERS)
def test_the_example_of_a_conflict_is_what_the_resolver_comes_to(resolver: str) -> None:
    variables = [
        f"{{apiVersion: mabeam.dev/v1alpha1, kind: OrchestrationVariable, metadata: {{name: {name}}},"
        f" spec: {{agents: {{names: [a]}}, parameter: pace, priority: {priority}, value: {value}}},"
        f" status: {{observedGeneration: 1, value: {value}}}}}\n"
        for name, priority, value in (("low", 1, 0.2), ("high", 3, 0.6))
    ]
    agent = (
        "{apiVersion: mabeam.dev/v1alpha1, kind: Agent, metadata: {name: a}, spec: {module: 'x:Y',"
        f" conflictResolution: {resolver}, preferences: [{{variable: low, weight: 2}}]}},"
        " status: {observedGeneration: 1, state: Running, readyReplicas: 1}}\n"
    )
    found = planned(agent, *variables)
    (document,) = [w["body"]["data"]["directives.json"] for w in found["writes"] if w["name"] == "a-mabeam"]
    pace = json.loads(document)["parameters"]["pace"]
    told = next(row[2] for row in table(section("Conflicts"), "| resolver | rule | `pace` |") if row[0] == resolver)
    assert re.search(rf"(^|= ){re.escape(str(pace))}\b", told), (pace, told)
    if resolver == "PriorityBased":
        (conflict,) = found["agents"]["default/a"]["directives"]["conflicts"]
        assert f'"{conflict["message"]}"' in section("Conflicts")


# --- the tables -------------------------------------------------------------------------------------------------------


def test_the_table_of_blocks_is_the_codes() -> None:
    head, *rest = PAGE.partition("| block |")[2].splitlines()
    types = [cell.strip() for cell in head.strip("| ").split("|")]
    assert types == [str(kind) for kind in OrchestrationType]
    rows = {}
    for line in rest[1 : rest.index("")]:
        block, *cells = [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
        rows[re.sub(r"([A-Z])", r"_\1", block.strip("`")).lower()] = [
            kind for kind, cell in zip(types, cells, strict=True) if cell == "yes"
        ]
    assert rows == {block: [t for t in types if t in kinds] for block, kinds in CARRIERS.items()}


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("| type | the value | the directives |", list(OrchestrationType)),
        ("| action | parameters | what it does | confirmed by | refused when |", list(DirectiveAction)),
        ("| `schedule.type` | share *s* of the way, from 0 to 1 |", list(CURVES)),
        ("| resolver | rule | `pace` |", [*RESOLVERS, "any other name"]),
        ("| `protocol` | passes when |", [*PROTOCOLS, "any other name"]),
        ("| `aggregation` | | of 0.1, 0.5, 0.6, 2.0, all of weight 1 |", list(AGGREGATIONS)),
        ("| strategy | of numbers | of choices and objects | weight 0 for all |", list(NEGOTIATIONS)),
    ],
)
def test_a_table_has_a_row_for_each_word(header: str, words: list[str]) -> None:
    assert sorted(first_cells(PAGE, header)) == sorted(map(str, words))


def test_both_payments_are_told() -> None:
    assert all(f"`{payment}`" in section("Negotiation") for payment in PAYMENTS)


def test_every_condition_and_reason_that_is_told_exists_and_every_failure_is_told() -> None:
    text = section("Reading a variable")
    known = {str(reason) for reason in Reason}
    conditions = first_cells(text, "| condition | true when |")
    assert set(conditions) <= {str(kind) for kind in ConditionType}
    reasons = {word for cell in first_cells(text, "| reason of Ready | what it means | |") for word in cell.split(", ")}
    events = {word for cell in first_cells(text, "| Event | |") for word in cell.split(", ")}
    assert reasons | events <= known
    assert set(map(str, FAILURES)) <= reasons


def test_the_bounds_are_the_codes() -> None:
    rows = {row[0]: row[1] for row in table(PAGE, "| | at most | beyond it |")}
    assert rows["agents in a Mesh"] == str(LARGEST_MESH)
    assert rows["agents for a predicate"] == str(LARGEST_PREDICATE)
    assert rows["edges that a predicate finds"] == str(MOST_EDGES)
