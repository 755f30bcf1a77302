"""`make mutants`: writes each small fault of the lists into a copy of the code, and says which no test notices."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from .mutant import Mutant, read_rooms
from .sweep import small_faults
from .trying import SURVIVED, Copy, Outcome

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Try the mutants asked for; exit code 1 if one survived."""
    parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    parser.add_argument("--room", action="append", help="lists to take (tests/mutants/rooms/ROOM.toml); by default all")
    parser.add_argument("--fault", default="", help="only mutants whose name or file contains this")
    parser.add_argument("--number", type=int, help="only so many, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--jobs", type=int, default=1, help="copies of the code, each tried in a process of its own")
    parser.add_argument("--sweep", metavar="FILE", help="instead of the lists: every fault of a few kinds in FILE")
    parser.add_argument("--tests", nargs="+", default=["tests"], help="the tests nearest to FILE")
    parser.add_argument("--list", action="store_true", help="print what would be tried, and try nothing")
    given = parser.parse_args()
    if given.sweep:
        mutants = small_faults(ROOT, given.sweep, tuple(given.tests))
    else:
        mutants = [mutant for mutant in read_rooms() if not given.room or mutant.room in given.room]
    mutants = [mutant for mutant in mutants if given.fault in f"{mutant.fault} {mutant.file}" and not mutant.equivalent]
    if given.number is not None:
        mutants = random.Random(given.seed).sample(mutants, min(given.number, len(mutants)))
    if given.list:
        for mutant in mutants:
            print(f"{mutant.room}: {mutant.file}: {mutant.fault}")
        return 0
    return _try_all(mutants, given.jobs)


def _try_all(mutants: list[Mutant], jobs: int) -> int:
    counts: Counter[str] = Counter()
    survivors = []
    with tempfile.TemporaryDirectory(prefix="irsde-mutants-") as folder:
        copies: SimpleQueue[Copy] = SimpleQueue()
        for number in range(jobs):
            copies.put(Copy(ROOT, Path(folder) / str(number)))
        for tests in dict.fromkeys(mutant.tests for mutant in mutants):
            copy = copies.get()
            if not copy.passes(tests):
                print(f"without any fault, {' '.join(tests)} does not pass", file=sys.stderr)
                return 2
            copies.put(copy)
        for outcome in _outcomes(mutants, copies, jobs):
            counts[outcome.verdict] += 1
            if outcome.verdict == SURVIVED:
                survivors.append(outcome.mutant)
            what = f"{outcome.mutant.room}: {outcome.mutant.fault}"
            print(f"{outcome.verdict:8} {outcome.seconds:5.1f} s  {what}  [{outcome.by}]", flush=True)
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    for mutant in survivors:
        print(f"survived: {mutant.file}\n    {mutant.old!r}\n    {mutant.new!r}")
    return 1 if survivors else 0


def _outcomes(mutants: list[Mutant], copies: SimpleQueue[Copy], jobs: int) -> Iterator[Outcome]:
    def attempt(mutant: Mutant) -> Outcome:
        copy = copies.get()
        try:
            return copy.attempt(mutant)
        finally:
            copies.put(copy)

    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(attempt, mutants)


if __name__ == "__main__":
    sys.exit(main())
