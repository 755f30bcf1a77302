"""Folders of degraded and clean pictures that belong together by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from ..errors import InputFileError, reason
from .files import FORMATS, ORIENTATION_TAG, SUFFIXES, is_picture_file

LQ_NAMES, GT_NAMES = ("lq", "input", "rain", "degraded"), ("gt", "target", "clean", "norain")

Size: TypeAlias = "tuple[int, int]"
"""(height, width)."""


class Pair(NamedTuple):
    """A picture's name (relative, without suffix), its degraded and its clean file."""

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
    if not data.is_dir():
        raise InputFileError(f"{data}: {'is not a folder' if data.exists() else 'no such folder'}")
    below = {path.name.lower(): path for path in sorted(data.iterdir()) if path.is_dir()}
    lq, gt = (next((below[n] for n in names if n in below), None) for names in (LQ_NAMES, GT_NAMES))
    if lq is None or gt is None:
        raise InputFileError(f"{data}: expected two subfolders, LQ and GT, with pictures of equal names")
    return pair_folders(lq, gt)


def require_fitting_sizes(pairs: Iterable[Pair]) -> None:
    """Check all sizes by the files' headers, so that no training stops halfway.

    Raises:
        InputFileError: a picture is none, or a pair is neither of equal sizes nor GT a whole number of times larger.
    """
    for pair in pairs:
        _require_fitting(picture_size(pair.lq), picture_size(pair.gt), pair)


def enlarged(lq: npt.NDArray[Any], gt: npt.NDArray[Any], pair: Pair) -> npt.NDArray[Any]:
    """The degraded picture (h, w, 3), brought to the size of the clean one by bicubic sampling where it is smaller.

    Raises:
        InputFileError: the sizes do not fit.
    """
    _require_fitting((lq.shape[0], lq.shape[1]), (gt.shape[0], gt.shape[1]), pair)
    if lq.shape == gt.shape:
        return lq
    return np.asarray(cv2.resize(lq, (gt.shape[1], gt.shape[0]), interpolation=cv2.INTER_CUBIC))


def pictures_below(folder: Path) -> dict[str, Path]:
    """Name without suffix, relative to the folder -> path, sorted by name.

    Raises:
        InputFileError: no such folder, no pictures in it, or two of one name.
    """
    if not folder.is_dir():
        raise InputFileError(f"{folder}: {'is not a folder' if folder.exists() else 'no such folder'} of pictures")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if is_picture_file(path):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in found:
                raise InputFileError(
                    f"{path}: has the same name as {found[name].name}: names without suffix must differ"
                )
            found[name] = path
    if not found:
        raise InputFileError(f"{folder}: no pictures there (looked for {', '.join(SUFFIXES)})")
    return found


def _require_fitting(small: Size, large: Size, pair: Pair) -> None:
    factor = large[0] // small[0]
    if (small[0] * factor, small[1] * factor) != large or factor == 0:
        raise InputFileError(
            f"{pair.lq}: is {small[1]}x{small[0]} and its partner {pair.gt} {large[1]}x{large[0]}: "
            "a pair must have equal sizes, or GT a whole number of times larger (super-resolution)"
        )


def picture_size(path: Path) -> Size:
    """(height, width) as shown, from the file's header.

    Raises:
        InputFileError: the file is no picture.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            turned = image.format != "PNG" and image.getexif().get(ORIENTATION_TAG, 1) in (5, 6, 7, 8)
            return (width, height) if turned else (height, width)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputFileError(f"{path}: not a picture that can be read ({reason(error)})") from None
