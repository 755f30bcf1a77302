"""The pictures that a calibration is made on: they are found, hashed, and read when a state needs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from ..core.arrays import Float32
from ..core.card import ModelCard
from ..core.pixels import check_picture, to_network
from ..errors import InputFileError, InvalidValueError
from ..pictures.files import picture_size, read_picture
from ..pictures.pairs import (
    GT_NAMES,
    Pair,
    enlarged,
    find_pairs,
    pair_folders,
    pictures_below,
)
from ..system.files import file_sha256
from ..system.listener import SILENT
from ..system.one_of_many import those_that_work
from ..system.parsing import shown
from .states import PictureSource

MAX_PICTURES = 1024
_KEPT, _KEPT_PIXELS = 16, 4_000_000
"""How many decoded pictures are kept in memory, and how many pixels each may have; larger ones are read anew for every
state."""


@dataclass(frozen=True)
class PictureHashes:
    """Which picture it was, as a manifest has it: its name, and the SHA-256 of its files; None without a clean one."""

    name: str
    lq_sha256: str
    gt_sha256: str | None


@dataclass(frozen=True)
class Entry:
    """One picture, or a pair of a degraded and a clean one.

    Attributes:
        name: its path within the folder, without suffix.
        lq: file of the degraded picture.
        gt: file of the clean picture; None without one.
        lq_sha256: hash of the file `lq`.
        gt_sha256: hash of the file `gt`; None without one.
    """

    name: str
    lq: Path
    gt: Path | None
    lq_sha256: str
    gt_sha256: str | None


@dataclass(frozen=True)
class CalibrationData:
    """The pictures, in the order of their names.

    Attributes:
        folders: one folder, or that of the degraded pictures and that of the clean ones.
        entries: the pictures; at least one.
    """

    folders: tuple[str, ...]
    entries: tuple[Entry, ...]

    @property
    def given(self) -> str:
        """The folders as the user gives them: one, or two with a comma between."""
        return ",".join(self.folders)

    @property
    def paired(self) -> bool:
        """Whether there are clean pictures."""
        return self.entries[0].gt is not None

    @property
    def hashes(self) -> list[PictureHashes]:
        """The name and the SHA-256 of each picture, as a manifest has them."""
        return [PictureHashes(entry.name, entry.lq_sha256, entry.gt_sha256) for entry in self.entries]

    def only(self, hashes: Sequence[PictureHashes]) -> CalibrationData:
        """Return only the pictures that a manifest names, in its order.

        Args:
            hashes: as the property `hashes` has them.

        Raises:
            InputFileError: one of them is not there, or its file is another than it was.
        """
        there = {entry.name: entry for entry in self.entries}
        chosen = []
        for wanted in hashes:
            entry = there.get(wanted.name)
            if entry is None:
                raise InputFileError(
                    f"{self.given}: has no picture {wanted.name}, which the manifest names: give the folders that "
                    "have it with `data`"
                )
            if (entry.lq_sha256, entry.gt_sha256) != (wanted.lq_sha256, wanted.gt_sha256):
                other = entry.lq if entry.lq_sha256 != wanted.lq_sha256 else entry.gt or entry.lq
                raise InputFileError(
                    f"{other}: is another file than the manifest's (their SHA-256 differ): give the folders of the "
                    "manifest's files with `data`, or calibrate without the manifest"
                )
            chosen.append(entry)
        return CalibrationData(self.folders, tuple(chosen))

    def sources(self, card: ModelCard) -> list[PictureSource]:
        """Return the pictures as `irsde_deploy.calibration.states` takes them, for the network of a card."""

        def read(entry: Entry) -> tuple[Float32, Float32 | None]:
            return _read(card, entry)

        kept = lru_cache(maxsize=_KEPT)(read)

        def source(entry: Entry) -> PictureSource:
            height, width = picture_size(entry.gt or entry.lq)
            return PictureSource(
                entry.name, (height, width), partial(kept if height * width <= _KEPT_PIXELS else read, entry)
            )

        return [source(entry) for entry in self.entries]


def find_data(given: str, on_note: Callable[[str], None] = SILENT.note) -> CalibrationData:
    """Find the pictures of a calibration.

    Args:
        given: `LQ,GT` (two folders), a folder with the subfolders LQ and GT, or a folder of degraded pictures alone.
        on_note: is told of each picture or pair that cannot be read, or does not fit, and is left out.

    Raises:
        InvalidValueError: one of the two folders is left out.
        InputFileError: the folders are not there, hold no pictures, or none that can be read and fits.
    """
    lq, comma, gt = given.partition(",")
    if not comma or Path(given).exists():
        return data_in((given,), on_note)
    if not lq or not gt:
        raise InvalidValueError(f"`data` takes LQ,GT: two folders with a comma between, not {shown(given)}")
    return data_in((lq, gt), on_note)


def data_in(folders: tuple[str, ...], on_note: Callable[[str], None] = SILENT.note) -> CalibrationData:
    """Return the pictures of one folder, or of one of degraded and one of clean ones; raises as `find_data`."""
    files = _files(folders)
    if len(files) > MAX_PICTURES:
        where = ",".join(folders)
        raise InputFileError(f"{where}: {len(files)} pictures are more than ranges need: give {MAX_PICTURES} at most")
    works = [(lq, partial(_entry, name, lq, gt)) for name, lq, gt in files]
    return CalibrationData(folders, tuple(those_that_work(works, on_note, "left out of the calibration")))


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
    return [(pair.name, pair.lq, pair.gt) for pair in pairs]


def _has_clean_pictures(folder: Path) -> bool:
    return any(path.is_dir() and path.name.lower() in GT_NAMES for path in folder.iterdir())


def _entry(name: str, lq: Path, gt: Path | None) -> Entry:
    """A picture or pair, read once from end to end, so that none stops a calibration halfway."""
    degraded = read_picture(lq).rgb
    if gt is not None:
        enlarged(degraded, read_picture(gt).rgb, Pair(name, lq, gt))
    return Entry(name, lq, gt, file_sha256(lq), None if gt is None else file_sha256(gt))


def _read(card: ModelCard, entry: Entry) -> tuple[Float32, Float32 | None]:
    """Read a picture and return (mu, y_0), both (C, H, W); y_0 is None without a clean picture."""
    lq = read_picture(entry.lq).rgb
    if entry.gt is None:
        return to_network(check_picture(card, lq))[0], None
    gt = read_picture(entry.gt).rgb
    lq = enlarged(lq, gt, Pair(entry.name, entry.lq, entry.gt))
    mu, clean = (to_network(check_picture(card, picture))[0] for picture in (lq, gt))
    return mu, np.subtract(clean, mu)
