"""Whole commands on damaged files: exit codes, what is printed, what is left behind."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

from irsde_deploy.errors import IrsdeError

from .kind import Kind, Wrong, require
from .models import CHECKPOINTS, ONNX, PLANS
from .packs import PACKS
from .pictures import METADATA, PICTURES
from .streams import Y4M
from .texts import MANIFESTS, TOML, YAML
from .videos import VIDEOS

DOCUMENTED = (0, 1, 2, 3, 4, 5)
_PARTS = {
    kind.name: kind
    for kind in (PICTURES, METADATA, VIDEOS, Y4M, ONNX, PLANS, CHECKPOINTS, PACKS, YAML, TOML, MANIFESTS)
}
_LINE = re.compile(r"irsde-deploy( [a-z]+)?: |Usage: |  |\d+ of \d+|[^:]+: ")
_ESCAPES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def _make(folder: Path) -> None:
    from small_network import write_small_network

    for name, kind in _PARTS.items():
        (folder / name).mkdir()
        kind.make(folder / name)
    write_small_network(folder / "engine.onnx")


def _damage(rng: Random, good: Path, target: Path) -> Path:
    name = rng.choice((*_PARTS, "videos", "pictures"))
    made = target / name
    made.mkdir()
    path = _PARTS[name].damage(rng, good / name, made)
    for further in made.iterdir():  # what a kind puts beside the damaged file for its own reader
        if further.name.startswith("good_"):
            further.unlink()
    (target / "engine.onnx").write_bytes((good / "engine.onnx").read_bytes())
    (target / "good.pt").write_bytes((good / "checkpoints" / "own.pt").read_bytes())
    if name in ("pictures", "metadata"):  # in a folder with others, which must not suffer
        for neighbour in ("grey.png", "b.jpg"):
            (made / neighbour).write_bytes((good / "metadata" / neighbour).read_bytes())
    return path


def _words(path: Path, outputs: Path) -> tuple[list[object], Path | None]:
    """The command for a damaged file, and what it reads from stdin."""
    name, engine = path.parent.name, path.parents[1] / "engine.onnx"
    run = ["run", "--engine", engine, "--sampler", "mean", "--steps", 1]
    commands: dict[str, list[object]] = {
        "pictures": [*run, path.parent, "-o", outputs / "restored"],
        "metadata": [*run, path.parent, "-o", outputs / "restored", "--format", "png"],
        "videos": [*run, path, "-o", outputs / "out.mkv"],
        "y4m": [*run, "-", "-o", "-"],
        "onnx": ["run", "--engine", path, path.parent / "none.png", "-o", outputs / "o.png"],
        "plans": ["inspect", path, "--json"],
        "checkpoints": ["inspect", path],
        "packs": ["selftest", path],
        "yaml": ["export", path.parents[1] / "good.pt", "--opt", path, "-o", outputs / "m.onnx"],
        "toml": ["train", "--recipe", path, "--lq", outputs / "none", "--gt", outputs / "none", "-o", outputs / "run"],
        "manifests": ["calibrate", engine, "--manifest", path, "-o", outputs / "i.onnx"],
    }
    return commands[name], path if name == "y4m" else None


def _read(path: Path, outputs: Path) -> None:
    words, given = _words(path, outputs)
    code, _, stderr = in_this_process(words, given)
    require(code in DOCUMENTED, f"exit code {code}: {stderr[-600:]}")
    require("Traceback" not in stderr, f"a traceback: {stderr[-600:]}")
    found = _ESCAPES.search(stderr)
    require(found is None, f"a control character on stderr: {stderr[-300:]!r}")
    for line in stderr.splitlines():
        require(len(line.replace(str(path.parents[2]), "")) < 700, f"a line of {len(line)} characters: {line[:300]}")
        require(_LINE.match(line) is not None, f"something else printed: {line[:200]!r}")
    if code:
        require(bool(stderr.strip()), f"exit code {code} without a word")
    if path.parent.name in ("pictures", "metadata"):
        left = {entry.stem for entry in (outputs / "restored").glob("*")}
        require({"grey", "b"} <= left, f"one picture stopped the others: {sorted(left)}, {stderr[-300:]}")
    leftovers = [str(entry) for entry in outputs.rglob("*.part")]
    require(not leftovers, f"left behind: {leftovers}")
    if code:
        raise IrsdeError(stderr.splitlines()[-1])


def in_this_process(words: list[object], given: Path | None) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command, whatever writes there: Python or a native library."""
    from irsde_deploy.__main__ import main

    before = sys.argv
    sys.argv = ["irsde-deploy", *map(str, words)]
    try:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            with _descriptors(given, out.fileno(), err.fileno()):
                code = _code_of(main)
            texts = []
            for stream in (out, err):
                stream.seek(0)
                texts.append(stream.read(1_000_000).decode("utf-8", "replace"))
    finally:
        sys.argv = before
    return code, texts[0], texts[1]


def _code_of(main: Callable[[], object]) -> int:
    try:
        main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    raise Wrong("the command came back")


class _descriptors:
    """stdin, stdout and stderr of this process are others within the block."""

    def __init__(self, given: Path | None, out: int, err: int) -> None:
        self._stdin = os.open(given or os.devnull, os.O_RDONLY)
        self._wanted = (self._stdin, out, err)

    def __enter__(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._kept = [os.dup(number) for number in range(3)]
        for number, wanted in enumerate(self._wanted):
            os.dup2(wanted, number)
        self._stdins = sys.stdin
        sys.stdin = os.fdopen(os.dup(0))

    def __exit__(self, *_: object) -> None:
        sys.stdin.close()
        sys.stdin = self._stdins
        for number, kept in enumerate(self._kept):
            os.dup2(kept, number)
            os.close(kept)
        os.close(self._stdin)


COMMANDS = Kind("commands", _make, _damage, _read, most_seconds=60, most_mib=2500, weight=3)
