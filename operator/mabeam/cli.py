"""The command line: `mabeam run | plan | simulate | lint | explain | replay | crds | rbac`.

Heavy imports wait until a command needs them.
"""

import io
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from mabeam import __version__

app = typer.Typer(
    name="mabeam",
    help="OTP supervision and multi-agent coordination for Kubernetes pods.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Output(StrEnum):
    """How a document is printed."""

    JSON = "json"
    YAML = "yaml"


class PlanFormat(StrEnum):
    """How a plan is printed."""

    JSON = "json"
    YAML = "yaml"
    SUMMARY = "summary"


class SimulationFormat(StrEnum):
    """How the result of a simulation is printed."""

    TABLE = "table"
    JSON = "json"


class ExplanationFormat(StrEnum):
    """How an explanation is printed."""

    TEXT = "text"
    JSON = "json"


class Scope(StrEnum):
    """A part of the operator's RBAC rules."""

    WORKLOAD = "workload"
    NODES = "nodes"
    LEASE = "lease"
    OUTSIDE = "outside"


def _print(document: Any, output: Output) -> None:
    if output is Output.JSON:
        typer.echo(json.dumps(document, indent=2, sort_keys=False))
    else:
        typer.echo(dump_yaml(document, _is_unicode(sys.stdout.encoding)), nl=False)


def _is_unicode(encoding: str | None) -> bool:
    return (encoding or "").lower().replace("-", "").startswith("utf")


def dump_yaml(document: Any, allow_unicode: bool = True) -> str:
    """YAML in insertion order and without aliases, so that a diff shows what changed and nothing else."""
    import yaml

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    return yaml.dump(document, Dumper=Plain, sort_keys=False, width=120, allow_unicode=allow_unicode)


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        typer.echo(f"mabeam {__version__}")
        raise typer.Exit


@app.command()
def run() -> None:
    """Run the operator until SIGTERM; settings come from MABEAM_… environment variables (docs/install.md)."""
    import asyncio

    from mabeam.settings import BadSetting, from_environment
    from mabeam.shell.kube.connection import NoCluster
    from mabeam.shell.process import run as run_operator

    try:
        code = asyncio.run(run_operator(from_environment()))
    except (BadSetting, NoCluster) as problem:
        typer.echo(f"mabeam: {problem}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(code)


@app.command()
def crds(
    directory: Annotated[
        Path | None, typer.Option("--directory", "-d", help="Write one file per CRD here instead of printing them.")
    ] = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print.")] = Output.YAML,
) -> None:
    """Print the CustomResourceDefinitions."""
    from mabeam.api.crd import all_definitions

    for definition in all_definitions():
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / f"{definition['metadata']['name']}.yaml").write_text(dump_yaml(definition))
        elif output is Output.YAML:
            typer.echo("---")
            _print(definition, output)
        else:
            _print(definition, output)


@app.command()
def rbac(
    scope: Annotated[
        Scope,
        typer.Option(
            "--scope",
            "-s",
            help="Which rules: for the objects of namespaces, nodes, the Lease, or reading reports from "
            "outside the cluster.",
        ),
    ] = Scope.WORKLOAD,
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print.")] = Output.YAML,
) -> None:
    """Print the RBAC rules that the operator needs, and no others."""
    from mabeam.shell.kube import rbac as grants

    rules = {
        Scope.WORKLOAD: grants.WORKLOAD_RULES,
        Scope.NODES: grants.NODE_RULES,
        Scope.LEASE: grants.LEASE_RULES,
        Scope.OUTSIDE: grants.OUTSIDE_RULES,
    }[scope]
    _print({"rules": [rule.to_wire() for rule in rules]}, output)


@app.command()
def plan(
    filename: Annotated[
        list[str],
        typer.Option("--filename", "-f", help="Objects: multi-document YAML; - for standard input; may be repeated."),
    ],
    now: Annotated[str | None, typer.Option("--now", help="Time of the pass, RFC 3339; default: now.")] = None,
    output: Annotated[
        PlanFormat,
        typer.Option("--output", "-o", help="How to print: whole, or a line for each object, write and Event."),
    ] = PlanFormat.YAML,
) -> None:
    """Decide without a cluster: make one pass over the objects in files, and print what the operator would write.

    The exit code is 1 when an object is not accepted or a function fails, and 2 when the input cannot be used.
    """
    from mabeam.offline import plan as planning
    from mabeam.offline import plan_summary
    from mabeam.offline.world import World, parse_now

    def decide(world: World) -> dict[str, Any]:
        at = parse_now(now) if now is not None else datetime.now(UTC)  # noqa: TID251 - a default for people
        return planning.plan(world, at)

    result = _of_world("plan", filename, decide)
    if output is PlanFormat.SUMMARY:
        typer.echo(plan_summary.as_text(result))
    else:
        _print(result, Output(output.value))
    raise typer.Exit(1 if plan_summary.failures(result) else 0)


@app.command()
def lint(
    filename: Annotated[
        list[str],
        typer.Option("--filename", "-f", help="Objects: multi-document YAML; - for standard input; may be repeated."),
    ],
) -> None:
    """Check objects before they are applied: trees, budgets, resources, variables; exit code 1 if there are errors."""
    from mabeam.offline.lint import lint as look

    found = _of_world("lint", filename, look)
    for finding in found:
        typer.echo(str(finding))
    raise typer.Exit(1 if any(finding.level == "error" for finding in found) else 0)


SIMULATE_EXAMPLES: Final = """\b
Examples, with the files of examples/simulate:
  What happens in an hour, and when:
    mabeam simulate -f team.yaml
  How the figures are distributed over a hundred half days:
    mabeam simulate -f team.yaml -f ordinary.yaml --until 12h --runs 100
  The objects of a cluster under another scenario:
    kubectl get mba,msup -o yaml | mabeam simulate -f - -f scenario.yaml

All fields of a Scenario: docs/simulate.md.
"""


@app.command(epilog=SIMULATE_EXAMPLES)
def simulate(
    filename: Annotated[
        list[str],
        typer.Option(
            "--filename",
            "-f",
            help="Agents, Supervisors, Nodes and a Scenario: multi-document YAML; - for standard input; may be "
            "repeated.",
        ),
    ],
    until: Annotated[
        str, typer.Option("--until", help="Virtual time to simulate: 3600, 3600s, 90m, 24h or 7d.")
    ] = "3600s",
    seed: Annotated[
        int, typer.Option("--seed", help="Seed of all random faults; the same seed gives the same bytes.")
    ] = 0,
    runs: Annotated[
        int,
        typer.Option(
            "--runs",
            min=1,
            max=100_000,
            help="Number of runs, each with the next seed; more than one prints the distribution of the figures.",
        ),
    ] = 1,
    output: Annotated[SimulationFormat, typer.Option("--output", "-o", help="How to print.")] = SimulationFormat.TABLE,
) -> None:
    """Simulate the operator's own decisions in virtual time, with scripted or random faults."""
    from time import process_time

    from mabeam.offline.documents import InvalidWorld
    from mabeam.offline.world import read_world
    from mabeam.simulation.output import decisions, simulate, table
    from mabeam.simulation.passes import DidNotSettle

    try:
        world = read_world([(name, _read(name)) for name in filename])
        began = process_time()
        result = simulate(world, until, seed, runs, lambda done: _progress(done, runs), _warn)
    except (InvalidWorld, DidNotSettle) as problem:
        _warn(str(problem))
        raise typer.Exit(2) from None
    except OSError as problem:
        _warn(f"{problem.filename}: {problem.strerror}")
        raise typer.Exit(2) from None
    typer.echo(
        table(result) if output is SimulationFormat.TABLE else json.dumps(result, indent=2),
        nl=output is SimulationFormat.JSON,
    )
    # On standard error, because the result itself is the same to the byte on every machine.
    made, seconds = decisions(result), max(process_time() - began, 0.001)
    typer.echo(f"{made} decisions in {seconds:.2g} s of CPU: {made / seconds * 60:.0f} a minute", err=True)


@app.command()
def explain(
    name: Annotated[str | None, typer.Argument(help="Name of the variable; default: all in the input.")] = None,
    filename: Annotated[
        list[str] | None,
        typer.Option(
            "--filename",
            "-f",
            help="Variables, and their ConfigMaps and Agents if available: YAML; - for standard input; may be "
            "repeated.",
        ),
    ] = None,
    output: Annotated[ExplanationFormat, typer.Option("--output", "-o", help="How to print.")] = ExplanationFormat.TEXT,
) -> None:
    """Explain how a value was decided: kubectl get mov,cm,mba -o yaml | mabeam explain temperature -f -"""
    from mabeam.offline.explain import as_text, explained

    found = _of_world("explain", filename, lambda world: explained(world, name))
    if output is ExplanationFormat.JSON:
        typer.echo(json.dumps(found, indent=2))
    else:
        typer.echo("\n".join(as_text(one) for one in found), nl=False)


@app.command()
def replay(
    name: Annotated[str | None, typer.Argument(help="Name of the variable; default: all in the input.")] = None,
    filename: Annotated[
        list[str] | None,
        typer.Option(
            "--filename", "-f", help="Variables and their ConfigMaps: YAML; - for standard input; may be repeated."
        ),
    ] = None,
) -> None:
    """Repeat recorded decisions and compare the bytes: kubectl get mov,cm -o yaml | mabeam replay -f -"""
    from mabeam.offline.explain import difference, replayed

    found = _of_world("replay", filename, lambda world: replayed(world, name))
    for called, remade in found:
        size = len(json.dumps(remade.made, separators=(",", ":")))
        typer.echo(f"{called}: {'the same' if remade.same else 'not the same'} {size} bytes")
        for line in difference(remade):
            typer.echo(f"  {line}")
    raise typer.Exit(0 if all(remade.same for _, remade in found) else 1)


def _of_world(command: str, filename: list[str] | None, look: Callable[[Any], Any]) -> Any:
    """The result of `look` over the objects in the files (none: standard input); on an error one line and exit code 2."""
    from mabeam.offline.documents import InvalidWorld
    from mabeam.offline.world import read_world

    try:
        return look(read_world([(name, _read(name)) for name in filename or ["-"]]))
    except InvalidWorld as problem:
        typer.echo(f"mabeam {command}: {problem}", err=True)
        raise typer.Exit(2) from None
    except OSError as problem:
        typer.echo(f"mabeam {command}: {problem.filename}: {problem.strerror}", err=True)
        raise typer.Exit(2) from None


def _warn(text: str) -> None:
    typer.echo(f"mabeam simulate: {text}", err=True)


def _progress(done: int, runs: int) -> None:
    if sys.stderr.isatty() and (done == runs or done % max(1, runs // 200) == 0):
        typer.echo(f"\r{done}/{runs} runs", err=True, nl=done == runs)


def _read(name: str) -> str:
    """The text of a file, or of standard input for `-`."""
    from mabeam.offline.documents import InvalidWorld

    raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise InvalidWorld(f"{name}: not UTF-8 text (byte {problem.start})") from None


def main() -> None:
    """The entry point of the `mabeam` command: one line instead of a traceback when the output cannot be written."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except OSError as problem:
        # What is still buffered cannot be written either, and Python would try at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(problem, BrokenPipeError):
            print(f"mabeam: standard output: {problem.strerror}", file=sys.stderr)
        sys.exit(1)
