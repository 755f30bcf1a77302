"""`make fuzz`: every kind for its share of the time, or one kind, or one file of one kind."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

from .attack import KINDS, Worker, attack, command, table
from .kinds.packs import build

FAULTS = 1


def main() -> int:
    """Attack, print the table, and say by the exit code whether there were faults."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--kind", choices=[name.replace(" ", "-") for name in KINDS], help="one kind alone")
    parser.add_argument("--seed", type=int, help="of the damage; by default another one every day")
    parser.add_argument("--number", type=int, help="one file of the kind alone, which is kept")
    parser.add_argument("--files", type=int, help="at most so many files of a kind")
    parser.add_argument("--minutes", type=float, default=10, help="for all kinds together")
    parser.add_argument("--folder", type=Path, default=Path(".fuzz"), help="where faulty files and builds are kept")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else int(datetime.now(timezone.utc).strftime("%Y%m%d"))
    kept: Path = given.folder.resolve()
    kept.mkdir(exist_ok=True)
    kinds = [kind for name, kind in KINDS.items() if given.kind in (None, name.replace(" ", "-"))]
    if any(kind.name in ("packs",) for kind in kinds):
        _build(kept)
    with tempfile.TemporaryDirectory(prefix="irsde-fuzz-") as folder:
        worker = Worker(Path(folder).resolve())
        try:
            if given.number is not None:
                return _one(worker, kinds[0].name, seed, given.number, kept)
            return _all(worker, kinds, seed, given, kept)
        finally:
            worker.close()


def _build(kept: Path) -> None:
    """Build the C library under sanitizers, once; without a compiler packs are read in Python alone."""
    folder = kept / "build"
    folder.mkdir(exist_ok=True)
    try:
        build(folder)
    except (RuntimeError, ImportError) as error:
        print(f"packs are read in Python alone, since the C library cannot be built: {str(error)[:500]}", flush=True)
    else:
        os.environ["IRSDE_FUZZ_BUILD"] = str(folder)


def _one(worker: Worker, kind: str, seed: int, number: int, kept: Path) -> int:
    answer = worker(kind, seed, number)
    print(f"{answer.outcome}: {answer.what}\n{answer.where}\n{answer.seconds:.2f} s, {answer.mib:.0f} MiB")
    from .attack import _keep

    target = kept / f"{kind.replace(' ', '-')}-{seed}-{number}"
    _keep(worker.folder, target)
    print(f"the file is in {target}")
    return FAULTS if answer.outcome == "fault" else 0


def _all(worker: Worker, kinds: list[object], seed: int, given: argparse.Namespace, kept: Path) -> int:
    seconds = 60 * given.minutes
    shares = sum(kind.weight for kind in kinds)  # type: ignore[attr-defined]
    print(f"seed {seed}; {len(kinds)} kinds, {given.minutes:g} minutes", flush=True)
    figures = []
    for kind in kinds:
        share = seconds * kind.weight / shares  # type: ignore[attr-defined]
        figures.append(attack(worker, kind, seed, share, given.files, kept))  # type: ignore[arg-type]
        print(figures[-1].row, flush=True)
    print(f"\nSeed {seed}, commit {_commit()}, Python {platform.python_version()}:\n\n{table(figures)}\n")
    faults = [(entry.kind, number, what) for entry in figures for number, what in entry.faults.items()]
    for kind, number, what in faults[:50]:
        print(f"{command(kind, seed, number)}    {what[:160]}")
    if faults:
        print(f"{len(faults)} faults; the files are in {kept}")
    return FAULTS if faults else 0


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
