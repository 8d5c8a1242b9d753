"""What the person sees: steps, commands with their real output, checks; colours on a terminal, plain text elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.terminal_theme import MONOKAI
from rich.text import Text

from examples.demo.errors import Unmet

POLL_SECONDS = 0.1
# Without a terminal there is no spinner: a line now and then says that the demo is alive.
HEARTBEAT_SECONDS = 15.0
WIDTH = 112


class Page:
    """One console. `record` keeps what was printed, for a picture of it."""

    def __init__(self, record: bool = False) -> None:
        self.console = Console(
            width=WIDTH if record or not sys.stdout.isatty() else None,
            record=record,
            force_terminal=True if record else None,
            highlight=False,
            soft_wrap=not record,
        )
        # A spinner would be recorded frame by frame.
        self.lively = self.console.is_terminal and not record

    def opening(self, title: str, lines: list[str]) -> None:
        """The head of the first page."""
        self.console.print()
        self.console.print(Text(title, "bold"))
        for line in lines:
            self.console.print(Text(line, "dim"))

    def step(self, number: int, title: str, shows: str, why: str) -> None:
        """A step's heading: what it shows, and why it takes more than Kubernetes."""
        self.console.print()
        self.console.rule(Text(f" {number} · {title} ", "bold cyan"), align="left", style="cyan")
        self.console.print(Text(shows), soft_wrap=False)
        if why:
            self.console.print(Text.assemble(("Kubernetes alone: ", "yellow"), why), soft_wrap=False)

    def command(self, command: str, output: str = "") -> None:
        """A command as a person would type it, and what it printed."""
        self.console.print()
        self.console.print(Text.assemble(("$ ", "dim"), (command, "bold")))
        if output.strip():
            self.console.print(Padding(Text(output.rstrip("\n")), (0, 0, 0, 2)))

    def line(self, text: str) -> None:
        """A line of a tool that is at work."""
        self.console.print(Text(f"  {text.rstrip()}", "dim"))

    def note(self, text: str) -> None:
        """A sentence."""
        self.console.print(Text(text), soft_wrap=False)

    def ok(self, text: str) -> None:
        """An expectation that held."""
        self.console.print(Text.assemble(("✓ ", "bold green"), text))

    def unmet(self, problem: Unmet) -> None:
        """The expectation that did not hold, and how to look."""
        self.console.print()
        self.console.print(Text.assemble(("✗ expected: ", "bold red"), problem.expected))
        self.console.print(Text.assemble(("  seen:     ", "bold red"), problem.seen))
        if problem.look:
            self.console.print(Text.assemble(("  to look:  ", "bold red"), problem.look))

    def error(self, text: str) -> None:
        """Why the demo cannot go on."""
        self.console.print()
        self.console.print(Text.assemble(("✗ ", "bold red"), text), soft_wrap=False)

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """A spinner, where there is a terminal."""
        with self.console.status(Text(text, "dim")) if self.lively else nullcontext():
            yield

    def until(
        self, expected: str, look: Callable[[], tuple[bool, str]], seconds: float, how: str = "", *, told: bool = True
    ) -> float:
        """The seconds until `look` said yes; raises Unmet at the deadline with what it saw last."""
        began = time.monotonic()
        heartbeat = began + HEARTBEAT_SECONDS
        with self.waiting(f"until {expected}"):
            while True:
                held, seen = look()
                now = time.monotonic()
                if held:
                    break
                if now - began > seconds:
                    raise Unmet(f"{expected}, within {seconds:.0f} s", seen, how)
                if not self.lively and now > heartbeat:
                    heartbeat = now + HEARTBEAT_SECONDS
                    self.line(f"… after {now - began:.0f} s: {seen}")
                time.sleep(POLL_SECONDS)
        if told:
            self.ok(f"{expected} ({now - began:.1f} s)")
        return now - began

    def require(self, held: bool, expected: str, seen: str, how: str = "") -> None:
        """Tells that an expectation holds; raises Unmet when it does not."""
        if not held:
            raise Unmet(expected, seen, how)
        self.ok(expected)

    def summary(self, rows: list[tuple[str, float, bool]], total: float) -> None:
        """The last table: each step, its seconds, and whether all of it held."""
        table = Table(box=box.SIMPLE_HEAD, title_justify="left")
        table.add_column("step")
        table.add_column("seconds", justify="right")
        table.add_column("ok", justify="center")
        for title, seconds, held in rows:
            table.add_row(title, f"{seconds:.1f}", Text("✓", "green") if held else Text("✗", "bold red"))
        table.add_section()
        table.add_row(Text("total", "bold"), Text(f"{total:.1f}", "bold"), "")
        self.console.print()
        self.console.print(table)

    def save(self, path: Path) -> None:
        """What was printed, as an SVG picture."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.console.save_svg(str(path), title="make demo", theme=MONOKAI)
