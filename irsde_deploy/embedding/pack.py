"""Packs: the folder that a program which embeds a model takes, and what checks it.

engine.onnx or engine.plan   the network; an ONNX graph in the form that OpenVINO computes fastest, card inside
card.json                    the model card, for people and Python
steps.txt                    the step table and how pictures are prepared (steps_file.py), for runtimes/cpp
reference_input.npy          (H, W, C) float32
reference_noise.npy          (N+1, C, H, W) float32, the seed's: [0] the initial state's, then one field a step
reference_output.npy         (H, W, C) float32, what Python restores from these two with this engine
irsde.h, README.txt          the C header, and how to embed
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._version import __version__
from ..core.card import ModelCard
from ..core.comparison import tolerance_of
from ..core.noise import given_noise, seeded_noise
from ..core.samplers import StepTable
from ..core.sampling import blind_sde
from ..errors import EngineError, InputFileError, InvalidValueError, OutputFileError, ParityError, requires_extra
from ..restorer import Restorer, load, loop_around
from ..system.files import write_folder_atomically
from .steps_file import (
    BACKENDS,
    MAX_MULTIPLE,
    MAX_REFERENCE_SIDE,
    PackSettings,
    is_steps_file,
    read_steps_file,
    require_pack_file,
    to_text,
)

DEFAULT_SIZE = (61, 93)
"""Height and width of the reference where none is asked for: odd, so that padding is checked on both sides."""

FP32_TOLERANCE = 1e-4
"""What an FP32 engine's reference output may differ by: another processor adds float32 in another order, which a
trajectory adds up. With FP16 or INT8 inside it is as much as `verify` allows."""

NOISE_TOLERANCE = 1e-6
"""Two neighbouring float32 values of the largest size that noise has; the last bit hangs on the mathematics library."""

_ARRAYS = ("input", "noise", "output")
_FILES = frozenset({"card.json", "steps.txt", "irsde.h", "README.txt", *(f"reference_{name}.npy" for name in _ARRAYS)})
"""What a pack holds besides its engine."""


@dataclass(frozen=True, eq=False)
class PackOptions:
    """What to restore with, as for `Restorer`; what is left out comes from the card.

    Attributes:
        picture: reference input (H, W, C), uint8, uint16 or float; a synthetic one by default.
        size: height and width of the synthetic one.
    """

    sampler: str | None = None
    steps: int | None = None
    quality: str | None = None
    debias: bool = False
    t0: int | None = None
    clip: bool = False
    noise_level: float | None = None
    seed: int = 0
    picture: npt.NDArray[Any] | None = None
    size: tuple[int, int] = DEFAULT_SIZE


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


def cpp_folder() -> Path:
    """The C++ runtime's sources: inside the installed package, or `runtimes/cpp` of a source tree."""
    installed = Path(__file__).parent / "cpp"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "runtimes" / "cpp"


def write_pack(
    engine: Path,
    folder: Path,
    options: PackOptions,
    overwrite: bool = False,
    on_step: Callable[[int, int], None] | None = None,
) -> PackSettings:
    """Write the pack of an engine, complete or not at all.

    Args:
        engine: an exported `.onnx`, or a TensorRT `.plan`, whose reference only the GPU that it is for can compute.
        folder: where to.
        options: what to restore with.
        overwrite: replace a pack that is there already; a folder that holds anything else never.
        on_step: called with (steps done, steps) while the reference is restored.

    Raises:
        OutputFileError: the folder exists, or cannot be written. InvalidValueError: options that do not fit the model.
        EngineError, InputFileError, MissingPackageError: the engine cannot be opened here.
    """
    if engine.suffix.lower() not in (".onnx", ".plan"):
        raise InvalidValueError(f"{engine}: an .onnx or a .plan can be packed: make one with 'irsde-deploy export'")
    _require_replaceable(folder, overwrite)
    card = card_of(engine)
    _require_packable(card, options)
    table = card.plan(options.sampler, options.steps, options.debias, options.t0, options.noise_level, options.quality)
    sampler = card.sampler_of(options.sampler, options.quality)
    picture = _reference_input(card, options)
    with write_folder_atomically(folder, overwrite) as temporary:
        backend, packed = _copy_engine(engine, temporary)
        restorer = Restorer(_open_copy(packed, engine))
        restored = restorer(
            picture,
            options.sampler,
            options.steps,
            options.seed,
            quality=options.quality,
            debias=options.debias,
            t0=options.t0,
            clip=options.clip,
            noise_level=options.noise_level,
            on_step=None if on_step is None else lambda k: on_step(k, len(table)),
        )
        settings = _settings(card, table, sampler, backend, packed, picture.shape, options)
        _write_text(temporary / "steps.txt", to_text(settings))
        _write_text(temporary / "card.json", card.to_json() + "\n")
        for name, array in zip(_ARRAYS, (picture, _noise(settings), restored), strict=True):
            np.save(temporary / f"reference_{name}.npy", array.astype("<f4", copy=False), allow_pickle=False)
        shutil.copyfile(cpp_folder() / "include" / "irsde.h", temporary / "irsde.h")
        _write_text(temporary / "README.txt", _readme(settings, restorer.engine.name))
        _require_replaceable(folder, overwrite)  # restoring takes a while
    return settings


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
    engine = _open(path)
    _require_card(folder, settings, engine.card)
    height, width, channels = settings.reference_height, settings.reference_width, settings.channels
    fields = len(settings.table) + 1
    shapes = ((height, width, channels), (fields, channels, height, width), (height, width, channels))
    picture, noise, expected = (_array(folder, name, shape) for name, shape in zip(_ARRAYS, shapes, strict=True))
    _require_values(folder, engine.card, picture)
    source = given_noise(noise[:, None], len(settings.table), (1, channels, height, width))
    steps = len(settings.table)
    progress = None if on_step is None else lambda k: on_step(k, steps)
    restored = loop_around(engine)(picture[None], settings.table, source, settings.clip, progress)[0]
    return SelfTest(
        engine=engine.name,
        sampler=settings.sampler,
        steps=steps,
        noise_error=float(np.abs(noise - _noise(settings)).max()),
        output_error=float(np.abs(restored - expected).max() / max(1.0, np.abs(expected).max())),
        tolerance=settings.tolerance,
    )


def _open(path: Path) -> Any:
    return load(path, provider="openvino" if path.suffix.lower() == ".onnx" else None).engine


def _open_copy(packed: Path, engine: Path) -> Any:
    """The engine in a pack that is being written; an error names the file that it is a copy of."""
    if packed.suffix == ".plan":  # the same file, and errors say how it was built, seen from where it is
        return _open(engine)
    try:
        return _open(packed)
    except EngineError as error:
        raise type(error)(str(error).replace(str(packed), str(engine))) from None


def card_of(engine: Path) -> ModelCard:
    """The card inside an engine's file, which is not opened for that."""
    if engine.suffix.lower() == ".plan":
        from ..runtimes.tensorrt.plan_card import read_plan_card

        return read_plan_card(engine).model
    with requires_extra("openvino", "packing an .onnx engine"):
        from ..graphs.onnx_file import read_model
    return read_model(engine)[1]


def _write_text(path: Path, text: str) -> None:
    """UTF-8 with the line ends that it has, on every system."""
    path.write_bytes(text.encode("utf-8"))


def _require_replaceable(folder: Path, overwrite: bool) -> None:
    """Raise OutputFileError unless nothing is there, or with `overwrite` an empty folder or a pack and nothing else."""
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        raise OutputFileError(f"{folder}: exists already and is no folder: choose another place")
    foreign = _foreign_file(folder)
    if foreign is not None:
        raise OutputFileError(
            f"{folder}: holds something else than a pack, {foreign.name}: choose another place, or move that away"
        )
    if not overwrite:
        raise OutputFileError(f"{folder}: exists already: pass --overwrite to replace it")


def _foreign_file(folder: Path) -> Path | None:
    """What `write_pack` did not put into the folder; None where there is nothing, or a pack, however damaged.

    Packs are told by the first words of steps.txt, which no version of theirs changes.
    """
    entries = sorted(folder.iterdir())
    engines = [path for path in entries if path.name in BACKENDS.values()]
    own = _FILES | {path.name for path in engines[:1]}  # a pack has one
    foreign = next((path for path in entries if path.name not in own or path.is_symlink() or not path.is_file()), None)
    if foreign is None and entries and not is_steps_file(folder / "steps.txt"):
        return folder / "steps.txt" if folder / "steps.txt" in entries else entries[0]
    return foreign


def _require_packable(card: ModelCard, options: PackOptions) -> None:
    """Raise InvalidValueError where a pack cannot hold this model, or a reference has no such size."""
    if blind_sde(card.sde, options.noise_level, options.t0):
        raise InvalidValueError(
            "this model starts at the timestep that matches the picture's noise, and a pack at one: give --noise-level "
            "(standard deviation on the 0..255 scale) or --t0"
        )
    if card.multiple_of > MAX_MULTIPLE:
        raise InvalidValueError(
            f"this network takes multiples of {card.multiple_of} pixels, and a pack's of up to {MAX_MULTIPLE}"
        )
    size = options.size if options.picture is None else options.picture.shape[-3:-1]
    if not all(1 <= side <= MAX_REFERENCE_SIDE for side in size):
        raise InvalidValueError(
            f"a reference has sides of 1 to {MAX_REFERENCE_SIDE} pixels, not {'x'.join(map(str, size))}: give another"
        )


def _copy_engine(engine: Path, folder: Path) -> tuple[str, Path]:
    """Put the engine into the pack, a graph in its form for OpenVINO; (what runs it, its path there)."""
    if engine.suffix.lower() == ".plan":
        from ..runtimes.tensorrt.plan_card import read_plan_card

        shutil.copyfile(engine, folder / "engine.plan")
        return read_plan_card(engine).build.backend, folder / "engine.plan"
    from ..graphs.cpu_rewrites import REWRITES, for_cpu

    graph = for_cpu(engine, REWRITES["openvino"])
    if isinstance(graph, Path):
        shutil.copyfile(graph, folder / "engine.onnx")
    else:
        (folder / "engine.onnx").write_bytes(graph)
    return "openvino", folder / "engine.onnx"


def _reference_input(card: ModelCard, options: PackOptions) -> npt.NDArray[np.float32]:
    """(H, W, C) float32."""
    if options.picture is None:
        from ..core.example import example_picture

        picture = example_picture(card, 1, *options.size)[0].transpose(1, 2, 0)
    else:
        from ..core.pixels import check_picture, to_network

        picture = to_network(check_picture(card, options.picture))[0].transpose(1, 2, 0)
    return np.ascontiguousarray(picture, dtype=np.float32)


def _settings(
    card: ModelCard,
    table: StepTable,
    sampler: str,
    backend: str,
    engine: Path,
    shape: tuple[int, ...],
    options: PackOptions,
) -> PackSettings:
    return PackSettings(
        backend=backend,
        engine_bytes=engine.stat().st_size,
        channels=card.channels,
        multiple_of=card.multiple_of,
        pad_mode=card.pad_mode,
        conditional=card.conditional,
        latent=card.value_range is None,
        clip=options.clip,
        seed=options.seed,
        precision=card.precision,
        sampler=sampler,
        task=card.task,
        reference_height=shape[0],
        reference_width=shape[1],
        tolerance=tolerance_of(card.precision, FP32_TOLERANCE),
        table=table,
    )


def _noise(settings: PackSettings) -> npt.NDArray[np.float32]:
    """The seed's noise for the reference, (N+1, C, H, W)."""
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
    from ..core.pixels import check_picture

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


def _readme(settings: PackSettings, engine: str) -> str:
    task = f" ({settings.task})" if settings.task else ""
    return f"""A restoration model, ready to be embedded{task}: {settings.sampler}, {len(settings.table)} steps.
Written by irsde-deploy {__version__}; the reference was restored by {engine}.

In C or C++ (irsde.h; docs/embedding.md of irsde-deploy says how libirsde is built):

    irsde_handle *handle;
    irsde_frame frame = {{0}};
    if (irsde_open("THIS FOLDER", NULL, &handle)) puts(irsde_last_error(NULL));
    frame.struct_size = sizeof frame;
    frame.pixels = rgb;                     /* 8 bit, interleaved; irsde.h has the other types and orders */
    frame.width = width;  frame.height = height;
    if (irsde_restore(handle, &frame, &frame, NULL)) puts(irsde_last_error(handle));
    irsde_close(handle);

To check that it computes the same on a machine as where it was packed, in one call:

    irsde_selftest FOLDER                   without Python; exit code 0: the same, 3: not
    irsde-deploy selftest FOLDER            with it

engine.*      the network             steps.txt              the step table and how pictures are prepared
card.json     the model card          reference_input.npy    float32 (H, W, C)
irsde.h       the C header            reference_noise.npy    float32 (steps + 1, C, H, W), of the seed {settings.seed}
                                      reference_output.npy   float32 (H, W, C)
"""
