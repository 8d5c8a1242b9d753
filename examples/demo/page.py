"""What the person sees: steps, commands with their real output, checks; colours on a terminal, plain text elsewhere."""

import io
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from rich import box
from rich.console import Console, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.terminal_theme import MONOKAI
from rich.text import Text

from examples.demo.errors import Unmet

POLL_SECONDS = 0.1
# Without a terminal there is no spinner: a line now and then says that the demo is alive.
HEARTBEAT_SECONDS = 15.0
WIDTH = 112


class Page:
    """What is printed goes to the console; and, while `pictured` is set, into a picture as well."""

    def __init__(self) -> None:
        self.console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
        self.lively = self.console.is_terminal
        self.pictured = False
        self._picture = Console(width=WIDTH, highlight=False, record=True, file=io.StringIO(), force_terminal=True)

    def _print(self, text: RenderableType = "", *, whole: bool = False) -> None:
        """`whole` lines are left to the terminal to break: they can be copied."""
        self.console.print(text, soft_wrap=whole)
        if self.pictured:
            self._picture.print(text)

    def opening(self, title: str, lines: list[str]) -> None:
        """The head of the first page."""
        self._print()
        self._print(Text(title, "bold"))
        for line in lines:
            self._print(Text(line, "dim"))

    def step(self, number: int, title: str, shows: str, why: str) -> None:
        """A step's heading: what it shows, and why it takes more than Kubernetes."""
        self._print()
        self._print(Rule(Text(f"{number} · {title}", "bold cyan"), align="left", style="cyan"))
        self._print(Text(shows))
        if why:
            self._print(Text.assemble(("Kubernetes alone: ", "yellow"), why))

    def command(self, command: str, output: str = "") -> None:
        """A command as a person would type it, and what it printed."""
        self._print()
        self._print(Text.assemble(("$ ", "dim"), (command, "bold")), whole=True)
        for line in output.rstrip().splitlines():
            self._print(Text(f"  {line}".rstrip()), whole=True)

    def line(self, text: str) -> None:
        """A line of a tool that is at work."""
        self._print(Text(f"  {text.rstrip()}", "dim"), whole=True)

    def note(self, text: str) -> None:
        """A sentence, or a command to copy."""
        self._print(Text(text), whole=True)

    def ok(self, text: str) -> None:
        """An expectation that held."""
        self._print(Text.assemble(("✓ ", "bold green"), text))

    def unmet(self, problem: Unmet) -> None:
        """The expectation that did not hold, and how to look."""
        self._print()
        self._print(Text.assemble(("✗ expected: ", "bold red"), problem.expected))
        self._print(Text.assemble(("  seen:     ", "bold red"), problem.seen))
        if problem.look:
            self._print(Text.assemble(("  to look:  ", "bold red"), problem.look))

    def error(self, text: str) -> None:
        """Why the demo cannot go on."""
        self._print()
        self._print(Text.assemble(("✗ ", "bold red"), text))

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
        self._print()
        self._print(table)

    def save(self, path: Path) -> None:
        """The picture, as SVG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        svg = self._picture.export_svg(title="make demo", theme=MONOKAI)
        # A picture that stands alone: rich would have the font fetched from the web.
        path.write_text(re.sub(r"@font-face \{.*?\}\n", "", svg, flags=re.DOTALL).replace("Fira Code", "ui-monospace"))
