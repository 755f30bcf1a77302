"""libirsde called from this process: a pack described, pictures restored one after the other with one handle."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

TYPES = {np.dtype(np.uint8): 0, np.dtype(np.uint16): 1, np.dtype(np.float32): 2}


class Frame(ctypes.Structure):
    """irsde_frame."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("pixels", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("width", "height", "type", "order")),
        *((name, ctypes.c_int64) for name in ("row_stride", "pixel_stride", "channel_stride")),
    ]  # fmt: skip


class Description(ctypes.Structure):
    """irsde_description."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        *((name, ctypes.c_int32) for name in ("channels", "multiple_of", "steps", "stochastic", "latent", "clip")),
        ("seed", ctypes.c_uint64),
        *((name, ctypes.c_char_p) for name in ("sampler", "task", "precision", "engine", "card_json")),
    ]  # fmt: skip


class Result(ctypes.Structure):
    """irsde_selftest_result."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        *((name, ctypes.c_double) for name in ("noise_error", "output_error", "tolerance")),
    ]  # fmt: skip


class Handle:
    """A pack that is open."""

    def __init__(self, library: Any, pointer: ctypes.c_void_p) -> None:
        self._library, self._pointer = library, pointer

    def description(self) -> dict[str, Any]:
        """What irsde_describe says, by name."""
        found = Description(struct_size=ctypes.sizeof(Description))
        assert self._library.irsde_describe(self._pointer, ctypes.byref(found)) == 0, self.error()
        values = {name: getattr(found, name) for name, _ in Description._fields_}
        return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}

    def selftest(self) -> Result:
        """The numbers of irsde_selftest, whether they are the pack's or not."""
        found = Result(struct_size=ctypes.sizeof(Result))
        assert self._library.irsde_selftest(self._pointer, ctypes.byref(found)) in (0, 8), self.error()
        return found

    def restored(self, picture: np.ndarray, **strides: int) -> np.ndarray:
        """A picture (H, W, C) restored in its own memory; or, with strides, an array of another order."""
        pixels = np.ascontiguousarray(picture).copy()
        height, width = picture.shape[1:] if strides else picture.shape[:2]
        frame = Frame(
            struct_size=ctypes.sizeof(Frame), pixels=pixels.ctypes.data, width=width, height=height,
            type=TYPES[pixels.dtype], **strides,
        )  # fmt: skip
        if self._library.irsde_restore(self._pointer, ctypes.byref(frame), ctypes.byref(frame), None):
            raise ValueError(self.error())
        return pixels

    def error(self) -> str:
        """The sentence of the last failure."""
        return str(self._library.irsde_last_error(self._pointer).decode())


@contextmanager
def opened(library: Path, pack: Path) -> Iterator[Handle]:
    """Open a pack with a libirsde.so."""
    loaded = ctypes.CDLL(str(library))
    loaded.irsde_last_error.restype = ctypes.c_char_p
    loaded.irsde_last_error.argtypes = loaded.irsde_close.argtypes = [ctypes.c_void_p]
    pointer = ctypes.c_void_p()
    if loaded.irsde_open(str(pack).encode(), None, ctypes.byref(pointer)):
        raise ValueError(loaded.irsde_last_error(None).decode())
    try:
        yield Handle(loaded, pointer)
    finally:
        loaded.irsde_close(pointer)
