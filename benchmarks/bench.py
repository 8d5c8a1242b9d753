"""Measures the operator side by side with Kubernetes' own controllers: `make bench` (docs/performance.md).

Each part of a case is kept as soon as it is measured; a second run goes on where the first one ended.
"""

import argparse
import asyncio
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine, report
from benchmarks.arena.arena import Arena, arena, log
from benchmarks.arena.cluster import BenchCluster
from benchmarks.cases import CASES
from benchmarks.cases.case import Case, Plan
from benchmarks.result_files import RESULTS, ResultFiles, commit, subject_digest

# P1 and P6 are measured in other ways as well; the storm of P10 takes two cores over two minutes.
NOT_QUICK = ("P1-100", "P6T", "P10-300")
_TITLES = {"bench": "The benchmark", "quick": "The benchmark, quick", "trial": "A trial"}


@dataclass(frozen=True)
class Work:
    """One part of one case, to be measured."""

    case: Case
    part: str

    @property
    def name(self) -> str:
        """How it is called in the progress and in the file's name."""
        return f"{self.case.id}-{self.part}"

    async def measure(self, ours: Arena, plan: Plan) -> dict[str, Any]:
        """Its samples."""
        if self.case.run is None:
            raise RuntimeError(f"{self.case.id} measures nothing itself")
        return await self.case.run(ours, plan, self.part)


def works(chosen: Sequence[str], plan: Plan) -> list[Work]:
    """What has to be measured for these cases or parts of cases, in an order in which one population serves many."""
    found: dict[str, Work] = {}
    for case, _, part in (one.partition("-") for one in chosen):
        measuring = CASES[CASES[case].source or case]
        for each in measuring.parts(plan):
            if part in ("", each):
                work = Work(measuring, each)
                found[work.name] = work
    return sorted(found.values(), key=lambda work: work.case.place(work.part))


def is_quick(work: Work) -> bool:
    """Whether the quick run measures it unasked."""
    return not {work.case.id, work.name} & {*NOT_QUICK}


def digest_of(case: Case) -> str:
    """What a result of the case is about: the operator, and the way the case is measured."""
    number = int(case.id.strip("PT"))
    return subject_digest(also=(f"benchmarks/cases/p{number:02}_*.py",))


async def measure(todo: Sequence[Work], plan: Plan, files: ResultFiles, cluster: BenchCluster) -> list[str]:
    """Measure it all; the names of the parts that could not be."""
    failed: list[str] = []
    expected = {work: _expected(work, plan, files) for work in todo}
    async with arena(cluster, plan.before) as ours:
        where = machine.describe((await ours.api.get("/version"))["gitVersion"])
        log(
            f"on {report.machine_text(where)}; load average {machine.load()}, reference task {machine.reference_task_ms()} ms"
        )
        for number, work in enumerate(todo):
            left = sum(expected[one] for one in todo[number:])
            log(f"── {work.name}: {work.case.title} ({number + 1} of {len(todo)}, about {left / 60:.0f} min left)")
            files.remove(work.case.id, work.part)
            busy, pace, begun = machine.load(), machine.reference_task_ms(), time.monotonic()
            try:
                # Every wait within has a deadline of its own; this is for what nobody thought of.
                async with asyncio.timeout(900 + 6 * work.case.estimate(plan, work.part)):
                    samples = await work.measure(ours, plan)
            except Exception as problem:  # one case that cannot run must not take the others along
                log(f"{work.name} FAILED: {type(problem).__name__}: {problem}")
                traceback.print_exc()
                failed.append(work.name)
                ours.population.clear()
                continue
            result = {
                "case": work.case.id,
                "part": work.part,
                "commit": commit(),
                "subject": digest_of(work.case),
                "measured_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "seconds": round(time.monotonic() - begun, 1),
                "load_average": [busy, machine.load()],
                "reference_task_ms": [pace, machine.reference_task_ms()],
                "machine": where,
                "samples": samples,
            }
            files.write(work.case.id, work.part, result)
            for one in work.case.measurements({work.part: samples}):
                log(f"   {one.measure}: {one.text}")
    return failed


def _expected(work: Work, plan: Plan, files: ResultFiles) -> float:
    """How many seconds it takes: as many as last time, else as many as are thought."""
    before = files.read(work.case.id, work.part)
    return float(before["seconds"]) if before else work.case.estimate(plan, work.part)


def is_current(work: Work, files: ResultFiles) -> bool:
    """Whether there is a result of it for the sources as they are."""
    return (files.read(work.case.id, work.part) or {}).get("subject") == digest_of(work.case)


def main() -> int:
    """The exit code: 1 when a bar is broken or a case could not be measured."""
    options = _parser().parse_args()
    # Ended as a service is ended, it still takes its operator along: a stray one would act in the next run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    plan = Plan(options.quick, _numbers(options.sizes), options.repeats, _names(options.arms), options.before)
    known = {name.upper(): name for name in (*CASES, *(work.name for work in works(list(CASES), plan)))}
    asked = (
        [case.strip().upper() for case in options.cases.split(",")]
        if options.cases
        else [case.upper() for case in CASES]
    )
    chosen = [known[case] for case in asked if case in known]
    if len(chosen) < len(asked):
        unknown = ", ".join(case for case in asked if case not in known)
        print(f"no such case: {unknown}; there are {', '.join(known.values())}", file=sys.stderr)
        return 2
    name = "trial" if plan.partial else "quick" if plan.quick else "bench"
    files = ResultFiles(RESULTS / name)
    failed: list[str] = []
    cluster = BenchCluster(options.cluster)
    everything = works(list(CASES), plan)
    if not options.report:
        todo = works(chosen, plan)
        if plan.quick and not options.cases:
            log(f"left out to stay below ten minutes (--cases measures them): {', '.join(NOT_QUICK)}")
            todo = [one for one in todo if is_quick(one)]
        if plan.partial:
            files.clear()
        elif not options.again:
            done = [one for one in todo if is_current(one, files)]
            todo = [one for one in todo if one not in done]
            if done:
                log(f"done before, for the same sources (--again measures anew): {', '.join(one.name for one in done)}")
        try:
            failed = asyncio.run(measure(todo, plan, files, cluster)) if todo else []
        finally:
            if options.down:
                cluster.down()
    if not files.results():
        print(f"no results in {files.folder}", file=sys.stderr)
        return 1
    stale = [] if plan.partial else [one.name for one in everything if not is_current(one, files)]
    text = report.write(files, _TITLES[name], quick=plan.quick, stale=stale)
    print(text)
    wrong = [one for one in report.measurements_of(files) if one.met is False]
    for one in wrong:
        print(f"missed: {one.case} {one.measure}: {one.text}, bar {one.bar.label if one.bar else ''}")
    if failed:
        print(f"could not be measured: {', '.join(failed)}")
    return 1 if wrong or failed else 0


def _numbers(text: str) -> tuple[int, ...] | None:
    return tuple(int(part) for part in text.split(",")) if text else None


def _names(text: str) -> tuple[str, ...] | None:
    return tuple(part.strip() for part in text.split(",")) if text else None


def _checkout(text: str) -> Path:
    found = Path(text).resolve()
    if not (found / "operator/mabeam/__main__.py").is_file():
        raise argparse.ArgumentTypeError(f"{found} is no checkout of MABEAM")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__)
    parser.add_argument("--cases", default="", help="for example P1,P6-1000: cases, or parts of them (default: all)")
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer repeats, under ten minutes")
    parser.add_argument("--again", action="store_true", help="measure anew what was measured for these sources")
    parser.add_argument("--report", action="store_true", help="measure nothing; render the table and plots anew")
    parser.add_argument("--sizes", default="", help="other sizes, for example 1000; kept in results/trial")
    parser.add_argument("--repeats", type=int, help="other number of repeats; kept in results/trial")
    parser.add_argument(
        "--arms",
        default="",
        help="only these: agents, 'agents before', jobs, replicasets, floor, 'stock jobs'; kept in results/trial",
    )
    parser.add_argument(
        "--before",
        type=_checkout,
        metavar="DIR",
        help="a checkout whose operator P1, P2, P4, P5 and P8 measure in turns with this one's; kept in results/trial",
    )
    parser.add_argument("--cluster", default="mabeam-bench", help="the embedded cluster's name (default: %(default)s)")
    parser.add_argument("--down", action="store_true", help="take the cluster down at the end")
    return parser


if __name__ == "__main__":
    sys.exit(main())
