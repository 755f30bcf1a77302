"""Keeps libtiff from writing to the terminal: what is wrong with a file is said once, by us.

Pillow raises libtiff's errors, and lets it print them as well.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import PIL
from PIL import _imaging  # noqa: F401 (which loads libtiff)


@cache
def silence_libtiff() -> None:
    """Take from Pillow's libtiff the functions by which it prints, where it is a library of its own."""
    for path in set(_loaded()):
        with suppress(OSError, AttributeError):  # a build of another kind, which prints
            for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
                handler = getattr(ctypes.CDLL(path), name)
                handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
                handler(None)


def _loaded() -> Iterator[str]:
    """Paths of the libtiffs of this process: those that Linux lists, or where Pillow's wheels for macOS have theirs."""
    with suppress(OSError):
        for line in Path("/proc/self/maps").read_text().splitlines():
            if "/libtiff" in line:
                yield line[line.index("/") :]
    yield from map(str, (Path(PIL.__file__).parent / ".dylibs").glob("libtiff*"))
