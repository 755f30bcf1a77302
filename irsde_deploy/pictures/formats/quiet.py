"""Keeps libtiff from writing to the terminal: what is wrong with a file is said once, by us.

Pillow silences its warnings and leaves its errors, which libtiff prints itself.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

import PIL


@cache
def silence_libtiff() -> None:
    """Take away the function by which Pillow's libtiff prints errors, where it is a library of its own."""
    package = Path(PIL.__file__).parent
    # Where wheels have their libraries: on Linux, and on macOS; nothing is loaded that Pillow has not loaded.
    for path in (*(package.parent / "pillow.libs").glob("libtiff*"), *(package / ".dylibs").glob("libtiff*")):
        try:
            library = ctypes.CDLL(str(path), mode=getattr(os, "RTLD_NOLOAD", 0) | getattr(os, "RTLD_NOW", 0))
            library.TIFFSetErrorHandler.argtypes = [ctypes.c_void_p]
            library.TIFFSetErrorHandler.restype = ctypes.c_void_p
            library.TIFFSetErrorHandler(None)
        except (OSError, AttributeError):
            continue  # another build, which prints
