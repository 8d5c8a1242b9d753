"""`mabeam plan` in the hands of a stranger: odd worlds get a plan or one line that says what is wrong, never a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mabeam.api.agent import AgentSpec
from mabeam.cli import app

AGENT = """
apiVersion: mabeam.dev/v1alpha1
kind: Agent
metadata: {name: a, namespace: team}
spec: {module: "team.work:Worker"}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: a-0-1, namespace: team}
status: {phase: Running}
"""
REPORT = """
apiVersion: mabeam.dev/plan
kind: Report
metadata: {name: a, namespace: team}
openmetrics: "mabeam_performance 1\\n"
"""
NOW = "2026-01-01T00:01:00Z"


def run(text: str | bytes, *arguments: str, now: str = NOW) -> Result:
    return CliRunner().invoke(app, ["plan", "-f", "-", "--now", now, "-o", "json", *arguments], input=text)


def planned(text: str) -> dict[str, Any]:
    result = run(text)
    assert (result.exit_code, result.stderr) == (0, "")
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def refused(text: str | bytes, **options: Any) -> str:
    result = run(text, **options)
    assert isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code, result.stdout) == (2, "")
    line, *rest = result.stderr.splitlines()
    assert rest == []
    assert line.startswith("mabeam plan: ")
    return line.removeprefix("mabeam plan: ")


def world(*documents: str) -> str:
    return "\n---\n".join(documents)


def agent(**parts: str) -> str:
    """AGENT with lines replaced: `agent(spec="spec: {…}")`."""
    lines = AGENT.strip().splitlines()
    for key, line in parts.items():
        lines = [line if old.startswith(f"{key}:") else old for old in lines] + (
            [] if any(old.startswith(f"{key}:") for old in lines) else [line]
        )
    return "\n".join(lines)


SPEC_FIELDS = sorted(str(field.alias) for field in AgentSpec.model_fields.values())
VARIABLE_OF_A = "apiVersion: mabeam.dev/v1alpha1\nkind: OrchestrationVariable\nmetadata: {name: v}\n"


# --- what is taken as it comes ----------------------------------------------------------------------------------------


def test_an_agent_that_was_never_stored_is_planned_from_scratch() -> None:
    plan = planned(AGENT)
    assert plan["agents"]["team/a"]["pods"][0]["name"] == "a-0-1"
    assert [write["verb"] for write in plan["writes"]] == ["patch-status"]


def test_the_same_objects_in_a_list_of_kubectl_plan_the_same() -> None:
    items = "\n".join("- " + "\n  ".join(document.strip().splitlines()) for document in (AGENT, POD))
    listed = f"apiVersion: v1\nkind: List\nmetadata: {{resourceVersion: ''}}\nitems:\n{items}\n"
    assert planned(listed) == planned(world(AGENT, POD))


def test_times_need_no_quotes() -> None:
    status = "status: {observedGeneration: 1, failures: [{time: %s, ordinal: 0, cause: Crash}]}"
    bare, quoted = (planned(agent(status=status % text)) for text in ("2026-01-01T00:00:00Z", '"2026-01-01T00:00:00Z"'))
    assert bare == quoted
    assert bare["agents"]["team/a"]["failures"][0]["time"] == "2026-01-01T00:00:00Z"


def test_a_time_without_an_offset_is_utc_wherever_the_plan_is_made() -> None:
    text = POD.replace(
        "status: {phase: Running}",
        "status: {phase: Failed, containerStatuses: [{name: agent, state: {terminated: "
        "{exitCode: 1, finishedAt: '2026-01-01T00:00:30'}}}]}",
    )
    environment = {**os.environ, "TZ": "Asia/Tokyo", "PYTHONPATH": str(Path(__file__).parents[3] / "operator")}
    answer = subprocess.run(
        [sys.executable, "-m", "mabeam", "plan", "-f", "-", "--now", "2026-01-01T00:01:00", "-o", "json"],
        input=world(AGENT, text), env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    failure = json.loads(answer.stdout)["agents"]["team/a"]["failures"][0]
    assert failure["time"] == "2026-01-01T00:00:30Z"


def test_what_is_null_is_not_there() -> None:
    nulls = agent(metadata="metadata: {name: a, namespace: team, annotations: null, labels: }", status="status:")
    assert planned(nulls) == planned(AGENT)


def test_an_empty_namespace_is_the_default_one() -> None:
    assert list(planned(agent(metadata="metadata: {name: a, namespace: ''}"))["agents"]) == ["default/a"]
    assert list(planned(agent(metadata="metadata: {name: a}"))["agents"]) == ["default/a"]


@pytest.mark.parametrize(
    "name", ["web-6d4cf56db6-x7x2v", "a", "a-0", "a-0-x", "a-00-1", "a-0-01", "a-1001-1", "a-0-99999999999", "a--1-1", "b-0-1"]
)  # fmt: skip
def test_pods_of_other_names_are_nobodys(name: str) -> None:
    plan = planned(world(AGENT, POD.replace("a-0-1", name)))
    assert plan == planned(AGENT)


def test_a_pod_of_another_owner_is_not_the_agents() -> None:
    owned = POD.replace(
        "namespace: team}", "namespace: team, ownerReferences: [{kind: Agent, name: b, uid: x, controller: true}]}"
    )
    assert planned(world(AGENT, owned)) == planned(AGENT)


def test_a_windows_editors_byte_order_mark_is_read_past() -> None:
    assert planned("\ufeff" + AGENT) == planned(AGENT)


def test_fields_of_a_newer_status_are_read_past() -> None:
    assert planned(agent(status="status: {observedGeneration: -1, fromTheFuture: {x: 1}}")) == planned(AGENT)


def test_yaml_is_the_default_output() -> None:
    result = CliRunner().invoke(app, ["plan", "-f", "-", "--now", NOW], input=AGENT)
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "agents:")


def test_the_plan_does_not_depend_on_the_order_of_the_documents() -> None:
    assert planned(world(POD, AGENT)) == planned(world(AGENT, POD))


# --- what is refused, and in which words ------------------------------------------------------------------------------

KINDS = (
    "Agent (mabeam.dev/v1alpha1), OrchestrationVariable (mabeam.dev/v1alpha1), Supervisor (mabeam.dev/v1alpha1), "
    "Pod (v1), ConfigMap (v1), Node (v1), ResourceQuota (v1), NetworkPolicy (networking.k8s.io/v1), Report (mabeam.dev/plan), "
    "Scenario (mabeam.dev/simulate), or a List of these"
)
ODD: dict[str, tuple[str | bytes, str]] = {
    "nothing at all": ("", f"-: holds no object; a world needs at least one, of {KINDS}"),
    "only comments": ("# soon\n---\n", f"-: holds no object; a world needs at least one, of {KINDS}"),
    "prose": ("see attached", "-: document 1: must be an object with apiVersion, kind and metadata"),
    "not UTF-8": (b"kind: \xff", "-: not UTF-8 text (byte 6)"),
    "a kind from elsewhere": (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}",
        f"-: document 1: kind: 'Deployment' is not part of a world; allowed: {KINDS}",
    ),
    "no kind": ("metadata: {name: x}", f"-: document 1: kind: None is not part of a world; allowed: {KINDS}"),
    "an old apiVersion": (
        agent(apiVersion="apiVersion: mabeam.dev/v1"),
        "-: document 1: apiVersion: must be mabeam.dev/v1alpha1 for kind Agent, not 'mabeam.dev/v1'",
    ),
    "no metadata": ("apiVersion: v1\nkind: Pod", "-: document 1: Pod: metadata: must be set"),
    "no name": ("apiVersion: v1\nkind: Pod\nmetadata: {}", "-: document 1: Pod: metadata.name: must be set"),
    "a generation below zero": (
        agent(metadata="metadata: {name: a, generation: -1}"),
        "-: document 1: Agent: metadata.generation: must be greater than or equal to 0 (found -1)",
    ),
    "a name that is no name": (
        agent(metadata="metadata: {name: My Agent}"),
        "-: document 1: Agent: metadata.name: must be a DNS name: lower-case letters, digits, '-' and '.', "
        'neither at its ends (found "My Agent")',
    ),
    "a name that is too long": (
        agent(metadata=f"metadata: {{name: {'a' * 51}}}"),
        f"-: document 1: Agent/{'a' * 51}: `metadata.name` must be at most 50 characters: pod names and labels derive "
        "from it",
    ),
    "a name with a dot": (
        agent(metadata="metadata: {name: a.b}"),
        "-: document 1: Agent/a.b: `metadata.name` must not contain a dot: pod host names derive from it",
    ),
    "an unknown field": (
        agent(spec="spec: {module: 'team.work:Worker', faultTolerance: {maxFailure: 3}}"),
        "-: document 1: Agent/a: spec.faultTolerance.maxFailure: is not a field here; allowed: backoff, "
        "escalationPolicy, exitCodeRules, failureWindowSeconds, maxFailures, probeAfterSeconds, progressTimeoutSeconds, "
        "recoveryStrategy",
    ),
    "an unknown strategy": (
        agent(spec="spec: {module: 'team.work:Worker', restartStrategy: Always}"),
        "-: document 1: Agent/a: spec.restartStrategy: must be 'Permanent', 'Transient' or 'Temporary' (found \"Always\")",
    ),
    "a number that is text": (
        agent(spec="spec: {module: 'team.work:Worker', replicas: many}"),
        "-: document 1: Agent/a: spec.replicas: must be a valid integer "
        '(found "many")',
    ),
    "neither module nor template": (
        agent(spec="spec: {}"),
        "-: document 1: Agent/a: spec: exactly one of `module` (a class for the agent SDK) or `template` (a pod "
        "template) must be set",
    ),
    "no spec": (agent(spec="x: 1"), "-: document 1: Agent/a: spec: must be set; x: is not a field here; allowed: "
        "apiVersion, kind, metadata, spec, status"),
    "not a number": (
        agent(spec="spec: {module: 'team.work:Worker', preferences: [{variable: t, value: .nan}]}"),
        "-: document 1: Agent.spec.preferences.0.value: must be a finite number, not nan",
    ),
    "infinity": (
        agent(spec="spec: {module: 'team.work:Worker', faultTolerance: {backoff: {maxSeconds: .inf}}}"),
        "-: document 1: Agent.spec.faultTolerance.backoff.maxSeconds: must be a finite number, not inf",
    ),
    "a huge number": (
        agent(spec=f"spec: {{module: 'team.work:Worker', replicas: {10**30}}}"),
        "-: document 1: Agent.spec.replicas: must be a number of at most 64 bits",
    ),
    "a number with thousands of digits": (agent(x=f"x: {'9' * 5000}"), "-: not YAML: Exceeds the limit"),
    "a status of garbage": (
        agent(status="status: {state: Confused}"),
        "-: document 1: Agent/a: status.state: must be 'Registered', 'Starting', 'Running', 'Stopping', 'Stopped', "
        "'Failed' or 'Migrating' (found \"Confused\")",
    ),
    "a status that is text": (
        agent(status="status: fine"),
        '-: document 1: Agent/a: status: must be an object (found "fine")',
    ),
    "the same agent twice": (
        world(AGENT, AGENT),
        "-: document 2: Agent/a: metadata.name: given twice in namespace team",
    ),
    "the same pod twice": (world(AGENT, POD, POD), "-: document 3: Pod/a-0-1: metadata.name: given twice in namespace team"),
    "a key twice": (AGENT + "kind: Pod\n", "-: not YAML: the key 'kind' is given twice in the object at line 2"),
    "a key that is no text": (
        agent(spec="spec: {module: 'team.work:Worker', template: {1: x}}"),
        "-: document 1: Agent.spec.template: every key must be text; put 1 in quotes",
    ),
    "bytes": (
        agent(x="x: !!binary aGVsbG8="),
        "-: document 1: Agent.x: must be text, a number, true, false, a list or an object, not bytes",
    ),
    "an object of Python's": (agent(x="x: !!python/object/apply:os.getcwd []"), "-: not YAML: could not determine a constructor"),
    "an object within itself": (
        agent(x="x: &x [*x]"),
        "-: document 1: Agent: must be at most 3,145,728 bytes, with every YAML alias written out",
    ),
    "aliases of aliases that stand for gigabytes": (
        agent(
            x="x: [&a [gigabytes,x,x,x,x,x,x,x,x,x], &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a], &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b],"
            " &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c], &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d], [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]]"
        ),
        "-: document 1: Agent: must be at most 3,145,728 bytes, with every YAML alias written out",
    ),
    "a field by its name in Python": (
        agent(spec="spec: {module: 'team.work:Worker', desired_state: Stopped}"),
        "-: document 1: Agent/a: spec.desired_state: is not a field here; allowed: " + ", ".join(SPEC_FIELDS),
    ),
    "a number in quotes": (
        agent(spec="spec: {module: 'team.work:Worker', replicas: '3'}"),
        '-: document 1: Agent/a: spec.replicas: must be a valid integer (found "3")',
    ),
    "true for a number": (
        agent(spec="spec: {module: 'team.work:Worker', faultTolerance: {maxFailures: true}}"),
        "-: document 1: Agent/a: spec.faultTolerance.maxFailures: must be a valid integer (found true)",
    ),
    "text for true": (
        VARIABLE_OF_A + "spec: {agents: {names: [a]}, paused: 'yes'}",
        '-: document 1: OrchestrationVariable/v: spec.paused: must be a valid boolean (found "yes")',
    ),
    "half a licence": (
        VARIABLE_OF_A
        + "spec: {type: ResourceAllocation, agents: {names: [a]}, budget: [{resource: licences, amount: 1.5}]}",
        "-: document 1: OrchestrationVariable/v: spec.budget.0.amount: must be a valid string (found 1.5)",
    ),
    "a thousand brackets": (agent(x="x: " + "[" * 2000), "-: nested too deeply"),
    "an unclosed bracket": ("spec: [", "-: not YAML: while parsing a flow node expected the node content"),
    "a report of an unknown agent": (
        REPORT,
        "-: document 1: Report/a: metadata.name: must name the Agent that reports; no Agent of that name",
    ),
    "two reports of one agent": (
        world(AGENT, REPORT, REPORT.replace(", namespace: team", "")),
        "-: document 3: Report/a: metadata.name: given twice for the Agent team/a",
    ),
    "a report of an agent that is never read": (
        world(AGENT.replace('"}', '", reports: {source: None}}'), REPORT),
        "-: document 2: Report/a: metadata.name: must name an Agent whose reports are read; those of team/a are not: its "
        "`spec.reports.source` is None, or it has a `template` and no `spec.reports`",
    ),
    "a report without its text": (
        world(AGENT, REPORT.replace("openmetrics", "text")),
        "-: document 2: Report/a: openmetrics: must be the text of a report",
    ),
    "an exit code that is text": (
        world(AGENT, POD.replace("phase: Running", "containerStatuses: [{name: agent, state: {terminated: {exitCode: one}}}]")),
        "-: document 2: Pod/a-0-1: status.containerStatuses.0.state.terminated.exitCode: must be a valid integer "
        '(found "one")',
    ),
    "a time that is none": (
        world(AGENT, POD.replace("phase: Running", "startTime: yesterday")),
        "-: document 2: Pod/a-0-1: status.startTime: must be a time such as 2026-01-01T00:00:00Z, not 'yesterday'",
    ),
    "a time out of reach": (
        world(AGENT, POD.replace("phase: Running", "startTime: 9999-12-31T23:59:59Z")),
        "-: document 2: Pod/a-0-1: status.startTime: must be a time such as 2026-01-01T00:00:00Z, "
        "not '9999-12-31T23:59:59Z'",
    ),
    "a phase nobody knows": (
        world(AGENT, POD.replace("Running", "Sleeping")),
        "-: document 2: Pod/a-0-1: status.phase: must be 'Pending', 'Running', 'Succeeded', 'Failed' or 'Unknown' "
        '(found "Sleeping")',
    ),
    "statuses that are no list": (
        world(AGENT, POD.replace("phase: Running", "containerStatuses: {agent: {}}")),
        "-: document 2: Pod/a-0-1: status.containerStatuses: must be a list (found {\"agent\": {}})",
    ),
    "a list of no list": ("kind: List\nitems: {a: 1}", "-: document 1: items: must be a list of objects"),
    "a list of text": (
        "kind: List\nitems: [a]",
        "-: document 1, item 1: must be an object with apiVersion, kind and metadata",
    ),
    "a ConfigMap of numbers": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a-mabeam}\ndata: {x: 1}",
        "-: document 1: ConfigMap/a-mabeam: data.x: must be a valid string (found 1)",
    ),
    "what is not supported yet": (
        "apiVersion: mabeam.dev/v1alpha1\nkind: OrchestrationVariable\nmetadata: {name: v}\n"
        "spec: {agents: {names: [a]}, value: 1, adaptation: {}}",
        "-: document 1: OrchestrationVariable/v: spec: `adaptation` is not supported yet",
    ),
}  # fmt: skip


VARIABLE = """
apiVersion: mabeam.dev/v1alpha1
kind: OrchestrationVariable
metadata: {name: v}
spec: {agents: {names: [a]}, value: %s, domain: %s}
"""


@pytest.mark.parametrize(
    ("value", "domain"),
    [
        ("9", "{minimum: 0, maximum: 2}"),
        ("hot", "{type: Number}"),
        ("1.5", "{type: Integer}"),
        ("huge", "{type: Choice, choices: [small]}"),
    ],
)
def test_a_value_outside_its_domain_is_refused_by_name(value: str, domain: str) -> None:
    assert refused(VARIABLE % (value, domain)).startswith("-: document 1: OrchestrationVariable/v: spec.value: must ")


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("preferences: [{variable: x, value: 1}, {variable: x, value: 2}]", "`preferences` must not hold x twice"),
        ("capabilities: [python, python]", "`capabilities` must not hold python twice"),
        ("normalExitCodes: [3, 3]", "`normalExitCodes` must not hold 3 twice"),
    ],
)
def test_what_the_apiserver_takes_for_a_set_is_none_here_either(spec: str, told: str) -> None:
    text = f"apiVersion: mabeam.dev/v1alpha1\nkind: Agent\nmetadata: {{name: a}}\nspec: {{module: 'x:Y', {spec}}}"
    assert told in refused(text)


@pytest.mark.parametrize("oddity", ODD)
def test_an_odd_world_is_refused_in_one_line_that_names_the_document_the_field_and_what_is_allowed(oddity: str) -> None:
    text, message = ODD[oddity]
    found = refused(text)
    begins = oddity in {"a number with thousands of digits", "an object of Python's", "an unclosed bracket"}
    assert found.startswith(message) if begins else found == message, found


@pytest.mark.parametrize("now", ["yesterday", "", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00Z"])
def test_a_time_that_is_none_is_refused(now: str) -> None:
    assert refused(AGENT, now=now) == f"--now must be a time such as 2026-01-01T00:00:00Z, not {now!r}"


def test_a_file_that_is_not_there_is_named() -> None:
    result = CliRunner().invoke(app, ["plan", "-f", "/no/such/file.yaml"])
    assert (result.exit_code, result.stderr) == (2, "mabeam plan: /no/such/file.yaml: No such file or directory\n")


def test_a_directory_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["plan", "-f", str(tmp_path)])
    assert (result.exit_code, result.stderr) == (2, f"mabeam plan: {tmp_path}: Is a directory\n")


def test_several_files_are_one_world(tmp_path: Path) -> None:
    for name, text in (("agent.yaml", AGENT), ("pod.yaml", POD)):
        (tmp_path / name).write_text(text)
    arguments = [part for name in ("pod.yaml", "agent.yaml") for part in ("-f", str(tmp_path / name))]
    result = CliRunner().invoke(app, ["plan", *arguments, "--now", NOW, "-o", "json"])
    assert json.loads(result.stdout) == planned(world(AGENT, POD))
