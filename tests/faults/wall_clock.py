"""A wall clock of one operator's own, which can be wrong, stepped and shaken; its monotonic clock stays as it is.

libfaketime sits between the process and the C library, so no reader of the time can be missed. The offset is in a file, which
it reads anew at every call.
"""

import asyncio
import importlib.util
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LIBRARY: Final = "vendor/libfaketime/src/libfaketime.so.1"
SHOWN: Final = "import time; print(time.time(), time.monotonic())"
SHAKE_SECONDS: Final = 0.2


@dataclass(frozen=True)
class WallClock:
    """The clock whose offset is in `file`."""

    file: Path

    @classmethod
    async def wrong_by(cls, seconds: float, folder: Path, name: str = "clock") -> "WallClock":
        """A clock that is ahead by so much; fails where the library does not work, as every plan would pass then."""
        clock = cls(folder / name)
        await clock._works()
        clock.step(seconds)
        return clock

    def environment(self) -> dict[str, str]:
        """What a process is started with to live by this clock."""
        found = importlib.util.find_spec("libfaketime")
        assert found is not None, "libfaketime is not installed: make venv"
        assert found.submodule_search_locations, "libfaketime is no package"
        return {
            "LD_PRELOAD": str(Path(found.submodule_search_locations[0]) / LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }

    def step(self, seconds: float) -> None:
        """From now on the clock is ahead by so much, or behind."""
        written = self.file.with_suffix(".new")  # replaced as a whole: it may be read at any moment
        written.write_text(f"{seconds:+.3f}\n")
        written.replace(self.file)

    async def shake(self, most: float, seed: int) -> None:
        """Wrong by another amount, at most so much, every moment until this is cancelled."""
        chance = random.Random(seed)
        while True:
            self.step(chance.uniform(-most, most))
            await asyncio.sleep(SHAKE_SECONDS)

    async def _works(self) -> None:
        for seconds in (7200.0, -7200.0):
            self.step(seconds)
            wall, monotonic = await self._shown()
            wrong = wall - time.time()
            assert abs(wrong - seconds) < 60, f"a clock that should be ahead by {seconds} s is ahead by {wrong:.1f} s"
            assert abs(monotonic - time.monotonic()) < 60, "the monotonic clock is not the machine's"

    async def _shown(self) -> tuple[float, float]:
        """What a process that lives by this clock sees on both of its clocks."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SHOWN, env=self.environment(), stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        wall, monotonic = out.decode().split()
        return float(wall), float(monotonic)
