"""Tiles on a device: an evaluation of the whole that cuts, evaluates and blends one window after another.

The numbers are those of `loops.numpy_loop` with tiles: sums are float32, in the same order.
"""

from __future__ import annotations

import numpy as np

from ...core.tiling import Axis, Tiles
from ..device.drivers.memory import Memory
from ..device.engine import DeviceEngine


class TiledEvaluation:
    """An `Evaluation` of whole padded pictures, made of evaluations of single tiles.

    Args:
        engine: the network.
        batch: how many pictures are evaluated at a time.
        tiles: the tiles of the padded picture.
        io: how the names of the kernels for the engine's type end, `f32` or `f16`.
        dimensions: a size as kernels take it: channels, height, width, padded height, padded width.
        stream: the stream to set up on.
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
        self._x = Memory(self._driver, tile)
        self._mu = Memory(self._driver, tile)
        self._eps = Memory(self._driver, tile)
        # A sum in float16 would round once a tile; a float32 engine's sums are made in eps itself.
        self._sum: Memory | None = None
        if io == "f16":
            self._sum = Memory(self._driver, 4 * self._padded_pixels)
        self._rows = self._uploaded(tiles.rows, stream)
        self._columns = self._uploaded(tiles.columns, stream)

    def __call__(self, x: int, mu: int, t: int, eps: int, stream: int) -> None:
        """See `Evaluation`; puts all tiles on the stream."""
        total = eps
        if self._sum is not None:
            total = self._sum.pointer
        self._driver.launch("irsde_clear", self._padded_pixels, (total,), stream)
        # One after another in the same three buffers: work on a stream happens in order.
        for tile in self._tiles:
            rows, columns = self._tiles.window(tile)
            window = (rows.start, columns.start, *self._tiles.size, *self._dimensions)
            self._launch("cut", self._pixels, (x, self._x.pointer, *window), stream)
            self._launch("cut", self._pixels, (mu, self._mu.pointer, *window), stream)
            self._evaluate(self._x.pointer, self._mu.pointer, t, self._eps.pointer, stream)
            self._launch("blend", self._pixels, (self._eps.pointer, total, *self._weights(tile), *window), stream)
        if self._sum is not None:
            self._driver.launch("irsde_to_half", self._padded_pixels, (total, eps), stream)

    def _weights(self, tile: tuple[int, int]) -> tuple[int, int]:
        """Pointers to a tile's weights along its rows and along its columns, float32 both."""
        height, width = self._tiles.size
        row, column = tile
        return self._rows.pointer + 4 * row * height, self._columns.pointer + 4 * column * width

    def _launch(self, kernel: str, count: int, arguments: tuple[int, ...], stream: int) -> None:
        self._driver.launch(f"irsde_{kernel}_{self._io}", count, arguments, stream)

    def _uploaded(self, axis: Axis, stream: int) -> Memory:
        """The weights of all tiles along one side, on the device."""
        memory = Memory(self._driver, axis.weights.nbytes)
        weights = np.ascontiguousarray(axis.weights)
        self._driver.upload(memory.pointer, weights, stream)
        self._driver.synchronize(stream)  # the array must outlive the copy
        return memory
