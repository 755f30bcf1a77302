"""The pictures that a precision is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..core.arrays import Float32
from ..core.card import ModelCard
from ..core.pixels import check_picture, to_network
from ..errors import InputFileError
from ..pictures.files import is_picture_file, read_picture

MAX_PICTURES = 64
"""More take long and tell no more."""


def read_pictures(card: ModelCard, paths: Sequence[Path]) -> list[Float32]:
    """Pictures of files and folders as the network takes them, each (1, C, H, W) in [0, 1].

    Raises:
        InputFileError: a folder without pictures, more than `MAX_PICTURES`, or a file that is none.
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
    return [to_network(check_picture(card, read_picture(file).rgb)) for file in files]
