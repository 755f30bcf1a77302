"""Packs: the folder that a program takes which embeds a model, with a reference that it can be checked against.

engine.onnx or engine.plan   the network; an ONNX graph in the form that OpenVINO computes fastest, card inside
card.json                    the model card, for people and Python
steps.txt                    the step table and how pictures are prepared (steps_file.py), for runtimes/cpp
reference_input.npy          (H, W, C) float32
reference_noise.npy          (N+1, C, H, W) float32, the seed's: [0] the initial state's, then one field a step; H and W
                             with the card's margin around them
reference_output.npy         (H, W, C) float32, what Python restores from these two with this engine
irsde.h, README.txt          the C header, and how to embed
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._version import __version__
from ..core.card import ModelCard
from ..core.comparison import tolerance_of
from ..core.example import example_picture
from ..core.pixels import check_picture, to_network
from ..core.sampling import Plan, Sampling
from ..errors import InvalidValueError, OutputFileError, one_line, requires_extra
from ..restorer import Restorer
from ..runtimes.protocol import Engine
from ..system.files import file_sha256, told_of, write_folder_atomically
from .selftest import ARRAYS, counted, open_pack_engine, reference_noise
from .steps_file import (
    BACKENDS,
    MAX_MULTIPLE,
    MAX_REFERENCE_SIDE,
    PackSettings,
    is_steps_file,
    to_text,
)

DEFAULT_SIZE = (61, 93)
"""Height and width of the reference where none is asked for: odd, so that both sides must be padded."""

FP32_TOLERANCE = 1e-4
"""What an FP32 engine's reference output may differ by: another processor adds float32 in another order, which a
trajectory adds up. With FP16 or INT8 inside it is as much as `verify` allows."""

_FILES = {"card.json", "steps.txt", "irsde.h", "README.txt"} | {f"reference_{name}.npy" for name in ARRAYS}
"""The files of a pack besides its engine."""


def cpp_folder() -> Path:
    """Find the C++ runtime's sources: inside the installed package, or `runtimes/cpp` of a source tree."""
    installed = Path(__file__).parent / "cpp"
    if installed.is_dir():
        return installed
    return Path(__file__).parents[2] / "runtimes" / "cpp"


def write_pack(
    engine: Path,
    folder: Path,
    sampling: Sampling | None = None,
    reference: npt.NDArray[Any] | tuple[int, int] = DEFAULT_SIZE,
    overwrite: bool = False,
    on_step: Callable[[int, int], None] | None = None,
) -> PackSettings:
    """Write the pack of an engine, complete or not at all.

    Args:
        engine: an exported `.onnx`, or a TensorRT `.plan`, whose reference only the GPU that it is for can compute.
        folder: the pack, a folder that is made.
        sampling: how to restore; what is left open comes from the card.
        reference: the reference input, a picture (H, W, C) of uint8, uint16 or float; or height and width of a
            synthetic one.
        overwrite: whether to replace a pack that is there already; a folder that holds anything else stays in any case.
        on_step: called with (steps done, steps) while the reference is restored.

    Returns:
        What steps.txt says.

    Raises:
        OutputFileError: the folder exists, or cannot be written.
        InvalidValueError: settings that do not fit the model.
        EngineError, InputFileError, MissingPackageError: the engine cannot be opened here.
    """
    if engine.suffix.lower() not in (".onnx", ".plan"):
        raise InvalidValueError(f"{engine}: an .onnx or a .plan can be packed: make one with 'irsde-deploy export'")
    _require_replaceable(folder, overwrite)
    sampling = Sampling.of(sampling)
    card = card_of(engine)
    plan = card.plan(sampling)
    _require_packable(card, reference)
    picture = _reference_input(card, reference)
    with write_folder_atomically(folder, overwrite) as temporary:
        backend, packed = _copy_engine(engine, temporary)
        restorer = Restorer(_open_copy(packed, engine))  # the file that is packed, not the one it was made from
        restored = restorer(picture, sampling, on_step=counted(on_step, len(plan)))
        settings = _settings(card, plan, sampling.seed, backend, packed, picture.shape)
        _write_text(temporary / "steps.txt", to_text(settings))
        _write_text(temporary / "card.json", card.to_json() + "\n")
        for name, array in zip(ARRAYS, (picture, reference_noise(settings), restored), strict=True):
            np.save(temporary / f"reference_{name}.npy", array.astype("<f4", copy=False), allow_pickle=False)
        shutil.copyfile(cpp_folder() / "include" / "irsde.h", temporary / "irsde.h")
        _write_text(temporary / "README.txt", _readme(settings, restorer.engine.name))
        _require_replaceable(folder, overwrite)  # again: restoring takes a while, and something may be there by now
    return settings


def _open_copy(packed: Path, engine: Path) -> Engine:
    """Open the engine in a pack that is being written; an error names the file that it was made from.

    Args:
        packed: the engine's file in the pack, which has a temporary name.
        engine: the file that it was made from.
    """
    if packed.suffix == ".plan":  # the same file, and errors say how it was built, seen from where it is
        return open_pack_engine(engine)
    with told_of(engine, packed):
        return open_pack_engine(packed)


def card_of(engine: Path) -> ModelCard:
    """Read the card inside an engine's file, which no runtime opens for that."""
    if engine.suffix.lower() == ".plan":
        from ..runtimes.tensorrt.plan_card import read_plan_card

        return read_plan_card(engine).model
    with requires_extra("openvino", "packing an .onnx engine"):
        from ..graphs.onnx_file import read_model
    return read_model(engine)[1]


def _write_text(path: Path, text: str) -> None:
    """Write UTF-8 with the line ends that the text has: a pack is the same on every system."""
    path.write_bytes(text.encode("utf-8"))


def _require_replaceable(folder: Path, overwrite: bool) -> None:
    """Raise OutputFileError where a pack may not be written.

    That is, unless nothing is there, or with `overwrite` an empty folder, or one that holds a pack and nothing else.
    """
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
        raise OutputFileError(f"{folder}: exists already: pass `overwrite` to replace it")


def _foreign_file(folder: Path) -> Path | None:
    """Find something in a folder that `write_pack` did not put there; None in an empty folder, and in a pack.

    Packs are told by the first words of steps.txt, which no version of theirs changes. A damaged pack is one too: it
    is what people want to replace.
    """
    entries = sorted(folder.iterdir())
    engine = None
    for path in entries:
        if path.is_symlink() or not path.is_file():
            return path
        if engine is None and path.name in BACKENDS.values():
            engine = path  # a pack has one: a second engine is foreign
        elif path.name not in _FILES:
            return path
    steps = folder / "steps.txt"
    if not entries or is_steps_file(steps):
        return None
    if steps in entries:
        return steps
    return entries[0]


def _require_packable(card: ModelCard, reference: npt.NDArray[Any] | tuple[int, int]) -> None:
    """Raise InvalidValueError where a pack cannot hold this model, or no reference of this size.

    Args:
        card: the model's card.
        reference: a picture, or height and width of a synthetic one.
    """
    if card.multiple_of > MAX_MULTIPLE:
        raise InvalidValueError(
            f"this network takes multiples of {card.multiple_of} pixels, and a pack's of up to {MAX_MULTIPLE}"
        )
    size = reference if isinstance(reference, tuple) else reference.shape[-3:-1]
    if not all(1 <= side <= MAX_REFERENCE_SIDE for side in size):
        raise InvalidValueError(
            f"a reference has sides of 1 to {MAX_REFERENCE_SIDE} pixels, not {'x'.join(map(str, size))}: give another"
        )


def _copy_engine(engine: Path, folder: Path) -> tuple[str, Path]:
    """Put the engine into a pack.

    Returns:
        What runs it, one of `BACKENDS`, and its path in the pack.
    """
    if engine.suffix.lower() == ".plan":
        from ..runtimes.tensorrt.plan_card import read_plan_card

        shutil.copyfile(engine, folder / "engine.plan")
        return read_plan_card(engine).build.backend, folder / "engine.plan"
    from ..graphs.cpu_rewrites import REWRITES, for_cpu

    # Rewritten now, as `load` rewrites a graph for OpenVINO: the C library opens files as they are.
    graph = for_cpu(engine, REWRITES["openvino"], strict=True)
    if isinstance(graph, Path):  # nothing was to be rewritten
        shutil.copyfile(graph, folder / "engine.onnx")
    else:
        (folder / "engine.onnx").write_bytes(graph)
    return "openvino", folder / "engine.onnx"


def _reference_input(card: ModelCard, reference: npt.NDArray[Any] | tuple[int, int]) -> npt.NDArray[np.float32]:
    """Make the reference input (H, W, C) float32 out of what `write_pack` was given."""
    if isinstance(reference, tuple):
        mu = example_picture(card, 1, *reference)
    else:
        mu = to_network(check_picture(card, reference))
    return np.ascontiguousarray(mu[0].transpose(1, 2, 0), dtype=np.float32)


def _settings(
    card: ModelCard, plan: Plan, seed: int, backend: str, engine: Path, shape: tuple[int, ...]
) -> PackSettings:
    """Collect what steps.txt says; `shape` (H, W, C) is that of the reference."""
    return PackSettings(
        backend=backend,
        engine_bytes=engine.stat().st_size,
        engine_sha256=file_sha256(engine),
        channels=card.channels,
        multiple_of=card.multiple_of,
        pad_mode=card.pad_mode,
        margin=card.margin,
        conditional=card.conditional,
        latent=card.value_range is None,
        clip=plan.clip,
        seed=seed,
        precision=card.precision,
        sampler=plan.sampler,
        task=card.task,
        reference_height=shape[0],
        reference_width=shape[1],
        tolerance=tolerance_of(card.precision, FP32_TOLERANCE),
        table=plan.table,
    )


def _readme(settings: PackSettings, engine: str) -> str:
    task = ""
    if settings.task:
        task = f" ({one_line(settings.task)})"
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
