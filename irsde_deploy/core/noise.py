"""Normal fields addressed by (seed, frame, step, channel, y, x): the same on every device, tile and batch.

Each value comes from Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), a
bijection of a 128-bit counter under a 64-bit key, followed by Box-Muller:

    key     = (seed mod 2^32, seed div 2^32)
    counter = (x div 4, y, step * 256 + channel, frame)
    w       = philox4x32(counter, key)                                    four 32-bit words
    radius  = sqrt(-2 log((w[i] + 1/2) / 2^32)),  angle = 2 pi w[i+1] / 2^32,   i = 0 for x mod 4 < 2, else 2
    z       = radius cos(angle) for even x, radius sin(angle) for odd x

evaluated in float64 and rounded once to float32, so that the result does not hang on a mathematics library's last
bit. A crop of a field is the field of the crop. Step 0 is the initial state, step k the k-th reverse step.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import InvalidValueError
from ..system.parsing import shown
from ..system.threads import usable_threads

Words: TypeAlias = npt.NDArray[np.uint64]
NoiseSource: TypeAlias = "Callable[[int], npt.NDArray[np.float32]]"
"""A function k -> standard normals (B, C, H, W): k = 0 for the initial state, then k = 1, 2, ... for each step."""

FRAME_NOISES = ("fixed", "per-frame")
"""Which noise a video's frames get: all of them the same field, or each the field of its number."""

# What the counter and the key have room for; step and channel share a word of 32 bits.
MAX_SEED = 2**64 - 1
MAX_FRAME = 2**32 - 1
MAX_STEP = 2**24 - 1
MAX_CHANNELS = 256
MAX_SIDE = 2**32

# The constants of Philox 4x32, as the paper's library Random123 has them.
MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox4x32(counter: Sequence[Any], key: tuple[int, int], rounds: int = 10) -> tuple[Words, Words, Words, Words]:
    """Philox 4x32, a function of 32-bit words; arrays hold them as uint64, so that products fit.

    Args:
        counter: four arrays of words, which are broadcast against each other.
        key: two words.
        rounds: ten, but for tests.

    Returns:
        Four arrays of words.
    """
    c0 = np.asarray(counter[0], dtype=np.uint64)
    c1 = np.asarray(counter[1], dtype=np.uint64)
    c2 = np.asarray(counter[2], dtype=np.uint64)
    c3 = np.asarray(counter[3], dtype=np.uint64)
    k0, k1 = key
    for _ in range(rounds):
        product0 = MULTIPLIERS[0] * c0
        product1 = MULTIPLIERS[1] * c2
        # Counter and key first: they are smaller than the product, where they have not been broadcast yet.
        c0 = (product1 >> _SHIFT) ^ (c1 ^ np.uint64(k0))
        c2 = (product0 >> _SHIFT) ^ (c3 ^ np.uint64(k1))
        c1 = product1 & _LOW
        c3 = product0 & _LOW
        k0 = (k0 + WEYL[0]) & 0xFFFFFFFF
        k1 = (k1 + WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def normal_field(
    seed: int,
    step: int,
    shape: tuple[int, int, int],
    frame: int = 0,
    origin: tuple[int, int] = (0, 0),
) -> npt.NDArray[np.float32]:
    """The normals in a window of the field, float32 (C, H, W).

    Args:
        seed: a number from 0 to 2^64-1.
        step: 0 for the initial state, k for the k-th reverse step; at most 2^24-1.
        shape: of the window, (C, H, W), with C at most 256.
        frame: a number from 0 to 2^32-1; pictures use 0, videos may count frames.
        origin: the address (y, x) of the window's first pixel.

    Raises:
        InvalidValueError: an address is outside the field.
    """
    channels, height, width = shape
    y0, x0 = origin
    _check_address(seed, step, frame, channels, (y0, y0 + height), (x0, x0 + width))
    field = np.empty(shape, dtype=np.float32)
    rows = max(1, _BLOCK // max(1, channels * width))

    def fill(top: int) -> None:
        _fill(field[:, top : top + rows], int(seed), step, frame, (y0 + top, x0))

    tops = range(0, height, rows)
    if len(tops) == 1:
        fill(0)
    else:
        list(_threads().map(fill, tops))  # a list, since only whoever takes the results hears of an error
    return field


_BLOCK = 2**16
"""How many values are drawn at a time: what lies in between fits a processor's cache."""


@cache
def _threads() -> ThreadPoolExecutor:
    """The threads that draw blocks; several, since NumPy leaves Python's lock while it works."""
    return ThreadPoolExecutor(min(8, usable_threads()), "noise")


def _fill(field: npt.NDArray[np.float32], seed: int, step: int, frame: int, origin: tuple[int, int]) -> None:
    """Draw one window (C, H, W) of the field."""
    channels, height, width = field.shape
    y0, x0 = origin
    # A counter gives four values: whole fours are drawn, and what sticks out at the sides is cut off.
    first, last = x0 // 4, (x0 + width + 3) // 4
    words = philox4x32(
        (
            np.arange(first, last)[None, None, :],
            np.arange(y0, y0 + height)[None, :, None],
            step * 256 + np.arange(channels)[:, None, None],
            np.uint64(frame),
        ),
        (seed & 0xFFFFFFFF, seed >> 32),
    )
    z = np.empty((channels, height, last - first, 4), dtype=np.float32)
    for i in (0, 2):
        _box_muller(words[i], words[i + 1], z[..., i], z[..., i + 1])
    left = x0 - 4 * first
    field[...] = z.reshape(channels, height, -1)[:, :, left : left + width]


def _box_muller(w0: Words, w1: Words, even: npt.NDArray[np.float32], odd: npt.NDArray[np.float32]) -> None:
    """Two arrays of words -> two arrays of normals; temporaries are written over wherever that goes."""
    radius = w0 + 0.5  # uint64 + float becomes float64, and the half keeps log away from 0
    radius *= 2.0**-32
    np.log(radius, out=radius)
    radius *= -2
    np.sqrt(radius, out=radius)
    angle = w1 * (2 * np.pi * 2.0**-32)
    sine = np.sin(angle)
    np.cos(angle, out=angle)
    np.multiply(radius, angle, out=even, casting="same_kind")
    np.multiply(radius, sine, out=odd, casting="same_kind")


def require_seed(seed: int) -> None:
    """Raise InvalidValueError unless this is a seed of noise; True is none, though Python takes it for 1."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed <= MAX_SEED:
        raise InvalidValueError(f"seed must be a whole number from 0 to 2^64 - 1, not {shown(seed)}")


def _check_address(
    seed: int, step: int, frame: int, channels: int, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    """Raise InvalidValueError unless all of a window is inside the field; rows and columns are (first, end)."""
    require_seed(seed)
    if not (0 <= step <= MAX_STEP and 0 <= frame <= MAX_FRAME and 1 <= channels <= MAX_CHANNELS):
        raise InvalidValueError(
            f"noise is addressed by step 0..{MAX_STEP}, frame 0..{MAX_FRAME} and up to {MAX_CHANNELS} channels, "
            f"not step {step}, frame {frame}, {channels} channels"
        )
    if min(rows[0], columns[0]) < 0 or max(rows[1], columns[1]) > MAX_SIDE:
        raise InvalidValueError(f"a noise window must lie within 0..2^32, not rows {rows}, columns {columns}")


class _KeptFields:
    """The fields of the seed and shape that were asked for last: the pictures of a folder or a video share them."""

    LIMIT = 2**27
    """How many bytes of fields are kept."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew, with another lock: after a fork somebody who is not here may hold the old one."""
        self._lock = threading.Lock()
        self._of: tuple[int, tuple[int, int, int]] | None = None
        self._fields: dict[tuple[int, int], npt.NDArray[np.float32]] = {}

    def field(self, seed: int, step: int, shape: tuple[int, int, int], frame: int) -> npt.NDArray[np.float32]:
        """`normal_field` of these settings, not to be written to; drawn once as long as there is room to keep it."""
        with self._lock:
            if self._of != (seed, shape):
                self._of, self._fields = (seed, shape), {}
            kept = self._fields.get((step, frame))
        if kept is not None:
            return kept
        # Without the lock: another thread may draw the same meanwhile, and comes to the same numbers.
        field = normal_field(seed, step, shape, frame)
        field.flags.writeable = False
        with self._lock:
            if self._of == (seed, shape) and (len(self._fields) + 1) * field.nbytes <= self.LIMIT:
                self._fields[step, frame] = field
        return field


_kept = _KeptFields()


def _after_fork() -> None:
    """A forked process has none of its parent's threads, and a lock that one of them held stays so."""
    _threads.cache_clear()
    _kept.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@dataclass(frozen=True)
class SeededNoise:
    """The noise of a batch by address: a `NoiseSource`, which device loops draw by their kernels instead.

    Attributes:
        seed: of the field.
        shape: of the batch, (B, C, H, W).
        frames: the frame number of each picture of the batch.
    """

    seed: int
    shape: tuple[int, int, int, int]
    frames: tuple[int, ...]

    def __call__(self, k: int) -> npt.NDArray[np.float32]:
        """Normals of the initial state (k = 0) or of step k, (B, C, H, W); not to be written to."""
        field = self.shape[1:]
        if len(self.frames) == 1:  # no copy of the field that is kept
            return _kept.field(self.seed, k, field, self.frames[0])[None]
        drawn = {frame: _kept.field(self.seed, k, field, frame) for frame in set(self.frames)}
        return np.stack([drawn[frame] for frame in self.frames])


def seeded_noise(seed: int, shape: tuple[int, int, int, int], frames: Sequence[int] | None = None) -> SeededNoise:
    """The noise of a batch by a seed.

    Args:
        seed: a number from 0 to 2^64-1.
        shape: of the batch, (B, C, H, W).
        frames: a number for each picture, which gives it the field of that frame; None: frame 0, and with it the same
            field, for all.

    Raises:
        InvalidValueError: an address outside the field, or another number of frames than of pictures.
    """
    batch, channels, height, width = shape
    numbers = [0] * batch if frames is None else _frame_numbers(frames)
    if len(numbers) != batch:
        raise InvalidValueError(f"frames must have one entry a picture: {batch}, not {len(numbers)}")
    for number in numbers:
        _check_address(seed, 0, number, channels, (0, height), (0, width))
    return SeededNoise(int(seed), shape, tuple(numbers))


def _frame_numbers(frames: Sequence[int]) -> list[int]:
    """Frame numbers as plain ints, or InvalidValueError: Python takes True for 1, and nobody means that here."""
    wrong = InvalidValueError(f"frames must be whole numbers, one a picture, not {shown(frames)}")
    try:
        given = list(frames)
    except TypeError:
        raise wrong from None
    if not all(isinstance(number, Integral) and not isinstance(number, bool) for number in given):
        raise wrong
    return [int(number) for number in given]


def given_noise(noise: npt.NDArray[Any], steps: int, shape: tuple[int, int, int, int]) -> NoiseSource:
    """Noise that the caller has, for parity with other code.

    Args:
        noise: standard normals (steps+1, B, C, H, W): [0] for the initial state, then one for each step.
        steps: how many steps will ask for it.
        shape: of the batch, (B, C, H, W).

    Raises:
        InvalidValueError: another shape, values that are not finite, or no real numbers.
    """
    expected = (steps + 1, *shape)
    noise = np.asarray(noise)
    if noise.dtype.kind not in "fiu":
        raise InvalidValueError(f"noise must be real numbers, not {noise.dtype}")
    if noise.shape != expected:
        raise InvalidValueError(f"noise must have the shape {expected} (steps + 1, B, C, H, W), not {noise.shape}")
    if not np.isfinite(noise).all():
        raise InvalidValueError("noise must be finite, and this array has NaN or infinite values")
    return lambda k: np.asarray(noise[k], dtype=np.float32)
