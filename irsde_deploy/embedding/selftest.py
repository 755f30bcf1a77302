"""A pack compared with its own reference: what `irsde-deploy selftest` and the C library's self-test do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..core.card import ModelCard
from ..core.noise import given_noise, seeded_noise
from ..core.pixels import check_picture
from ..errors import InputFileError, InvalidValueError, ParityError
from ..restorer import load, loop_around
from ..runtimes.protocol import Engine
from .steps_file import PackSettings, read_steps_file, require_pack_file

ARRAYS = ("input", "noise", "output")
"""The reference arrays of a pack: reference_NAME.npy."""

NOISE_TOLERANCE = 1e-6
"""Two neighbouring float32 values of the largest size that noise has; the last bit hangs on the mathematics library."""


@dataclass(frozen=True)
class SelfTest:
    """A pack compared with its own reference.

    Attributes:
        engine: library, version and device. sampler, steps: of the pack.
        noise_error: largest difference between the seed's noise and the pack's.
        output_error: of the restored reference, relative to its largest value where that is above 1.
        tolerance: of output_error.
    """

    engine: str
    sampler: str
    steps: int
    noise_error: float
    output_error: float
    tolerance: float

    def require(self, folder: Path) -> None:
        """Raise ParityError where a difference is too large."""
        if not self.noise_error <= NOISE_TOLERANCE:
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
    """Restore a pack's reference input by its step table with its noise, and draw that noise from its seed.

    Raises:
        InputFileError: the pack is incomplete or damaged.
        EngineError, MissingPackageError: its engine cannot be opened here.
    """
    if not folder.is_dir():
        why = "this is a file, and a pack is a folder" if folder.exists() else "there is no such folder"
        raise InputFileError(f"{folder}: {why}: make one with 'irsde-deploy pack'")
    settings = read_steps_file(folder / "steps.txt")
    path = folder / settings.engine
    require_pack_file(path)
    if path.stat().st_size != settings.engine_bytes:
        raise InputFileError(
            f"{path}: it has {path.stat().st_size} bytes, and steps.txt says {settings.engine_bytes}: "
            "pack the engine again"
        )
    engine = open_pack_engine(path)
    _require_card(folder, settings, engine.card)
    height, width, channels = settings.reference_height, settings.reference_width, settings.channels
    fields = len(settings.table) + 1
    shapes = ((height, width, channels), (fields, channels, height, width), (height, width, channels))
    picture, noise, expected = (_array(folder, name, shape) for name, shape in zip(ARRAYS, shapes, strict=True))
    _require_values(folder, engine.card, picture)
    source = given_noise(noise[:, None], len(settings.table), (1, channels, height, width))
    steps = len(settings.table)
    progress = None if on_step is None else lambda k: on_step(k, steps)
    restored = loop_around(engine)(picture[None], settings.table, source, settings.clip, progress)[0]
    return SelfTest(
        engine=engine.name,
        sampler=settings.sampler,
        steps=steps,
        noise_error=float(np.abs(noise - reference_noise(settings)).max()),
        output_error=float(np.abs(restored - expected).max() / max(1.0, np.abs(expected).max())),
        tolerance=settings.tolerance,
    )


def open_pack_engine(path: Path) -> Engine:
    """The engine of a pack, on the library that packs are for."""
    return load(path, provider="openvino" if path.suffix.lower() == ".onnx" else None).engine


def reference_noise(settings: PackSettings) -> npt.NDArray[np.float32]:
    """The seed's noise for the reference of a pack, (N+1, C, H, W)."""
    shape = (1, settings.channels, settings.reference_height, settings.reference_width)
    source = seeded_noise(settings.seed, shape)
    return np.concatenate([source(k) for k in range(len(settings.table) + 1)])


def _require_card(folder: Path, settings: PackSettings, own: ModelCard) -> None:
    """Raise InputFileError unless card.json, the engine's own card and steps.txt say the same."""
    path = folder / "card.json"
    require_pack_file(path)
    try:
        card = ModelCard.from_json(path.read_text(encoding="utf-8"))
    except ValueError as error:  # InvalidValueError, UnicodeDecodeError
        raise InputFileError(f"{path}: {error}: pack the engine again") from None
    names = ("channels", "multiple_of", "pad_mode", "conditional", "precision")
    same = card == own and settings.latent == (card.value_range is None)
    if not same or any(getattr(card, name) != getattr(settings, name) for name in names):
        raise InputFileError(
            f"{folder}: card.json, steps.txt and the engine are not of one model: pack the engine again"
        )


def _require_values(folder: Path, card: ModelCard, picture: npt.NDArray[np.float32]) -> None:
    try:
        check_picture(card, picture)
    except InvalidValueError as error:
        raise InputFileError(f"{folder / 'reference_input.npy'}: {error}") from None


def _array(folder: Path, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """One of the reference arrays, float32 in C order as NumPy writes it; read_array in runtimes/cpp/src/pack.cpp."""
    path = folder / f"reference_{name}.npy"
    require_pack_file(path)
    expected = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    with path.open("rb") as file:
        prefix = file.read(10)
        header = file.read(int.from_bytes(prefix[8:], "little"))
        if prefix[:8] != b"\x93NUMPY\x01\x00" or header.rstrip(b" \n") != expected.encode():
            raise InputFileError(f"{path}: it is not the array {expected}: pack the engine again")
        if path.stat().st_size != len(prefix) + len(header) + 4 * math.prod(shape):
            raise InputFileError(f"{path}: it has not as many values as its header says: pack the engine again")
        values = np.fromfile(file, "<f4").reshape(shape)
    if not np.isfinite(values).all():
        raise InputFileError(f"{path}: it has NaN or infinite values: pack the engine again")
    return values
