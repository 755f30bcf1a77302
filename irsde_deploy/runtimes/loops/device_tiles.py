"""Tiles on a device: an evaluation of the whole that cuts, evaluates and blends one window after another.

The same numbers as `numpy_loop` with tiles: sums are float32, in the same order.
"""

from __future__ import annotations

import numpy as np

from ...core.tiling import Axis, Tiles
from ..device.drivers.memory import Memory
from ..device.engine import DeviceEngine


class TiledEvaluation:
    """An `Evaluation` of what the network sees of a whole picture, by one of a tile's size.

    Args:
        engine: the network.
        batch: pictures at a time.
        tiles: of the padded picture.
        io: suffix of kernels for the engine's type, `f32` or `f16`.
        dimensions: what kernels take for a size: channels, height, width, padded height, padded width.
        stream: to set up on.
    """

    def __init__(
        self, engine: DeviceEngine, batch: int, tiles: Tiles, io: str, dimensions: tuple[int, ...], stream: int
    ) -> None:
        self._driver, self._tiles, self._io, self._dimensions = engine.driver, tiles, io, dimensions
        height, width = tiles.size
        self._evaluate = engine.evaluation((batch, height, width), stream)
        self._pixels = batch * dimensions[0] * height * width
        self._padded_pixels = batch * dimensions[0] * dimensions[3] * dimensions[4]
        tile = np.dtype(engine.io_type).itemsize * self._pixels
        self._x, self._mu, self._eps = (Memory(self._driver, tile) for _ in range(3))
        self._sum = Memory(self._driver, 4 * self._padded_pixels) if io == "f16" else None  # else eps itself
        self._rows, self._columns = (self._uploaded(axis, stream) for axis in (tiles.rows, tiles.columns))

    def __call__(self, x: int, mu: int, t: int, eps: int, stream: int) -> None:
        """See `Evaluation`; puts all tiles on the stream."""
        total = eps if self._sum is None else self._sum.pointer
        self._driver.launch("irsde_clear", self._padded_pixels, (total,), stream)
        for tile in self._tiles:
            rows, columns = self._tiles.window(tile)
            window = (rows.start, columns.start, *self._tiles.size, *self._dimensions)
            for whole, part in ((x, self._x), (mu, self._mu)):
                self._launch("cut", self._pixels, (whole, part.pointer, *window), stream)
            self._evaluate(self._x.pointer, self._mu.pointer, t, self._eps.pointer, stream)
            weights = [
                memory.pointer + 4 * number * side
                for memory, number, side in zip((self._rows, self._columns), tile, self._tiles.size, strict=True)
            ]
            self._launch("blend", self._pixels, (self._eps.pointer, total, *weights, *window), stream)
        if self._sum is not None:
            self._driver.launch("irsde_to_half", self._padded_pixels, (total, eps), stream)

    def _launch(self, kernel: str, count: int, arguments: tuple[int, ...], stream: int) -> None:
        self._driver.launch(f"irsde_{kernel}_{self._io}", count, arguments, stream)

    def _uploaded(self, axis: Axis, stream: int) -> Memory:
        memory = Memory(self._driver, axis.weights.nbytes)
        self._driver.upload(memory.pointer, np.ascontiguousarray(axis.weights), stream)
        self._driver.synchronize(stream)
        return memory
