"""`python -m examples.demo --cluster NAME`, which is what `make demo` runs. Exit code 0 only when every promise held."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from embedded.owned import die_with_parent
from examples.demo import council, crew, faults, setup, team
from examples.demo.demo import TEAM_FILE, Demo
from examples.demo.errors import Unmet, Unusable
from examples.demo.page import Page
from examples.demo.tools import Tools, in_use, proxied


@dataclass(frozen=True)
class Step:
    """One step: its title, what it shows, what Kubernetes alone lacks, and the work."""

    title: str
    shows: str
    why: str
    run: Callable[[Demo], None]


GROUND = (
    "A cluster, and the operator in it",
    "Starts a Kubernetes on this machine (or uses yours), builds the image, installs the operator with helm.",
)
STEPS = (
    Step(
        "A team starts",
        "Three annealers, an evaluator and a polisher look for the shortest round trip through 52 places in Berlin.",
        "three kinds of object (Deployment, Job, Pod), each with its own idea of an ending.",
        team.start,
    ),
    Step(
        "They agree on a temperature",
        "Each annealer reports the temperature it would like. The operator makes one number of their wishes, delivers it,"
        " and each process acknowledges that it is in force.",
        "a changed ConfigMap takes up to a minute, and nobody learns whether it is obeyed.",
        team.agree,
    ),
    Step(
        "A preference changes",
        "A fourth annealer likes it hot. It gets a weight of 12: a new value is decided, delivered and obeyed at once.",
        "nothing there decides between the wishes of pods.",
        team.change_a_preference,
    ),
    Step(
        "An agent is killed",
        "Killed without warning, a Permanent agent comes back as its next incarnation, and the ledger says how it died.",
        "restarts go on for ever, with no budget in time and no record of why.",
        faults.kill_an_agent,
    ),
    Step(
        "One that finishes stays down",
        "The polisher is Transient: exit 0 means done. Any other end would have been a failure, and a restart.",
        "a Deployment starts it again for ever; a Job is another kind, with other rules.",
        team.finished_stays_down,
    ),
    Step(
        "One that keeps crashing is parked",
        "Two failures in a minute are forgiven, the third is not: the agent is left alone, and says how to release it.",
        "CrashLoopBackOff never gives up; a Job does, but never forgets a failure either.",
        faults.budget_runs_out,
    ),
    Step(
        "One failure takes others along",
        "Three agents stand on each other's shoulders. A Supervisor starts them in order, and when the second one fails,"
        " it and the third start anew, in order; the first one is left alone.",
        "no workload waits for another one, and none falls and rises with it.",
        crew.tree,
    ),
    Step(
        "The operator is killed while it restarts an agent",
        "Every restart is a number in the cluster before it is a pod: a successor finishes the work, and does none twice.",
        "its controllers survive this too, but have no budget and no ledger to lose.",
        faults.kill_the_operator,
    ),
    Step(
        "They vote on the temperature",
        "From now on a change of the temperature is proposed, and more than half of the annealers have to say Yes. They judge"
        " for themselves: to cool down they accept, what the hothead wants they do not.",
        "whoever may write a ConfigMap decides, and no pod is asked.",
        council.vote,
    ),
    Step(
        "They elect a coordinator, and form a ring",
        "One more variable says who talks to whom, and elects who coordinates. Each process learns its neighbours' addresses,"
        " and trades tours with them.",
        "a Lease and a headless Service; the rest is for each program to write.",
        council.ring,
    ),
    Step(
        "They share a budget of memory",
        "A budget is divided by weight, and the running pods are resized: no restart, the process sees its new limit.",
        "resizes a pod in place too, but divides nothing among several.",
        council.memory,
    ),
    Step(
        "The coordinator is parked",
        "It gets a broken release, crashes, and is parked. The others close their ring, elect a successor and get its memory.",
        "a Lease is taken again by whoever starts again, and tells nobody who is next to whom.",
        council.park,
    ),
    Step(
        "What the team found",
        "All that time the annealers went on. The evaluator knows the best tour; the demo computes its length again.",
        "",
        team.tours,
    ),
    Step(
        "Nothing hangs on the way out",
        "helm uninstall first, then the namespace, with nobody left to clean up. Then everything is put back.",
        "fine; but many operators' finalizers leave a namespace Terminating for ever.",
        setup.leave,
    ),
)


# The steps in the picture that --save-svg makes, besides the summary.
PICTURED = (3, 4, 7)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 all promises held, 1 one did not, 2 wrong usage or unusable, 130 interrupted."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _terminate)
    die_with_parent()  # `make` that is killed hard hands on no signal
    page = Page()
    rows: list[tuple[str, float, bool]] = []
    began = time.monotonic()
    code = 1
    demo = None
    try:
        demo = _run(page, options, rows)
        code = 0
    except Unmet as problem:
        page.unmet(problem)
    except Unusable as problem:
        page.error(str(problem))
        code = 2
    except KeyboardInterrupt:
        page.error(
            "interrupted; what there is was left as it is. `make demo` begins anew, `make demo-down` ends it all."
        )
        code = 130
    page.pictured = True
    page.summary(rows, time.monotonic() - began)
    page.pictured = False
    if demo is not None:
        farewell(demo)
    if code == 1:
        page.note("One expectation did not hold; everything was left as it is, so that you can look.")
    if options.save_svg is not None:
        page.save(options.save_svg)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m examples.demo", description=__doc__)
    parser.add_argument(
        "--cluster", default="mabeam", help="the embedded cluster's name; CLUSTER=current uses yours instead"
    )
    parser.add_argument("--namespace", default="annealers", help="the team's namespace (default: %(default)s)")
    parser.add_argument(
        "--image", default=os.environ.get("IMAGE", ""), help="an image that the cluster can pull (or IMAGE=…)"
    )
    parser.add_argument("--from", type=int, default=1, choices=range(1, len(STEPS) + 1), dest="first", metavar="STEP",
                        help="begin with this step, on what a former run left (0 is always done)")  # fmt: skip
    parser.add_argument("--picture", type=Path, help="where the best tour is drawn (default: build/berlin52.svg)")
    parser.add_argument(
        "--save-svg", type=Path, metavar="FILE", help="also draw some of the steps and the summary, as SVG"
    )
    return parser


def _run(page: Page, options: argparse.Namespace, rows: list[tuple[str, float, bool]]) -> Demo:
    page.opening(
        "MABEAM on Kubernetes: a supervisor and a coordinator for teams of pods",
        [
            f"{len(STEPS) + 1} steps, two to three minutes; every ✓ is checked, nothing is simulated. Ctrl-C ends it at any time."
        ],
    )
    tools = Tools(options.cluster, in_use(os.environ))
    page.step(0, *GROUND, "")
    with _timed(GROUND[0], rows):
        tools, image = setup.prepare(page, tools, options.namespace, options.image)
    with proxied(tools) as api:
        demo = Demo(page, tools, api, options.namespace, image, setup.picture_file(options.picture))
        for number, step in enumerate(STEPS, start=1):
            if number < options.first:
                continue
            page.pictured = number in PICTURED
            page.step(number, step.title, step.shows, step.why)
            with _timed(step.title, rows):
                step.run(demo)
    return demo


class _timed:  # noqa: N801 - read as a word: with timed(…)
    """Adds a step's row to the summary, whatever becomes of the step."""

    def __init__(self, title: str, rows: list[tuple[str, float, bool]]) -> None:
        self.title, self.rows, self.began = title, rows, time.monotonic()

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.rows.append((self.title, time.monotonic() - self.began, kind is None))


def farewell(demo: Demo) -> None:
    """What to try next, in commands that work as they stand."""
    demo.page.note("Every promise held. The cluster is yours; try, from this folder:\n")
    for command, what in (
        (demo.look("get mba,mov"), "the team and its temperature"),
        (demo.look("get mov temperature -w"), "follow the value (Ctrl-C ends it)"),
        (demo.look("delete pod -l mabeam.dev/agent=executor-a"), "kill one: it comes back"),
        (demo.look("apply -f examples/annealers/ring.yaml"), "have them elect a coordinator again"),
        (demo.look("get events"), "what happened, and why"),
        (demo.look("port-forward service/annealers-evaluator 8080"), "then open http://localhost:8080"),
    ):
        demo.page.note(f"  # {what}\n  {command}")
    if demo.tools.current:
        demo.page.note(
            f"\nTake it away: kubectl delete ns {demo.namespace}; helm uninstall mabeam -n mabeam-system (docs/install.md)"
        )
    else:
        down = (
            "make demo-down"
            if demo.tools.cluster == "mabeam"
            else f"hack/cluster/cluster down --name {demo.tools.cluster}"
        )
        demo.page.note(f"\nThe team is {TEAM_FILE}. Take it all away: {down}")


def _terminate(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
