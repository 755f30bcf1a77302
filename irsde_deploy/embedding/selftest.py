"""A pack compared with its own reference: `irsde-deploy selftest`, as the C library's self-test does it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.card import MAX_JSON, ModelCard
from ..core.margin import surrounded
from ..core.noise import given_noise, seeded_noise
from ..core.pixels import check_picture
from ..errors import InputFileError, InvalidValueError, ParityError
from ..restorer import load, loop_around
from ..runtimes.protocol import Engine
from ..system.files import file_sha256, missing
from ..system.parsing import parse_json
from .steps_file import PackSettings, read_steps_file, require_pack_file

ARRAYS = ("input", "noise", "output")
"""The reference arrays of a pack, in files reference_NAME.npy."""

NOISE_TOLERANCE = 1e-6
"""Two neighbouring float32 values of the largest size that noise has; the last bit hangs on the mathematics library."""


@dataclass(frozen=True)
class SelfTest:
    """A pack compared with its own reference.

    Attributes:
        engine: the library, its version and its device.
        sampler: the name of the pack's sampler.
        steps: how many steps the pack's table has.
        noise_error: the largest difference between the seed's noise and the pack's.
        output_error: the largest difference between the restored reference and the pack's, relative to the largest
            value of the pack's where that is above 1.
        tolerance: the most that `output_error` may be.
    """

    engine: str
    sampler: str
    steps: int
    noise_error: float
    output_error: float
    tolerance: float

    def require(self, folder: Path) -> None:
        """Raise ParityError where a difference is too large, with the pack's folder in the sentence."""
        if not self.noise_error <= NOISE_TOLERANCE:  # so written that NaN is too large
            raise ParityError(
                f"{folder}: the seed's noise differs from the pack's by {self.noise_error:.3g}, which may be "
                f"{NOISE_TOLERANCE:g}: one of them is damaged"
            )
        if not self.output_error <= self.tolerance:
            raise ParityError(
                f"{folder}: the restored reference differs from the pack's by {self.output_error:.3g}, which may be "
                f"{self.tolerance:.3g}: the engine or its library is not the one that the pack was made with"
            )


def selftest(folder: Path, on_step: Callable[[int, int], None] | None = None) -> SelfTest:
    """Restore a pack's reference input by its step table with its noise, and draw that noise anew from its seed.

    Args:
        folder: the pack.
        on_step: called with (steps done, steps) while the reference is restored.

    Returns:
        How far both are from what the pack says; `SelfTest.require` judges it.

    Raises:
        InputFileError: the pack is incomplete or damaged.
        EngineError, MissingPackageError: its engine cannot be opened here.
    """
    _require_folder(folder)
    settings = read_steps_file(folder / "steps.txt")
    path = folder / settings.engine
    _require_engine_file(path, settings)
    engine = open_pack_engine(path)
    _require_card(folder, settings, engine.card)
    height, width, channels = settings.reference_height, settings.reference_width, settings.channels
    steps = len(settings.table)
    picture = _array(folder, "input", (height, width, channels))
    around = surrounded(height, width, settings.margin)
    noise = _array(folder, "noise", (steps + 1, channels, *around))
    expected = _array(folder, "output", (height, width, channels))
    _require_values(folder, engine.card, picture)
    source = given_noise(noise[:, None], steps, (1, channels, *around))
    restore = loop_around(engine)
    restored = restore(picture[None], settings.plan, source, on_step=counted(on_step, steps))[0]
    return SelfTest(
        engine=engine.name,
        sampler=settings.sampler,
        steps=steps,
        noise_error=float(np.abs(noise - reference_noise(settings)).max()),
        output_error=float(np.abs(restored - expected).max() / max(1.0, np.abs(expected).max())),
        tolerance=settings.tolerance,
    )


def counted(on_step: Callable[[int, int], None] | None, steps: int) -> Callable[[int], None] | None:
    """Make what a loop calls after each step out of a function that takes (steps done, steps)."""
    if on_step is None:
        return None
    return lambda done: on_step(done, steps)


def open_pack_engine(path: Path) -> Engine:
    """Open the engine of a pack with the library that packs are for."""
    if path.suffix.lower() == ".onnx":
        return load(path, provider="openvino").engine
    return load(path).engine


def reference_noise(settings: PackSettings) -> npt.NDArray[np.float32]:
    """Draw the noise of a pack's seed for its reference and its margin: (N+1, C, H, W) float32."""
    around = surrounded(settings.reference_height, settings.reference_width, settings.margin)
    source = seeded_noise(settings.seed, (1, settings.channels, *around))
    return np.concatenate([source(k) for k in range(len(settings.table) + 1)])


def _require_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    if not folder.exists():
        raise missing(folder, "there is no such folder: make one with 'irsde-deploy pack'")
    raise InputFileError(f"{folder}: this is a file, and a pack is a folder: make one with 'irsde-deploy pack'")


def _require_engine_file(path: Path, settings: PackSettings) -> None:
    """Raise InputFileError unless the engine's file is the one that was packed, by what steps.txt says of it."""
    require_pack_file(path)
    found = path.stat().st_size
    if found != settings.engine_bytes:
        raise InputFileError(
            f"{path}: it has {found} bytes, and steps.txt says {settings.engine_bytes}: pack the engine again"
        )
    if settings.engine_sha256 not in ("", file_sha256(path)):
        raise InputFileError(
            f"{path}: it is not the file that was packed: its SHA-256 is another: pack the engine again"
        )


def _require_card(folder: Path, settings: PackSettings, own: ModelCard) -> None:
    """Raise InputFileError unless card.json, the engine's own card and steps.txt say the same."""
    path = folder / "card.json"
    require_pack_file(path)
    try:
        if path.stat().st_size > MAX_JSON:  # before it is read
            raise ValueError(f"it has more than the {MAX_JSON} bytes that a model card can have")
        text = path.read_bytes().decode("ascii")  # as `to_json` writes it, and as C reads it
        card = ModelCard.from_json(text)
        fields = parse_json(text, "it", MAX_JSON)
    except ValueError as error:  # InvalidValueError, UnicodeDecodeError
        raise InputFileError(f"{path}: {error}: pack the engine again") from None
    same = _said(fields) == _said(own.to_dict()) and settings.latent == (card.value_range is None)
    for name in ("channels", "multiple_of", "pad_mode", "margin", "conditional", "precision"):
        same = same and getattr(card, name) == getattr(settings, name)
    if not same:
        raise InputFileError(
            f"{folder}: card.json, steps.txt and the engine are of different models: pack the engine again"
        )


def _said(card: Mapping[str, Any]) -> dict[str, Any]:
    """A card's fields, without those that say nothing and are not in cards of earlier versions.

    C knows no fields' defaults (require_same_card of runtimes/cpp/src/pack.cpp).
    """
    return {name: value for name, value in card.items() if value or name not in ("t0", "calibrated", "margin")}


def _require_values(folder: Path, card: ModelCard, picture: npt.NDArray[np.float32]) -> None:
    """Raise InputFileError where the reference input is no picture for the model."""
    try:
        check_picture(card, picture)
    except InvalidValueError as error:
        raise InputFileError(f"{folder / 'reference_input.npy'}: {error}") from None


def _array(folder: Path, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Read a reference array of this shape, float32 in C order, as `write_pack` writes it.

    Not by `numpy.load`, so that what is refused here is what the C library refuses (read_array of
    runtimes/cpp/src/pack.cpp).
    """
    path = folder / f"reference_{name}.npy"
    require_pack_file(path)
    expected = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    with path.open("rb") as file:
        prefix = file.read(10)  # NumPy's magic, the format's version 1.0, and the length of the header in two bytes
        header = file.read(int.from_bytes(prefix[8:], "little"))
        if prefix[:8] != b"\x93NUMPY\x01\x00" or header.rstrip(b" \n") != expected.encode():
            raise InputFileError(f"{path}: it is not the array {expected}: pack the engine again")
        if path.stat().st_size != len(prefix) + len(header) + 4 * math.prod(shape):
            raise InputFileError(f"{path}: it has not as many values as its header says: pack the engine again")
        values = np.fromfile(file, "<f4").reshape(shape)
    if not np.isfinite(values).all():
        raise InputFileError(f"{path}: it has NaN or infinite values: pack the engine again")
    return values
