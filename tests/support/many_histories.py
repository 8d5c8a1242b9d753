"""Live very many histories beside supervisor.erl: `python -m support.many_histories --count 100000 --jobs 2` (`make histories`).

The same seeds give the same histories. Prints what there was to see, and each divergence with the seed that shows it again.
"""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing import Pool

from support.beside_otp import live
from support.histories import Seeded, a_history

CHUNK = 250


def lived(seed: int) -> Counter[str]:
    """What there was to see in the history of that seed; raises Divergence."""
    return live(a_history(Seeded(random.Random(seed))))


def _chunk(seeds: range) -> tuple[Counter[str], list[str]]:
    seen: Counter[str] = Counter()
    wrong = []
    for seed in seeds:
        try:
            seen.update(lived(seed))
        except Exception as problem:  # whatever it is, the rest is still worth knowing
            wrong.append(f"seed {seed}: {type(problem).__name__}: {problem}")
    return seen, wrong


def main() -> int:
    """0 when every history ended alike on both sides."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000, help="how many histories (default: 100,000)")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    options = parser.parse_args()
    began, seen, wrong = time.monotonic(), Counter[str](), 0
    with Pool(options.jobs) as pool:
        for found, problems in pool.imap_unordered(_chunk, _chunks(options.first_seed, options.count)):
            seen.update(found)
            for problem in problems:
                wrong += 1
                print(problem, flush=True)
            if seen["histories"] % (40 * CHUNK) == 0:
                print(f"{seen['histories']} histories, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    for what, count in sorted(seen.items()):
        print(f"{what.replace('_', ' '):<18}{count:>10,}")
    print(f"{wrong} of {options.count:,} histories diverged from supervisor.erl; {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


def _chunks(first: int, count: int) -> Iterator[range]:
    for start in range(first, first + count, CHUNK):
        yield range(start, min(start + CHUNK, first + count))


if __name__ == "__main__":
    sys.exit(main())
