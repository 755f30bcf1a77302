"""The pictures that a precision is measured on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ..core.arrays import Float32
from ..core.card import ModelCard
from ..core.pixels import check_picture, to_network
from ..errors import InputFileError
from ..pictures.files import is_picture_file, read_picture
from ..system.listener import SILENT
from ..system.one_of_many import those_that_work

MAX_PICTURES = 64
"""More take long and tell no more."""


def read_pictures(
    card: ModelCard, paths: Sequence[Path], on_note: Callable[[str], None] = SILENT.note
) -> list[Float32]:
    """Pictures of files and folders as the network takes them, each (1, C, H, W) in [0, 1].

    Args:
        card: of the network.
        paths: of the files and folders; none: no pictures.
        on_note: is told of each picture that cannot be read, and is left out.

    Raises:
        InputFileError: a folder without pictures, more than `MAX_PICTURES`, or none that can be read.
        InvalidValueError: the network does not take pictures.
    """
    files: list[Path] = []
    for path in paths:
        found = sorted(filter(is_picture_file, path.iterdir())) if path.is_dir() else [path]
        if not found:
            raise InputFileError(f"{path}: no pictures there")
        files += found
    if len(files) > MAX_PICTURES:
        raise InputFileError(f"{len(files)} pictures are too many to measure on: give {MAX_PICTURES} at most")
    return those_that_work([(file, partial(_read, card, file)) for file in files], on_note, "not measured on")


def _read(card: ModelCard, file: Path) -> Float32:
    return to_network(check_picture(card, read_picture(file).rgb))
