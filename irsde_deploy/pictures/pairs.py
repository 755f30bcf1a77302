"""Folders of degraded and clean pictures that belong together by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputFileError
from ..system.files import missing
from .files import is_picture_file, picture_size
from .formats.kinds import READ_WORDS

LQ_NAMES = ("lq", "input", "rain", "degraded")
GT_NAMES = ("gt", "target", "clean", "norain")
"""Names of the subfolders of a data set, in small letters, the first that is there counts."""

Size: TypeAlias = "tuple[int, int]"
"""(height, width), in pixels."""


class Pair(NamedTuple):
    """Two files that belong together.

    Attributes:
        name: of the picture, relative to its folder, without suffix.
        lq: the degraded picture's file.
        gt: the clean picture's file.
    """

    name: str
    lq: Path
    gt: Path


def pair_folders(lq: Path, gt: Path) -> list[Pair]:
    """Pair the pictures of two folders by name; suffixes may differ, subfolders must agree.

    Raises:
        InputFileError: a folder or a partner is missing; the message names the file.
    """
    degraded, clean = pictures_below(lq), pictures_below(gt)
    for ours, theirs, other in ((degraded, clean, gt), (clean, degraded, lq)):
        lonely = sorted(ours.keys() - theirs.keys())
        if lonely:
            raise InputFileError(
                f"{ours[lonely[0]]}: has no partner of the same name in {other} "
                f"({len(lonely)} such of {len(ours)}): LQ and GT must hold the same names"
            )
    return [Pair(name, degraded[name], clean[name]) for name in sorted(clean)]


def find_pairs(data: Path) -> list[Pair]:
    """The pairs of a folder that holds one subfolder of degraded and one of clean pictures (LQ and GT, any case).

    Raises:
        InputFileError: no such subfolders, or pairs that do not fit.
    """
    _require_folder(data, "")
    below = {path.name.lower(): path for path in sorted(data.iterdir()) if path.is_dir()}
    lq = _first_of(LQ_NAMES, below)
    gt = _first_of(GT_NAMES, below)
    if lq is None or gt is None:
        raise InputFileError(f"{data}: expected two subfolders, LQ and GT, with pictures of equal names")
    return pair_folders(lq, gt)


def _first_of(names: Iterable[str], folders: Mapping[str, Path]) -> Path | None:
    for name in names:
        if name in folders:
            return folders[name]
    return None


def _require_folder(path: Path, of_what: str) -> None:
    """Raise InputFileError unless path is a folder; `of_what` ends the sentence."""
    if path.is_dir():
        return
    if not path.exists():
        raise missing(path, f"no such folder{of_what}")
    raise InputFileError(f"{path}: is not a folder{of_what}")


def require_fitting_sizes(pairs: Iterable[Pair]) -> None:
    """Check all sizes by the files' headers, so that no training stops halfway.

    Raises:
        InputFileError: a picture is none, or a pair is neither of equal sizes nor GT a whole number of times larger.
    """
    for pair in pairs:
        _require_fitting(picture_size(pair.lq), picture_size(pair.gt), pair)


def enlarged(lq: npt.NDArray[Any], gt: npt.NDArray[Any], pair: Pair) -> npt.NDArray[Any]:
    """The degraded picture, brought to the size of the clean one by bicubic sampling where it is smaller.

    Args:
        lq: the degraded picture, (h, w, 3).
        gt: the clean picture, (H, W, 3).
        pair: their files, for messages.

    Raises:
        InputFileError: the sizes do not fit.
    """
    _require_fitting((lq.shape[0], lq.shape[1]), (gt.shape[0], gt.shape[1]), pair)
    if lq.shape == gt.shape:
        return lq
    return np.asarray(cv2.resize(lq, (gt.shape[1], gt.shape[0]), interpolation=cv2.INTER_CUBIC))


def pictures_below(folder: Path) -> dict[str, Path]:
    """The picture files in a folder and below, sorted by name.

    Returns:
        Name of each, relative to the folder and without suffix -> its path.

    Raises:
        InputFileError: no such folder, no pictures in it, or two of one name.
    """
    _require_folder(folder, " of pictures")
    found: dict[str, Path] = {}
    for path in filter(is_picture_file, sorted(folder.rglob("*"))):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise InputFileError(f"{path}: has the same name as {found[name].name}: names without suffix must differ")
        found[name] = path
    if not found:
        raise InputFileError(f"{folder}: no pictures there (looked for {READ_WORDS})")
    return found


def _require_fitting(small: Size, large: Size, pair: Pair) -> None:
    """Raise InputFileError unless the clean picture's size is a whole number of times the degraded picture's."""
    height, width = small
    factor = large[0] // height
    if (height * factor, width * factor) != large:
        raise InputFileError(
            f"{pair.lq}: is {width}x{height} and its partner {pair.gt} {large[1]}x{large[0]}: "
            "a pair must have equal sizes, or GT a whole number of times larger (super-resolution)"
        )
