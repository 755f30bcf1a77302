"""steps.txt: what a runtime that is not Python must know of a pack, as lines of text.

    irsde-steps 1                            format version
    backend openvino                         then one `key value` a line, each key once
    ...
    steps 20
    step 100 0x1.9p-1 ...                    t a c d s p r, one line a step, C's hexadecimal floats: nothing is lost
    end

Lines that begin with # are comments: the same numbers for people. runtimes/cpp/src/pack.cpp reads the file too, and
whatever is refused here is refused there; a test gives both the same damaged packs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..core.card import PAD_MODES
from ..core.margin import MAX_MARGIN
from ..core.noise import MAX_SEED
from ..core.samplers import StepTable
from ..core.sampling import Plan
from ..errors import InputFileError
from ..system.files import require_readable
from .steps_values import coefficient, flag, one_of, sha256, tolerance, whole, words

HEADER = "irsde-steps 1"
"""The first line of every file of this version."""

BACKENDS = {"openvino": "engine.onnx", "tensorrt": "engine.plan", "tensorrt-rtx": "engine.plan"}
"""Name of what runs a pack's engine -> name of the engine's file."""

# What a file may hold at most, the same as in pack.cpp: far above what is written, so that a damaged file is found and
# does not take the memory.
MAX_BYTES = 4 * 2**20
MAX_STEPS = 10_000
MAX_REFERENCE_SIDE = 8192
MAX_MULTIPLE = 256
_MAX_T = 1_000_000
_COLUMNS = ("a", "c", "d", "s", "p", "r")


@dataclass(frozen=True, eq=False)
class PackSettings:
    """What steps.txt says. The file has the fields in this order, and the table last.

    Attributes:
        backend: what runs the engine, one of `BACKENDS`.
        engine_bytes: the size of the engine's file.
        channels, multiple_of, pad_mode, conditional, precision, task, margin: as in the model card; a margin of 0 is
            not written, so that the file stays that of earlier versions, which know of none and refuse others.
        latent: whether the network works on latents.
        clip: whether the predicted picture is kept within [0, 1] at each step.
        seed: what noise is drawn from where a run names no seed.
        sampler: the name of the sampler that the table was made of, for people.
        reference_height, reference_width: the size of the reference arrays in pixels.
        tolerance: how far the restored reference may be from the pack's, relative to its largest value where that is
            above 1; above 0, at most 0.5.
        table: the step table.
        engine_sha256: the SHA-256 of the engine's file, hexadecimal; "" in packs of earlier versions. What is damaged
            does not come as far as the libraries, some of which crash on it.
    """

    backend: str
    engine_bytes: int
    channels: int
    multiple_of: int
    pad_mode: str
    conditional: bool
    latent: bool
    clip: bool
    seed: int
    precision: str
    sampler: str
    task: str
    reference_height: int
    reference_width: int
    tolerance: float
    table: StepTable
    margin: int = 0
    engine_sha256: str = ""

    @property
    def engine(self) -> str:
        """The name of the engine's file in the pack's folder."""
        return BACKENDS[self.backend]

    @property
    def plan(self) -> Plan:
        """What a loop executes. Whether a bias was taken out is in the table's numbers, and said nowhere else."""
        return Plan(self.table, self.sampler, self.clip)


def to_text(settings: PackSettings) -> str:
    """Write the text of steps.txt."""
    table = settings.table
    lines = [HEADER]
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name != "table" and (value or field.name not in _OPTIONAL):
            lines.append(f"{field.name} {_written(value)}".rstrip())  # a text may be empty
    lines += [
        f"start {float(table.start).hex()}",
        f"# start {table.start:.9g}",
        f"steps {len(table)}",
        "# t a c d s p r",
    ]
    for k, t in enumerate(table.t.tolist()):
        row = [float(getattr(table, column)[k]) for column in _COLUMNS]
        exact = " ".join(value.hex() for value in row)
        rounded = " ".join(f"{value:.9g}" for value in row)
        lines += [f"step {t} {exact}", f"# {t} {rounded}"]
    return "\n".join([*lines, "end", ""])


def _written(value: Any) -> str:
    """A value as it stands in the file; of a text, what fits on one line."""
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, str):
        printable = "".join(c if c.isprintable() else " " for c in value)
        return " ".join(printable.split())[:200]  # four bytes a character at most, of the 800 that are read
    return str(int(value))  # True and False as 1 and 0


def require_pack_file(path: Path) -> None:
    """Raise InputFileError unless a file of a pack is an ordinary one with something in it."""
    try:
        if not path.exists():
            raise InputFileError(f"{path}: no such file")  # and no other of the pack's was meant
        require_readable(path)
    except InputFileError as error:
        raise InputFileError(f"{error}: pack the engine again with 'irsde-deploy pack'") from None


def is_steps_file(path: Path) -> bool:
    """Whether a file begins as steps.txt does in every version of it, whatever follows."""
    begin = HEADER.partition(" ")[0].encode() + b" "  # without the version's number
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(begin)) == begin


def read_steps_file(path: Path) -> PackSettings:
    """Read and check steps.txt; anything that is missing, unknown or out of range is an error.

    Raises:
        InputFileError: no such file, or not what `to_text` writes.
    """
    require_pack_file(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("it is larger than any of its kind")
        return _parsed(path.read_bytes().decode("utf-8"))  # not as text, which would take \r for an end of line too
    except UnicodeDecodeError:
        raise InputFileError(f"{path}: it is not UTF-8 text: pack the engine again with 'irsde-deploy pack'") from None
    except ValueError as error:
        raise InputFileError(f"{path}: {error}: pack the engine again with 'irsde-deploy pack'") from None


def _parsed(text: str) -> PackSettings:
    """Read the text of steps.txt; raises ValueError with what is wrong, as all that follows here."""
    values, steps = _split(text)
    content: dict[str, Any] = {}
    for key, parse in _PARSERS.items():
        if key not in values:
            if key in _OPTIONAL:
                continue
            raise ValueError(f"it does not say {key!r}")
        try:
            content[key] = parse(values.pop(key))
        except ValueError as error:
            raise ValueError(f"its {key!r} is wrong ({error})") from None
    if values:
        raise ValueError(f"it says {next(iter(values))[:40]!r}, which is unknown")
    table = _table(content.pop("start"), content.pop("steps"), steps)
    if content["clip"] and not table.r.all():  # what is clipped would not depend on the network
        raise ValueError(f"its step {int(np.argmin(table.r != 0)) + 1} has r = 0, which does not go with clip")
    return PackSettings(**content, table=table)


def _split(text: str) -> tuple[dict[str, str], list[str]]:
    """Return the lines as a dict of keys and values, and the values of the steps in order."""
    values: dict[str, str] = {}
    steps = []
    for line in _lines(text):
        key, _, value = line.partition(" ")
        if key == "step":
            steps.append(value)
        elif key in values:
            raise ValueError(f"it says {key[:40]!r} twice")
        else:
            values[key] = value
    return values, steps


def _lines(text: str) -> list[str]:
    """Return the lines between the first and the last one, without comments."""
    first, *lines = text.split("\n")
    if first != HEADER:
        raise ValueError(f"its first line is not {HEADER!r}, which this irsde-deploy reads")
    lines = [line for line in lines if line and not line.startswith("#")]
    if lines[-1:] != ["end"]:
        raise ValueError("it is cut short")
    return lines[:-1]


def _table(start: float, count: int, lines: list[str]) -> StepTable:
    """Make the step table out of its lines, of which there must be `count`."""
    rows = [line.split(" ") for line in lines]
    if len(rows) != count or any(len(row) != 1 + len(_COLUMNS) for row in rows):
        raise ValueError("it has not as many steps as it says, of seven numbers each")
    timestep = whole(1, _MAX_T)
    t = np.array([timestep(row[0]) for row in rows], dtype=np.int64)
    if (np.diff(t) >= 0).any():
        raise ValueError("its timesteps do not decrease")
    coefficients = []
    for row in rows:
        coefficients.append([coefficient(word) for word in row[1:]])
    a, c, d, s, p, r = np.array(coefficients).T
    return StepTable(t, a, c, d, s, p, r, start)


_SIDE = whole(1, MAX_REFERENCE_SIDE)
_PARSERS: dict[str, Callable[[str], Any]] = {
    "backend": one_of(*BACKENDS),
    "engine_bytes": whole(1, MAX_SEED),
    "channels": whole(1, 256),
    "multiple_of": whole(1, MAX_MULTIPLE),
    "pad_mode": one_of(*PAD_MODES),
    "conditional": flag,
    "latent": flag,
    "clip": flag,
    "seed": whole(0, MAX_SEED),
    "precision": words,
    "sampler": words,
    "task": words,
    "reference_height": _SIDE,
    "reference_width": _SIDE,
    "tolerance": tolerance,
    "start": coefficient,
    "steps": whole(1, MAX_STEPS),
    "margin": whole(1, MAX_MARGIN),
    "engine_sha256": sha256,
}
"""Key -> function that reads its value. A file has all of them, each once, but for `_OPTIONAL`."""

_OPTIONAL = {"margin", "engine_sha256"}
