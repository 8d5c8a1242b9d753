"""Runs campaigns: `python -m faults.campaign --cluster NAME [--only R1,R3] [--seed 7] [--jobs 6] [--plan kill-before:17]`.

Each plan has its own namespace, operator and proxy, so plans run side by side; the plans of a campaign that disturbs the whole
cluster (`ALONE`) run one after the other, when the rest is done. Prints a line per campaign, and for each failed plan the
command that replays it.
"""

import argparse
import asyncio
import importlib
import inspect
import os
import pkgutil
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import faults.campaigns
from faults import report
from faults.apiserver import Api
from faults.arena import Arena, arena
from faults.environment import Environment
from faults.plan import Plan
from faults.report import Outcome
from support.async_api import Credentials, Refused

ROOT: Final = Path(__file__).resolve().parents[2]
CLUSTER: Final = str(ROOT / "hack/cluster/cluster")


def campaigns() -> dict[str, ModuleType]:
    """The campaign modules by their IDs, in order."""
    names = [found.name for found in pkgutil.iter_modules(faults.campaigns.__path__)]
    modules = [importlib.import_module(f"faults.campaigns.{name}") for name in names]
    return {module.ID: module for module in sorted(modules, key=lambda module: int(module.ID[1:]))}


async def plans_of(module: ModuleType, environment: Environment, seed: int, sample: int | None) -> Sequence[Plan]:
    """The campaign's plans; of each workload that it disturbs it may ask how long the undisturbed run is."""
    if not hasattr(module, "plans_for"):
        chosen: Sequence[Plan] = module.plans(seed, sample)
        return chosen
    found: list[Plan] = []
    for place, workload in enumerate(module.WORKLOADS):
        # A sample is shared out, the first workloads having the larger shares.
        share = None if sample is None else (sample + len(module.WORKLOADS) - 1 - place) // len(module.WORKLOADS)
        plans = module.plans_for(await environment.undisturbed(workload), seed, share)
        found += [replace(plan, name=f"{workload.name}-{plan.name}") if place else plan for plan in plans]
    return found


async def run_plan(environment: Environment, module: ModuleType, plan: Plan, seed: int) -> Outcome:
    """Run one plan in an arena of its own."""
    began = time.monotonic()
    name = f"{module.ID.lower()}-{secrets.token_hex(4)}"
    folder = environment.folder / module.ID / plan.name.replace(":", "-").replace("/", "-")
    own: Arena | None = None
    problem: str | None = None
    try:
        async with arena(environment, name, seed, folder) as own:
            if inspect.iscoroutinefunction(plan.run):
                await plan.run(own)
            else:
                result = await asyncio.to_thread(plan.run, own)
                if inspect.isawaitable(result):
                    await result
    except AssertionError as failed:
        problem = str(failed) or repr(failed)
        if own is not None and "--- " not in problem:
            problem += f"\n{own.words()}"
    except Exception as failed:  # a plan that cannot be run has not passed
        problem = f"{type(failed).__name__}: {failed}\n{own.words() if own else ''}"
    seconds = round(time.monotonic() - began, 1)
    if own is None:
        return Outcome(plan.name, problem, seconds)
    if problem is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        (folder / "problem.txt").write_text(problem)
    exits = tuple(code for replica in own.replicas for code in replica.exits)
    kills = sum(replica.liveness_kills for replica in own.replicas)
    return Outcome(plan.name, problem, seconds, own.proxy.fired, exits, kills, dict(own.notes))


async def run_campaign(
    environment: Environment, module: ModuleType, plans: Sequence[Plan], seed: int, room: asyncio.Semaphore
) -> list[Outcome]:
    """What became of the campaign's plans, in their order; each waits for its room."""
    finished: list[Outcome] = []

    async def one(plan: Plan) -> None:
        async with room:
            outcome = await run_plan(environment, module, plan, seed)
        finished.append(outcome)
        verdict = "passed" if outcome.problem is None else "FAILED"
        counted = f"{len(finished)}/{len(plans)}"
        print(f"  {module.ID} {counted:>9} {plan.name:<32} {verdict} in {outcome.seconds:.1f} s", flush=True)

    await asyncio.gather(*(one(plan) for plan in plans))
    order = {plan.name: place for place, plan in enumerate(plans)}
    return sorted(finished, key=lambda outcome: order[outcome.plan])


def replay_command(cluster: str, id_: str, seed: int) -> str:
    """The command that runs one plan again, but for the plan's name."""
    where = f"--cluster {cluster} " if cluster else ""
    return f"PYTHONPATH=tests:operator .venv/bin/python -m faults.campaign {where}--only {id_} --seed {seed}"


async def no_other_operator(environment: Environment) -> None:
    """Fail where an operator is installed: it would act on the plans' agents, and hide what ours does not do."""
    api = Api(environment.credentials.server, environment.session, "default")
    asked = {"labelSelector": "app.kubernetes.io/component=operator,app.kubernetes.io/part-of=mabeam"}
    found = (await api.call("GET", "/api/v1/pods", parameters=asked))["items"]
    names = ", ".join(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in found)
    if names:
        raise SystemExit(f"an operator runs in this cluster ({names}): uninstall it, or use another cluster")


async def ready_crds(environment: Environment) -> None:
    """Apply the CRDs as shipped and wait until the apiserver serves them."""
    api = Api(environment.credentials.server, environment.session, "default")
    base = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for path in sorted((ROOT / "crds").glob("*.mabeam.dev.yaml")):
        await api.call(
            "PATCH",
            f"{base}/{path.stem}",
            _yaml(path),
            "application/apply-patch+yaml",
            {"fieldManager": "faults", "force": "true"},
        )
    deadline = time.monotonic() + 60
    while True:
        try:
            for plural in ("agents", "orchestrationvariables", "supervisors"):
                await api.list(plural)
        except Refused:
            assert time.monotonic() < deadline, "the CRDs are not served"
            await asyncio.sleep(0.3)
        else:
            return


def _yaml(path: Path) -> Any:
    import yaml

    return yaml.safe_load(path.read_text())


async def run(options: argparse.Namespace) -> int:
    """The exit code: 0 when every plan passed.

    The plans of all campaigns run side by side, but for those that disturb the whole cluster: they come last, one by one.
    """
    known = campaigns()
    wanted = [known[id_] for id_ in (options.only.split(",") if options.only else known)]
    folder = Path(options.logs or tempfile.mkdtemp(prefix="mabeam-faults-"))
    credentials = Credentials.of(kubeconfig(options.cluster))
    async with credentials.session() as session:
        environment = Environment(credentials, session, options.cluster, folder)
        await no_other_operator(environment)
        await ready_crds(environment)
        together = [module for module in wanted if not module.ALONE]
        room = asyncio.Semaphore(options.jobs)
        passed = list(await asyncio.gather(*(play(environment, module, options, room) for module in together)))
        for module in wanted:
            if module.ALONE:
                passed.append(await play(environment, module, options, asyncio.Semaphore(1)))
    if options.plan and None in passed and not any(passed):
        print(f"no campaign has a plan {options.plan}", file=sys.stderr)
        return 2
    if False in passed:
        print(f"the logs of what failed: {folder}")
    return 1 if False in passed else 0


async def play(
    environment: Environment, module: ModuleType, options: argparse.Namespace, room: asyncio.Semaphore
) -> bool | None:
    """Whether every plan of the campaign that was asked for passed; None when none was."""
    plans = await plans_of(module, environment, options.seed, options.sample)
    plans = [plan for plan in plans if options.plan in (None, plan.name)]
    if not plans:
        return None
    print(f"{module.ID}: {module.TITLE}: {len(plans)} plans", flush=True)
    began = time.monotonic()
    outcomes = await run_campaign(environment, module, plans, options.seed, room)
    report.tell(module, outcomes, options.seed, replay_command(options.cluster, module.ID, options.seed))
    if options.results and not options.plan:
        report.keep(report.document(module, outcomes, options.seed, time.monotonic() - began), Path(options.results))
    return all(outcome.problem is None for outcome in outcomes)


def kubeconfig(cluster: str) -> Path:
    """The kubeconfig of the embedded cluster of that name, else of $KUBECONFIG."""
    if not cluster:
        return Path(os.environ["KUBECONFIG"])
    found = subprocess.run(
        [CLUSTER, "kubeconfig", "--name", cluster], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    return Path(found)


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    made = argparse.ArgumentParser("faults.campaign", description=__doc__)
    made.add_argument("--cluster", default="", help="an embedded cluster's name (default: $KUBECONFIG)")
    made.add_argument("--only", help="campaigns, for example R1,R3 (default: all)")
    made.add_argument("--seed", type=int, default=7)
    made.add_argument("--jobs", type=int, default=6, help="plans side by side")
    made.add_argument("--plan", help="one plan, by its name")
    made.add_argument("--sample", type=int, help="a seeded choice of so many plans of each campaign")
    made.add_argument("--results", help="a folder for the results as JSON")
    made.add_argument("--logs", help="a folder for the operators' logs")
    return made


if __name__ == "__main__":
    # Ended as a service is ended, it still takes its operators along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(asyncio.run(run(parser().parse_args())))
