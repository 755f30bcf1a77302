"""All that a device loop keeps for pictures of one size: buffers on the device, and the recorded steps.

Buffers are allocated once. The N steps are recorded as one graph for each `Recipe`, and replayed: coefficients,
timesteps, seed and frame numbers are in device memory, so that another table or seed of the same length replays the
same graph.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...core.margin import evaluated, surrounded
from ...core.noise import NoiseSource, SeededNoise
from ...core.samplers import StepTable
from ...core.sampling import Plan
from ...core.tiling import Tiling
from ..device.arrays import DeviceArray
from ..device.drivers.memory import Memory
from ..device.engine import DeviceEngine, Evaluation
from .device_tiles import TiledEvaluation

NEVER = 2**31 - 1
"""The step that the kernels report where every state was finite: larger than any, since they keep the smallest."""

_ROW = 32
"""Bytes of the kernels' struct Row, eight floats."""

_ALIGNMENT = 256
"""The alignment in bytes of every pointer that an engine is given: TensorRT asks for that of an allocation."""

_PAD_MODES = {"zero": 0, "reflect": 1}
"""Padding of the model card -> the kernels' number for it."""

SUFFIXES = {
    np.dtype(np.uint8): "u8",
    np.dtype(np.uint16): "u16",
    np.dtype(np.float16): "f16",
    np.dtype(np.float32): "f32",
}
"""Type of pictures -> how the names of the kernels that read and write it end. Pictures of other floating-point types
are converted to float32 on the host."""


@dataclass(frozen=True)
class Recipe:
    """All of a run that the kernels' arguments depend on; the rest of it is in device memory.

    Attributes:
        steps: number of network evaluations.
        given: whether the noise is in device memory; else the kernels draw it from the seed.
        clip: whether the predicted picture is kept within [0, 1] at each step.
    """

    steps: int
    given: bool
    clip: bool


class DeviceSize:
    """The buffers and graphs for pictures of one size, whole or in tiles.

    Args:
        engine: the network.
        shape: of the pictures, (B, H, W).
        tiling: the tiles that the network sees; None: whole pictures.
        stream: the stream to set up and to record on.
    """

    def __init__(self, engine: DeviceEngine, shape: tuple[int, ...], tiling: Tiling | None, stream: int) -> None:
        card = engine.card
        batch, self.margin = shape[0], card.margin
        height, width = surrounded(shape[1], shape[2], self.margin)
        self.driver = engine.driver
        self.own_stream = stream
        self.batch = batch
        padded = (batch, *evaluated(shape[1], shape[2], self.margin, card.multiple_of))
        self.dimensions = (card.channels, height, width, padded[1], padded[2])
        self.pad_mode = _PAD_MODES[card.pad_mode]
        self.io = SUFFIXES[np.dtype(engine.io_type)]
        self.pixels = batch * card.channels * height * width
        self.padded_pixels = batch * card.channels * padded[1] * padded[2]
        # Each step's timesteps (B,) start at an aligned address, as the engine takes a pointer to them.
        self.t_stride = -(-4 * batch // _ALIGNMENT) * _ALIGNMENT
        # Where noise is drawn a thread does four neighbours in x: one counter of the generator gives four normals.
        self.fours = batch * card.channels * height * ((width + 3) // 4)
        self._buffers: dict[str, Memory] = {}
        self._staging: dict[np.dtype[Any], DeviceArray] = {}
        self._graphs: dict[Recipe, Any] = {}
        if tiling is None:
            self.evaluate: Evaluation = engine.evaluation(padded, stream)
        else:
            tiles = tiling.over(padded[1], padded[2], card.multiple_of)
            self.evaluate = TiledEvaluation(engine, batch, tiles, self.io, self.dimensions, stream)
        self.capturable = engine.capturable  # of the evaluation that was made last, which is ours
        for name in ("y", "q", "mu"):
            self._buffer(name, 4 * self.pixels)
        for name in ("x", "mu_in", "eps"):
            self._buffer(name, np.dtype(engine.io_type).itemsize * self.padded_pixels)
        # The first step that was not finite, the seed in two words, and the frame number of every picture.
        self._buffer("control", 4 * (3 + batch))

    def staging(self, picture: npt.NDArray[Any]) -> DeviceArray:
        """A contiguous picture on the device, to upload to and download from."""
        if picture.dtype not in self._staging:
            self._staging[picture.dtype] = DeviceArray.empty(self.driver, picture.shape, picture.dtype)
        return self._staging[picture.dtype]

    def set_up(self, plan: Plan, noise: NoiseSource, stream: int) -> Recipe:
        """Send what differs from run to run: coefficients, timesteps, seed and frames, or the noise itself.

        Returns:
            What `run` must know of it.
        """
        steps = len(plan)
        rows = _rows(plan.table)
        timesteps = np.zeros((steps, self.t_stride // 4), dtype=np.float32)
        timesteps[:, : self.batch] = plan.table.t[:, None]
        control = np.zeros(3 + self.batch, dtype=np.uint32)
        control[0] = NEVER
        if isinstance(noise, SeededNoise):
            control[1:3] = noise.seed & 0xFFFFFFFF, noise.seed >> 32
            control[3:] = noise.frames
        else:
            given = np.ascontiguousarray(np.stack([noise(k) for k in range(steps + 1)]), dtype=np.float32)
            self._send("noise", given, stream)
        self._send("rows", rows, stream)
        self._send("t", timesteps, stream)
        self._send("control", control, stream)
        self.driver.synchronize(stream)  # the arrays, all of them in variables here, must outlive the copies
        return Recipe(steps, not isinstance(noise, SeededNoise), plan.clip)

    def load(self, picture: DeviceArray, reversed_channels: bool, stream: int) -> None:
        """Make mu of a picture and its margin, and of that the padded mu that the network sees."""
        kernel = f"irsde_load_{SUFFIXES[picture.dtype]}_{self.io}"
        pointers = (picture.pointer, self._at("mu"), self._at("mu_in"))
        layout = self._layout(picture, reversed_channels)
        self.driver.launch(kernel, self.pixels, (*pointers, *layout, *self.dimensions), stream)
        self._pad("mu_in", stream)

    def store(self, picture: DeviceArray, reversed_channels: bool, stream: int) -> None:
        """Write mu + y, the restored picture, to a picture."""
        pointers = (picture.pointer, self._at("mu"), self._at("y"))
        arguments = (*pointers, *self._layout(picture, reversed_channels), *self.dimensions)
        self.driver.launch(f"irsde_store_{SUFFIXES[picture.dtype]}", self.pixels, arguments, stream)

    def _layout(self, picture: DeviceArray, reversed_channels: bool) -> tuple[int, ...]:
        """A picture's strides, order and margin, as kernels take them."""
        return (*picture.element_strides, int(reversed_channels), self.margin)

    def run(self, recipe: Recipe, on_step: Callable[[int], None] | None, stream: int) -> None:
        """Do the start and all steps: replay them as a graph where the engine allows it, else one by one."""
        if on_step is not None:
            on_step(0)
        if not self.capturable:
            self._steps(recipe, on_step, stream)
            return
        if recipe not in self._graphs:
            self._graphs[recipe] = self._captured(recipe, stream)
        self.driver.replay(self._graphs[recipe], stream)
        if on_step is not None:
            self.driver.synchronize(stream)
            on_step(recipe.steps)

    def not_finite_at(self, stream: int) -> int:
        """The first step whose state was not finite, or NEVER; waits for the stream."""
        flag = np.empty(1, dtype=np.int32)
        self.driver.download(flag, self._at("control"), stream)
        self.driver.synchronize(stream)
        return int(flag[0])

    def free(self) -> None:
        """Give all memory back."""
        self._forget_graphs()
        self._buffers.clear()
        self._staging.clear()

    def _captured(self, recipe: Recipe, stream: int) -> Any:
        """A graph of the whole loop, recorded on a stream of our own (the default stream cannot be).

        One evaluation of the start runs before, since engines finish setting up at their first.
        """
        self.driver.synchronize(stream)  # what `set_up` and `load` have on it is read on our own
        self._start(recipe, self.own_stream)
        self._evaluate(0, self.own_stream)
        self.driver.synchronize(self.own_stream)
        collecting = gc.isenabled()
        gc.disable()  # memory that a collection gives back would spoil the capture
        try:
            return self.driver.capture(lambda: self._steps(recipe, None, self.own_stream), self.own_stream)
        finally:
            if collecting:
                gc.enable()

    def _steps(self, recipe: Recipe, on_step: Callable[[int], None] | None, stream: int) -> None:
        """Put the start and every step on the stream."""
        self._start(recipe, stream)
        for k in range(recipe.steps):
            self._evaluate(k, stream)
            self._step(k, recipe, stream)
            if on_step is not None:
                self.driver.synchronize(stream)
                on_step(k + 1)

    def _start(self, recipe: Recipe, stream: int) -> None:
        """The initial y, and the first x."""
        pointers = (self._at("y"), self._at("x"), self._at("mu"), self._noise(0, recipe), self._at("control"))
        start = self._at("rows") + _ROW * recipe.steps
        self.driver.launch(f"irsde_start_{self.io}", self.fours, (*pointers, start, *self.dimensions), stream)
        self._pad("x", stream)

    def _evaluate(self, k: int, stream: int) -> None:
        timesteps = self._at("t") + self.t_stride * k
        self.evaluate(self._at("x"), self._at("mu_in"), timesteps, self._at("eps"), stream)

    def _step(self, k: int, recipe: Recipe, stream: int) -> None:
        pointers = [self._at(name) for name in ("y", "q", "x", "eps", "mu")]
        pointers += [self._noise(k + 1, recipe), self._at("control"), self._at("rows") + _ROW * k]
        arguments = (*pointers, k + 1, int(recipe.clip), *self.dimensions)
        self.driver.launch(f"irsde_step_{self.io}", self.fours, arguments, stream)
        self._pad("x", stream)

    def _pad(self, buffer: str, stream: int) -> None:
        if self.padded_pixels > self.pixels:
            arguments = (self._at(buffer), self.pad_mode, *self.dimensions)
            self.driver.launch(f"irsde_pad_{self.io}", self.padded_pixels, arguments, stream)

    def _noise(self, k: int, recipe: Recipe) -> int:
        """Where the given noise of step k is; 0 where the kernels draw it."""
        if not recipe.given:
            return 0
        return self._at("noise") + 4 * self.pixels * k

    def _at(self, name: str) -> int:
        return self._buffers[name].pointer

    def _send(self, name: str, array: npt.NDArray[Any], stream: int) -> None:
        self._buffer(name, array.nbytes)
        self.driver.upload(self._at(name), array, stream)

    def _buffer(self, name: str, size: int) -> None:
        """Allocate a buffer, or a larger one; graphs that know the old address are forgotten."""
        if name in self._buffers and self._buffers[name].size >= size:
            return
        if self._buffers.pop(name, None) is not None:  # given back first: there may be no room for both
            self._forget_graphs()
        self._buffers[name] = Memory(self.driver, size)

    def _forget_graphs(self) -> None:
        for graph in self._graphs.values():
            self.driver.release(graph)
        self._graphs.clear()


def _rows(table: StepTable) -> npt.NDArray[np.float32]:
    """(N + 1, 8): the kernel's Row of each step, then the initial state's deviation; rounded to float32 once."""
    rows = np.zeros((len(table) + 1, 8))
    rows[:-1] = np.stack([table.a, table.c, table.d, table.s, table.p, table.r, table.a_clip, table.k], axis=1)
    rows[-1, 0] = table.start
    return rows.astype(np.float32)
