"""Kill commands at random moments, run them again, and compare every byte with an unbroken run's.

    PYTHONPATH=tests python tests/kill/kill.py [--kills 100] [--seed 0] [--only run,video]

Half of the kills come at any moment, the other half soon after a command has begun to write. Three in four are SIGKILL,
the others SIGTERM. After each kill an output is either what it was before or complete. Then the same command is run
again, resuming or overwriting as a user would: it must succeed, its outputs must be those of the unbroken run, and
nothing else may be left. The table says how often something was not so; it exits with 1 then.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from calibration_pairs import write_pairs
from places import TESTS
from sample_pictures import write_photographs
from small_network import write_small_network
from small_quantisable import small_quantisable
from videos import SD, YUV420, planes_of, write_video

from irsde_deploy.graphs.onnx_file import write_model

PROGRAM = [sys.executable, "-m", "irsde_deploy"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
FRAMES = 40
"""Of the clip."""

Digests = dict[str, str]


def file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digests(folder: Path) -> Digests:
    """The SHA-256 of every file below a folder, hidden ones included, by its path."""
    return {str(path.relative_to(folder)): file_digest(path) for path in folder.rglob("*") if path.is_file()}


def run_digests(folder: Path) -> Digests:
    """The same of a training run: its weights, and its log without the times."""
    from irsde_deploy.networks.checkpoints import load_safely

    found = digests(folder)
    for path in folder.rglob("*.pt"):
        if not path.name.startswith("."):
            weights = load_safely(path)["weights"]
            content = b"".join(name.encode() + weights[name].numpy().tobytes() for name in sorted(weights))
            found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    for path in folder.rglob("log.csv"):
        rows = [line.split(",") for line in path.read_text().splitlines()]
        found[str(path.relative_to(folder))] = repr([[*row[:3], *row[4:]] for row in rows])
    for name in [name for name in found if name.endswith("curve.png") or "tensorboard" in name]:
        del found[name]  # which show times
    return found


@dataclass(frozen=True)
class Kind:
    """A command that is killed.

    Attributes:
        name: of the command.
        first, again: its arguments, at first and after a kill; outputs go into the folder OUT.
        before: what is in the output folder before it starts: makes it, in an empty folder.
        digests: of what is in an output folder.
        begun: what is there where an interrupted run left something on purpose, by which `again` goes on.
    """

    name: str
    first: tuple[str, ...]
    again: tuple[str, ...]
    before: Callable[[Path], None] = lambda folder: None
    digests: Callable[[Path], Digests] = digests
    begun: str = ""

    @property
    def resumes_partly(self) -> bool:
        """Whether an interrupted run leaves something on purpose."""
        return bool(self.begun)

    def has_begun(self, out: Path) -> bool:
        """Whether there is something in an output folder to go on from."""
        return (out / self.begun).exists()


@dataclass
class Score:
    """What came of the kills of a kind."""

    kills: int = 0
    while_writing: int = 0
    half_written: int = 0
    not_finished: int = 0
    different: int = 0
    left: int = 0
    faults: list[str] = field(default_factory=list)


def command(arguments: Sequence[str], out: Path) -> list[str]:
    return [*PROGRAM, *(str(out) + text[3:] if text.startswith("OUT") else text for text in arguments)]


def kinds(inputs: Path) -> list[Kind]:
    """What is killed, on inputs in a folder."""
    clip, small, quantisable = (str(inputs / name) for name in ("clip.mp4", "small.onnx", "quantisable.onnx"))
    pictures, pairs, checkpoint = (str(inputs / name) for name in ("pictures", "pairs", "checkpoint.pt"))
    run = ("run", "--engine", small, "--steps", "10")
    train = ("train", "--recipe", str(TESTS / "data" / "tiny_recipe.toml"), "--gt", f"{pairs}/GT", "--iterations", "6")
    train += ("--degradation", "rain", "--set", "save_every=1", "--set", "validate_every=2", "-o", "OUT/run")
    calibrate = ("calibrate", quantisable, "--data", f"{pairs}/LQ", "--states", "8", "-o", "OUT/int8.onnx")
    pack = ("pack", small, "-o", "OUT/pack", "--overwrite")
    export = ("export", checkpoint, "-o", "OUT/model.onnx", "--overwrite")

    def an_older_pack(out: Path) -> None:
        subprocess.run(command(("pack", small, "--seed", "1", "-o", "OUT/pack"), out), check=True, capture_output=True)

    def an_older_model(out: Path) -> None:
        shutil.copy(small, out / "model.onnx")

    return [
        Kind("run", (*run, pictures, "-o", "OUT/all"), (*run, pictures, "-o", "OUT/all", "--skip-existing")),
        Kind(
            "video", (*run, clip, "-o", "OUT/v.mp4"), (*run, clip, "-o", "OUT/v.mp4", "--resume"), begun=".v.mp4.irsde"
        ),
        Kind("train", train, ("train", "--resume", "OUT/run"), digests=run_digests, begun="run/last.pt"),
        Kind("calibrate", calibrate, (*calibrate, "--overwrite")),
        Kind("pack", pack, pack, an_older_pack),
        Kind("export", export, export, an_older_model),
    ]


def write_inputs(folder: Path, names: Sequence[str]) -> None:
    """The pictures, pairs, clip and models that commands of these names take."""
    write_small_network(folder / "small.onnx")
    model, card = small_quantisable()
    write_model(model, card, folder / "quantisable.onnx")
    (folder / "pictures").mkdir()
    write_photographs(folder / "pictures", 24)
    write_pairs(folder / "pairs")
    write_video(folder / "clip.mp4", planes_of(FRAMES, YUV420, SD, 48, 64))
    if "export" not in names:
        return
    train = ["train", "--recipe", str(TESTS / "data" / "tiny_recipe.toml"), "--gt", str(folder / "pairs" / "GT")]
    train += ["--degradation", "rain", "--iterations", "1", "-o", str(folder / "first")]
    subprocess.run([*PROGRAM, *train], check=True, capture_output=True, env=ENVIRONMENT)
    (folder / "first" / "last.pt").rename(folder / "checkpoint.pt")


def prepare(out: Path, older: Path) -> None:
    """Make the output folder what it is before the command starts."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(older, out)


def killed(kind: Kind, out: Path, seconds: float, chance: random.Random) -> bool:
    """Start a command and kill it; whether it was still at work."""
    sent = signal.SIGTERM if chance.random() < 0.25 else signal.SIGKILL
    soon = chance.random() < 0.5
    wait = chance.uniform(0, seconds)
    before = set(out.rglob("*"))
    process = subprocess.Popen(
        command(kind.first, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
    )
    started = time.monotonic()
    if soon:
        while process.poll() is None and set(out.rglob("*")) == before:
            time.sleep(0.001)
        wait = time.monotonic() - started + chance.uniform(0, 0.05 if chance.random() < 0.5 else seconds / 4)
    try:
        process.wait(max(0.0, started + wait - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.send_signal(sent)
    process.wait()
    return process.returncode in (-sent, 130)


def judge(kind: Kind, out: Path, older: Digests, whole: Digests, score: Score) -> None:
    """Run a command again that was killed, and count what is not as it should be."""
    score.kills += 1
    found = kind.digests(out)
    hidden = {name for name in found if any(part.startswith(".") for part in Path(name).parts)}
    score.while_writing += found != older
    wrong = [name for name in found.keys() - hidden if found[name] not in (older.get(name), whole.get(name))]
    if kind.resumes_partly:
        wrong = []  # what it leaves is not yet whole by design: that it can be read shows when it goes on
    elif missing := [name for name in older if name not in found]:
        wrong += missing
    if wrong:
        score.half_written += 1
        score.faults.append(f"{kind.name}: half-written after a kill: {', '.join(wrong)}")
    again = kind.again
    if kind.resumes_partly and not kind.has_begun(out):
        again = kind.first
    elif found == whole:  # killed when all was done
        return
    done = subprocess.run(command(again, out), capture_output=True, text=True, env=ENVIRONMENT)
    if done.returncode:
        score.not_finished += 1
        score.faults.append(f"{kind.name}: the next run exits with {done.returncode}: {done.stderr.strip()}")
        return
    found = kind.digests(out)
    if left := sorted(found.keys() - whole.keys()):
        score.left += 1
        score.faults.append(f"{kind.name}: left behind: {', '.join(left)}")
    if different := sorted(name for name in whole if found.get(name) != whole[name]):
        score.different += 1
        score.faults.append(f"{kind.name}: not the unbroken run's: {', '.join(different)}")


def measured(kind: Kind, folder: Path, kills: int, chance: random.Random) -> Score:
    """Kill a command so many times."""
    older_folder, out, score = folder / "older", folder / "out", Score()
    shutil.rmtree(older_folder, ignore_errors=True)
    older_folder.mkdir()
    kind.before(older_folder)
    prepare(out, older_folder)
    older = kind.digests(out)
    started = time.monotonic()
    subprocess.run(command(kind.first, out), check=True, capture_output=True, env=ENVIRONMENT)
    seconds = time.monotonic() - started
    whole = kind.digests(out)
    for _ in range(4 * kills):
        if score.kills == kills:
            break
        prepare(out, older_folder)
        if killed(kind, out, seconds, chance):
            judge(kind, out, older, whole, score)
    return score


def row(name: str, score: Score) -> str:
    faults = (score.half_written, score.not_finished, score.different, score.left)
    return f"| {name} | {score.kills} | {score.while_writing} | {' | '.join(map(str, faults))} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="in all")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--only", default="", help="names of commands, with commas between them")
    options = parser.parse_args()
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "inputs"
        inputs.mkdir()
        chosen = [kind for kind in kinds(inputs) if not options.only or kind.name in options.only.split(",")]
        write_inputs(inputs, [kind.name for kind in chosen])
        print(f"{options.kills} kills, seed {options.seed}\n")
        print("| command | kills | while it wrote | half-written | not finished | different | left behind |")
        print("|---|---|---|---|---|---|---|", flush=True)
        for number, kind in enumerate(chosen):
            share = options.kills * (number + 1) // len(chosen) - options.kills * number // len(chosen)
            score = measured(kind, Path(folder), share, random.Random(f"{options.seed} {kind.name}"))
            print(row(kind.name, score), flush=True)
            faults += score.faults
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
