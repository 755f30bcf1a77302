"""The normal field of `irsde_deploy.core.noise` as ONNX nodes: Philox 4x32-10 and Box-Muller, from a seed.

Words are 32-bit values held as int64, since no operator of ONNX promises that a product wraps: the 64-bit product of
two words is put together from 16-bit halves, every step of which stays below 2^49. It needs int64 and float64 that are
what they say, as in ONNX Runtime; OpenVINO computes int64 as int32 on the CPU, TensorRT has no BitwiseXor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from ..core.noise import MULTIPLIERS, WEYL
from .writer import GraphWriter

OPSET = 18
"""The first with BitwiseXor."""

_FLOAT32, _INT64, _FLOAT64 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.DOUBLE
_HALF = 2**16
_WORD = 2**32


def write_normals(w: GraphWriter, seed: str, steps: Sequence[int], channels: int, height: str, width: str) -> str:
    """Standard normals (K, 1, C, H, W) float32 of frame 0, the same field for every picture of a batch.

    Args:
        w: where the nodes go.
        seed: name of a uint64 vector of one element.
        steps: K addresses: 0 for the initial state, k for the k-th reverse step.
        channels: C.
        height, width: names of int64 vectors of one element.
    """
    addresses = np.asarray(steps).reshape(-1, 1, 1, 1) * 256 + np.arange(channels).reshape(1, -1, 1, 1)
    quads = w("Div", w("Add", width, w.integers(3)), w.integers(4))
    counter = (
        _range(w, quads, (0, 1, 2)),
        _range(w, height, (0, 1, 3)),
        w.constant(addresses, np.int64),
        w.integers(0),
    )
    words = _philox(w, counter, _key(w, seed))
    # A counter gives four normals that follow each other in a line; what is beyond the line's end is cut off.
    normals = (*_box_muller(w, words[0], words[1]), *_box_muller(w, words[2], words[3]))
    last = w.integers(-1)
    grouped = w("Concat", *[w("Unsqueeze", z, last) for z in normals], axis=-1)
    lines = w("Reshape", grouped, w.integers(0, 0, 0, -1))
    return w("Unsqueeze", w("Slice", lines, w.integers(0), width, w.integers(3)), w.integers(1))


def _range(w: GraphWriter, length: str, axes: tuple[int, ...]) -> str:
    """0..length-1 along the axis that is left, of four."""
    counted = w("Range", w.constant(0, np.int64), w("Squeeze", length), w.constant(1, np.int64))
    return w("Unsqueeze", counted, w.integers(*axes))


def _key(w: GraphWriter, seed: str) -> tuple[str, str]:
    """The seed's low and high word."""
    word = w.constant(_WORD - 1, np.uint64)
    high = w("BitShift", seed, w.constant(32, np.uint64), direction="RIGHT")
    low = w("BitwiseAnd", seed, word)
    return w("Cast", low, to=_INT64), w("Cast", high, to=_INT64)


def _philox(w: GraphWriter, counter: tuple[str, str, str, str], key: tuple[str, str]) -> tuple[str, str, str, str]:
    """See `irsde_deploy.core.noise.philox4x32`."""
    c0, c1, c2, c3 = counter
    for done in range(10):
        k0 = w("Mod", w("Add", key[0], w.integers(done * WEYL[0])), w.integers(_WORD))
        k1 = w("Mod", w("Add", key[1], w.integers(done * WEYL[1])), w.integers(_WORD))
        high0, low0 = _product(w, int(MULTIPLIERS[0]), c0)
        high1, low1 = _product(w, int(MULTIPLIERS[1]), c2)
        c0 = w("BitwiseXor", high1, w("BitwiseXor", c1, k0))
        c2 = w("BitwiseXor", high0, w("BitwiseXor", c3, k1))
        c1, c3 = low1, low0
    return c0, c1, c2, c3


def _product(w: GraphWriter, multiplier: int, word: str) -> tuple[str, str]:
    """High and low word of multiplier * word."""
    half, factor = w.integers(_HALF), w.integers(multiplier)
    low = w("Mul", w("Mod", word, half), factor)
    high = w("Add", w("Mul", w("Div", word, half), factor), w("Div", low, half))
    return w("Div", high, half), w("Add", w("Mul", w("Mod", high, half), half), w("Mod", low, half))


def _box_muller(w: GraphWriter, word0: str, word1: str) -> tuple[str, str]:
    """Two words -> two normals: float64 throughout, rounded once."""

    def number(value: float) -> str:
        return w.constant(value, np.float64)

    uniform = w("Mul", w("Add", w("Cast", word0, to=_FLOAT64), number(0.5)), number(1 / _WORD))
    radius = w("Sqrt", w("Mul", w("Log", uniform), number(-2)))
    angle = w("Mul", w("Cast", word1, to=_FLOAT64), number(2 * math.pi / _WORD))
    cosine = w("Sin", w("Sub", number(math.pi / 2), angle))  # ONNX Runtime before 1.29 has no Cos of float64
    even = w("Cast", w("Mul", radius, cosine), to=_FLOAT32)
    odd = w("Cast", w("Mul", radius, w("Sin", angle)), to=_FLOAT32)
    return even, odd
