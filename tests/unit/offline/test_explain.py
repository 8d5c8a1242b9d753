"""A decision is explained in words, and made again from its record, to the byte."""

import base64
import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from mabeam.cli import app
from mabeam.core.coordination.config_maps import decision as record
from mabeam.core.passes import variable as coordination
from mabeam.core.snapshot import VariableSnapshot
from mabeam.offline import plan
from mabeam.offline.explain import as_text, explained, remake
from mabeam.offline.world import parse_now, read_world
from support.builders import START, agent_body, an_agent
from support.coordination import Team, a_variable, offering

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
WITH_VARIABLES = sorted(p.parent.name for p in GOLDEN.glob("*/world.yaml") if "OrchestrationVariable" in p.read_text())


def records_of(case: str) -> tuple[str, list[dict[str, Any]], list[dict[str, Any]]]:
    """The world's text; the bodies of the records that its plan writes; the variables as they are then."""
    text = (GOLDEN / case / "world.yaml").read_text()
    planned = plan.plan(read_world([(case, text)]), parse_now((GOLDEN / case / "now.txt").read_text().strip()))
    bodies = [write["body"] for write in planned["writes"] if write["reason"] == "record"]
    return text, bodies, planned["variables"]


def with_records(text: str, bodies: list[dict[str, Any]], statuses: Any) -> str:
    """The world after the pass: its variables with their statuses, and the records."""
    documents = [*bodies]
    for document in yaml.safe_load_all(text):
        place = f"{document['metadata'].get('namespace')}/{document['metadata']['name']}"
        if document["kind"] == "OrchestrationVariable" and place in statuses:
            documents.append(document | {"status": statuses[place]})
        elif document["kind"] == "Agent":
            documents.append(document)
    return yaml.safe_dump_all(documents)


@pytest.mark.parametrize("case", WITH_VARIABLES)
def test_every_decision_of_the_golden_worlds_is_made_again_to_the_byte(case: str) -> None:
    text, bodies, statuses = records_of(case)
    recorded = {body["metadata"]["labels"]["mabeam.dev/variable"] for body in bodies}
    statuses = {place: status for place, status in statuses.items() if place.rpartition("/")[2] in recorded}
    if not statuses:
        assert case == "conflict-priority"  # decided before this pass
        return
    result = CliRunner().invoke(app, ["replay", "-f", "-"], input=with_records(text, bodies, statuses))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.count(": the same ") == len(bodies)


@pytest.mark.parametrize("case", WITH_VARIABLES)
def test_every_decision_of_the_golden_worlds_is_explained(case: str) -> None:
    text, bodies, statuses = records_of(case)
    result = CliRunner().invoke(app, ["explain", "-f", "-"], input=with_records(text, bodies, statuses))
    assert (result.exit_code, result.stderr) == (0, "")
    for status in statuses.values():
        assert status["lastDecision"]["rule"] in result.stdout
        assert status["lastDecision"]["inputsHash"] in result.stdout


def test_an_explanation_names_who_was_weighed_and_who_was_not_taken() -> None:
    text, bodies, statuses = records_of("selection-ranked")
    world = read_world([("", with_records(text, bodies, statuses))])
    told = as_text(explained(world, "crew")[0])
    assert "decided   2026-01-01T00:05:00Z, round 1, by Ranked: 2 of 4 active: a, c" in told
    assert "recorded in full" in told
    assert [line.split()[:3] for line in told.splitlines() if line.startswith("            ")][:4] == [
        ["a", "0.9", "yes"],
        ["c", "0.7", "yes"],
        ["b", "0.4", "no"],
        ["d", "0.99", "no"],
    ]


def test_an_explanation_names_the_votes_and_the_conflicts() -> None:
    text, bodies, statuses = records_of("consensus-veto")
    told = CliRunner().invoke(app, ["explain", "-f", "-"], input=with_records(text, bodies, statuses)).stdout
    assert "vote      temperature-2 = 0.4: Rejected; c has a veto (Evaluator) and says No" in told
    assert "            a      Yes" in told
    world = (GOLDEN / "conflict-leader" / "world.yaml").read_text()
    documents = list(yaml.safe_load_all(world))
    planned = plan.plan(read_world([("", world)]), parse_now("2026-01-01T00:05:00Z"))
    for document in documents:
        if document["kind"] == "Agent":
            document["status"] = planned["agents"][f"team/{document['metadata']['name']}"]
        else:
            document["status"] = planned["variables"][f"team/{document['metadata']['name']}"]
    told = CliRunner().invoke(app, ["explain", "one", "-f", "-"], input=yaml.safe_dump_all(documents)).stdout
    assert "conflict  on a over pace: one before two; the leader b prefers variable one (weight 2)" in told


def test_an_explanation_as_json_holds_the_same() -> None:
    text, bodies, statuses = records_of("allocation-weighted")
    result = CliRunner().invoke(app, ["explain", "-o", "json", "-f", "-"], input=with_records(text, bodies, statuses))
    (one,) = json.loads(result.stdout)
    assert one["variable"] == "team/memory"
    assert one["inputs"]["record"] == "in full"
    assert [c["name"] for c in one["candidates"]][:2] == ["a: memory", "b: memory"]


def test_a_record_that_was_tampered_with_is_found_out() -> None:
    text, (body,), statuses = records_of("negotiation-weighted-mean")
    document = json.loads(body["data"]["decision.json"])
    document["inputs"]["agents"][0]["spec"]["preferences"][0]["value"] = 1.9
    body["data"]["decision.json"] = json.dumps(document)
    result = CliRunner().invoke(app, ["replay", "-f", "-"], input=with_records(text, [body], statuses))
    assert result.exit_code == 1
    assert "not the same" in result.stdout
    assert "value: recorded" in result.stdout


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({}, "it holds no decision"),
        ({"decision.json": "nonsense"}, "it holds no decision"),
        ({"decision.json": "[1]"}, "it is of a format that is not known here"),
        ({"decision.json": '{"format": 99}'}, "it is of a format that is not known here"),
        ({"decision.json": '{"format": 1}'}, "the inputs were too large to be kept"),
        ({"decision.json": '{"format": 1, "inputs": {"variable": 7}}'}, "its inputs cannot be read"),
        ({"decision.json.gz": "AAAA"}, "it holds no decision"),
    ],
)
def test_a_record_that_cannot_be_replayed_is_told_in_one_line(data: dict[str, str], told: str) -> None:
    text, (body,), statuses = records_of("negotiation-weighted-mean")
    body["data"] = data
    result = CliRunner().invoke(app, ["replay", "-f", "-"], input=with_records(text, [body], statuses))
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_variable_that_is_not_there_is_told_with_those_that_are() -> None:
    text, bodies, statuses = records_of("negotiation-weighted-mean")
    result = CliRunner().invoke(app, ["explain", "tmperature", "-f", "-"], input=with_records(text, bodies, statuses))
    assert result.exit_code == 2
    assert "no OrchestrationVariable tmperature in it; there are: temperature" in result.stderr


def a_large_snapshot(count: int) -> VariableSnapshot:
    variable = a_variable(agents=[], labels={}, negotiation={})
    return VariableSnapshot(variable, tuple(offering(f"a{i}", i % 7 / 7) for i in range(count)))


def test_a_large_record_is_compressed_and_replayed_all_the_same() -> None:
    (effect,) = coordination.decide(a_large_snapshot(300), START).effects_before_status
    assert set(effect.body["data"]) == {"decision.json.gz"}
    raw = gzip.decompress(base64.b64decode(effect.body["data"]["decision.json.gz"]))
    assert len(raw) > record.PLAIN_BYTES
    assert remake(record.read_record(effect.body["data"])).same


def test_a_record_of_too_many_agents_keeps_the_outcome_alone() -> None:
    (effect,) = coordination.decide(a_large_snapshot(record.MOST_AGENTS + 1), START).effects_before_status
    document = record.read_record(effect.body["data"])
    assert "inputs" not in document
    assert json.loads(document["outcome"])["round"] == 1


def test_a_variable_that_only_advises_keeps_no_record() -> None:
    variable = a_variable(mode="Advise", telemetry={"storageBackend": "ConfigMap"})
    assert coordination.decide(VariableSnapshot(variable, (an_agent("a"),)), START).effects_before_status == ()


def test_a_record_belongs_to_its_variable_and_is_written_once_per_decision() -> None:
    snapshot = VariableSnapshot(a_variable(), (an_agent("a"),))
    decision = coordination.decide(snapshot, START)
    (effect,) = decision.effects_before_status
    assert (effect.verb, effect.name, effect.reason) == ("create", "temperature-mabeam-decision", "record")
    (owner,) = effect.body["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("OrchestrationVariable", "temperature")
    after = snapshot.variable.model_copy(update={"status": decision.status})
    assert coordination.decide(replace(snapshot, variable=after), START).effects_before_status == ()


def test_a_team_that_votes_can_be_replayed_at_every_step() -> None:
    team = Team.of(
        {
            **a_variable(agents=["a", "b"]).model_dump(mode="json", by_alias=True, exclude_unset=True),
            "spec": {
                "agents": {"names": ["a", "b"]},
                "value": 0.2,
                "negotiation": {},
                "consensus": {"protocol": "Unanimous"},
            },
            "status": {"observedGeneration": -1},
        },
        agent_body("a", preferences=[{"variable": "temperature", "value": 0.6, "vote": "Yes"}]),
        agent_body("b", preferences=[{"variable": "temperature", "value": 0.8}]),
    )
    team.settle()
    written = [effect for effect in team.effects if effect.reason == "record"]
    assert written
    assert all(remake(record.read_record(effect.body["data"])).same for effect in written)
