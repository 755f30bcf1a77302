"""The pictures that a calibration is made on: found, hashed, and read when a state needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from ..core.arrays import Float32
from ..core.card import ModelCard
from ..core.pixels import check_picture, to_network
from ..errors import InputFileError, InvalidValueError
from ..pictures.files import read_picture
from ..pictures.pairs import (
    GT_NAMES,
    Pair,
    enlarged,
    find_pairs,
    pair_folders,
    picture_size,
    pictures_below,
    require_fitting_sizes,
)
from ..system.files import file_sha256
from .states import PictureSource

MAX_PICTURES = 1024
_KEPT, _KEPT_PIXELS = 16, 4_000_000
"""Decoded pictures that are kept in memory, and how large they may be; larger ones are read for every state anew."""


@dataclass(frozen=True)
class PictureHashes:
    """Which picture it was, as a manifest has it: its name, and the SHA-256 of its files; None without a clean one."""

    name: str
    lq_sha256: str
    gt_sha256: str | None


@dataclass(frozen=True)
class Entry:
    """One picture: its name, its files and their SHA-256; without a clean picture gt is None."""

    name: str
    lq: Path
    gt: Path | None
    lq_sha256: str
    gt_sha256: str | None


@dataclass(frozen=True)
class CalibrationData:
    """The pictures, in the order of their names.

    Attributes:
        folders: one, or those of the degraded and of the clean pictures.
        entries: at least one.
    """

    folders: tuple[str, ...]
    entries: tuple[Entry, ...]

    @property
    def given(self) -> str:
        """The folders, for people."""
        return ",".join(self.folders)

    @property
    def paired(self) -> bool:
        """Whether there are clean pictures."""
        return self.entries[0].gt is not None

    @property
    def hashes(self) -> list[PictureHashes]:
        """Name and SHA-256 of each, as a manifest has them."""
        return [PictureHashes(entry.name, entry.lq_sha256, entry.gt_sha256) for entry in self.entries]

    def only(self, hashes: Sequence[PictureHashes]) -> CalibrationData:
        """The pictures that a manifest names.

        Raises:
            InputFileError: one is not there, or another file than it was.
        """
        there = {entry.name: entry for entry in self.entries}
        chosen = []
        for wanted in hashes:
            entry = there.get(wanted.name)
            if entry is None:
                raise InputFileError(
                    f"{self.given}: has no picture {wanted.name}, which the manifest names: give the folders that "
                    "have it with --data"
                )
            if (entry.lq_sha256, entry.gt_sha256) != (wanted.lq_sha256, wanted.gt_sha256):
                other = entry.lq if entry.lq_sha256 != wanted.lq_sha256 else entry.gt or entry.lq
                raise InputFileError(
                    f"{other}: is another file than the manifest's (their SHA-256 differ): give the folders of the "
                    "manifest's files with --data, or calibrate without the manifest"
                )
            chosen.append(entry)
        return CalibrationData(self.folders, tuple(chosen))

    def sources(self, card: ModelCard) -> list[PictureSource]:
        """The pictures for `states`."""

        def read(entry: Entry) -> tuple[Float32, Float32 | None]:
            return _read(card, entry)

        kept = lru_cache(maxsize=_KEPT)(read)

        def source(entry: Entry) -> PictureSource:
            height, width = picture_size(entry.gt or entry.lq)
            return PictureSource(
                entry.name, (height, width), partial(kept if height * width <= _KEPT_PIXELS else read, entry)
            )

        return [source(entry) for entry in self.entries]


def find_data(given: str) -> CalibrationData:
    """The pictures of LQ,GT (two folders), of a folder with the subfolders LQ and GT, or of one folder without pairs.

    Raises:
        InputFileError: no such folders, no pictures, or pairs that do not fit.
    """
    lq, comma, gt = given.partition(",")
    if not comma or Path(given).exists():
        return data_in((given,))
    if not lq or not gt:
        raise InvalidValueError(f"--data takes LQ,GT: two folders with a comma between, not {given!r}")
    return data_in((lq, gt))


def data_in(folders: tuple[str, ...]) -> CalibrationData:
    """The pictures of one folder, or of those of the degraded and of the clean ones; raises as `find_data`."""
    files = _files(folders)
    if len(files) > MAX_PICTURES:
        where = ",".join(folders)
        raise InputFileError(f"{where}: {len(files)} pictures are more than ranges need: give {MAX_PICTURES} at most")
    return CalibrationData(folders, tuple(_entry(name, lq, gt) for name, lq, gt in files))


def _files(folders: tuple[str, ...]) -> list[tuple[str, Path, Path | None]]:
    if len(folders) == 2:
        pairs = pair_folders(Path(folders[0]), Path(folders[1]))
    else:
        folder = Path(folders[0])
        try:
            pairs = find_pairs(folder)
        except InputFileError:
            if not folder.is_dir() or _has_clean_pictures(folder):
                raise
            return [(name, path, None) for name, path in pictures_below(folder).items()]
    require_fitting_sizes(pairs)
    return [(pair.name, pair.lq, pair.gt) for pair in pairs]


def _has_clean_pictures(folder: Path) -> bool:
    return any(path.is_dir() and path.name.lower() in GT_NAMES for path in folder.iterdir())


def _entry(name: str, lq: Path, gt: Path | None) -> Entry:
    return Entry(name, lq, gt, file_sha256(lq), None if gt is None else file_sha256(gt))


def _read(card: ModelCard, entry: Entry) -> tuple[Float32, Float32 | None]:
    """(mu, y_0) of a picture, both (C, H, W)."""
    lq = read_picture(entry.lq).rgb
    if entry.gt is None:
        return to_network(check_picture(card, lq))[0], None
    gt = read_picture(entry.gt).rgb
    lq = enlarged(lq, gt, Pair(entry.name, entry.lq, entry.gt))
    mu, clean = (to_network(check_picture(card, picture))[0] for picture in (lq, gt))
    return mu, np.subtract(clean, mu)
