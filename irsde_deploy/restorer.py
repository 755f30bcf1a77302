"""Restorer: degraded pictures in, restored pictures out, in the type they came in."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .core.card import ModelCard
from .core.noise import NoiseSource, given_noise, seeded_noise
from .core.pixels import check_picture, check_shape
from .core.samplers import StepTable, plan_steps
from .core.sampling import blind_sde
from .core.sde import DenoisingSDE, MeanRevertingSDE
from .core.tiling import Tile, Tiling
from .errors import InvalidValueError, NotFiniteError
from .runtimes.device.arrays import LEGACY_STREAM, DeviceArray
from .runtimes.device.engine import DeviceEngine
from .runtimes.loops.device_loop import DeviceLoop
from .runtimes.loops.numpy_loop import NumpyLoop
from .runtimes.loops.tile_choice import choices, first_that_fits
from .runtimes.opening import open_engine
from .runtimes.protocol import Engine

Restored = TypeVar("Restored")


class Restorer:
    """An engine and the reverse-SDE loop around it.

    Args:
        engine: any `Engine`; `load` makes one from a file.
        fallback: a restorer of the same model, such as its FP32 engine, that does a picture again where a state of
            this one is not finite.

    Attributes:
        fallbacks: how many pictures the fallback has done.
        tiling: how the last picture was cut into tiles; None: it was restored whole.

    Raises:
        InvalidValueError: the fallback is of another model, or not in FP32.
    """

    def __init__(self, engine: Engine, fallback: Restorer | None = None) -> None:
        self.engine = engine
        self.fallback = fallback
        self.fallbacks = 0
        self.tiling: Tiling | None = None
        self._loop = loop_around(engine)
        if fallback is not None:
            _require_same_model(self.card, fallback.card)

    @property
    def card(self) -> ModelCard:
        """What the engine is and how it wants its pictures."""
        return self.engine.card

    @property
    def sde(self) -> MeanRevertingSDE | DenoisingSDE:
        """The SDE that the network was trained with."""
        return self.card.sde

    def plan(
        self,
        sampler: str | None = None,
        steps: int | None = None,
        debias: bool = False,
        t0: int | None = None,
        noise_level: float | None = None,
        quality: str | None = None,
    ) -> StepTable:
        """The step table for these settings; what is left out comes from the card (`ModelCard.plan`)."""
        return self.card.plan(sampler, steps, debias, t0, noise_level, quality)

    def __call__(
        self,
        picture: npt.NDArray[Any],
        sampler: str | None = None,
        steps: int | None = None,
        seed: int = 0,
        noise: npt.NDArray[Any] | None = None,
        debias: bool = False,
        t0: int | None = None,
        clip: bool = False,
        on_step: Callable[[int], None] | None = None,
        noise_level: float | None = None,
        quality: str | None = None,
        tile: Tile = None,
        overlap: int | None = None,
        frames: Sequence[int] | None = None,
    ) -> npt.NDArray[Any]:
        """Restore one picture or a batch.

        Args:
            picture: (H, W, C) or (B, H, W, C), RGB; uint8, uint16, or floating point in [0, 1].
            sampler: one of `irsde_deploy.core.samplers.SAMPLERS`; the card's by default.
            steps: number of network evaluations; the card's by default.
            seed: of the noise field. Each picture of a batch gets the same field, alone or in a batch.
            noise: (steps+1, B, C, H, W) standard normals in place of the seed: [0] for the initial state, then one
                a step.
            debias: take the training target's bias out (see `plan_steps`).
            t0: first timestep; the card's by default, else T.
            clip: keep the predicted picture within [0, 1] at each step.
            on_step: called with the number of steps done, 0..N.
            noise_level: for models of a Denoising-SDE, which need it or t0: standard deviation of the picture's
                noise on the 0..255 scale; `irsde_deploy.pictures.noise_level.estimate_noise` estimates it.
            quality: a preset of `irsde_deploy.core.presets` in place of sampler and steps.
            tile: side in pixels of tiles to evaluate one by one (`irsde_deploy.core.tiling`); `auto`: whole where
                memory and the engine allow, else the largest that they do; None: whole. Where memory runs out, smaller
                ones are tried, but for None.
            overlap: of tiles, in pixels; by default 64, or half a side where that is less.
            frames: one number a picture, 0..2^32-1: those of different numbers get different fields of the seed; 0 each
                by default.

        Returns:
            The same shape and type. Integers are rounded and saturated; floating point is left as it comes, which
            can be slightly outside [0, 1].

        Raises:
            InvalidValueError: a shape, type or setting that does not fit.
            EngineError: the evaluation failed; OutOfMemoryError: for want of memory.
        """
        picture = np.asarray(picture)
        batch = check_picture(self.card, picture)
        table = self._table(sampler, steps, debias, t0, noise_level, quality, clip)
        draw = self._noise(seed, noise, table, batch.shape, frames)

        def restore(loop: Any, tiling: Tiling | None) -> npt.NDArray[Any]:
            restored: npt.NDArray[Any] = loop(batch, table, draw, clip, on_step, tiling)
            return restored.reshape(picture.shape)

        return self._run(restore, batch.shape, tile, overlap)

    def on_device(
        self,
        picture: Any,
        sampler: str | None = None,
        steps: int | None = None,
        seed: int = 0,
        debias: bool = False,
        t0: int | None = None,
        clip: bool = False,
        noise_level: float | None = None,
        out: Any = None,
        stream: int | None = None,
        bgr: bool = False,
        quality: str | None = None,
        tile: Tile = None,
        overlap: int | None = None,
        frames: Sequence[int] | None = None,
    ) -> DeviceArray:
        """Restore a picture that is in the GPU's memory already; it never visits the host.

        Args:
            picture: (H, W, C) or (B, H, W, C) with `__cuda_array_interface__` (CuPy, PyTorch, Numba) or `__dlpack__`
                (JAX, and all of them); uint8, uint16, or float16 or float32 in [0, 1]; any strides.
            sampler, steps, quality, seed, frames, debias, t0, clip, noise_level, tile, overlap: as for pictures in
                host memory.
            out: array to write to, same shape and type, `picture` itself if you like; by default a new `DeviceArray`,
                which has `__cuda_array_interface__`.
            stream: CUDA stream handle to work on; by default one of the engine's own, after waiting for the stream
                that the picture's interface names.
            bgr: the channels are blue, green, red.

        Returns:
            The array written to, complete: the stream has been waited for.

        Raises:
            InvalidValueError: an engine that does not run on a device, or a picture that is not on the same.
            EngineError: the evaluation failed; NotFiniteError: a state is not finite, and nothing was written.
        """
        if not isinstance(self._loop, DeviceLoop):
            raise InvalidValueError(f"{self.engine.name} works on pictures in host memory: call the restorer itself")
        given = DeviceArray.of(picture, stream or LEGACY_STREAM)
        target = None if out is None else DeviceArray.of(out, stream or LEGACY_STREAM).as_batch()
        source = given.as_batch()
        check_shape(self.card, source.shape, given.shape)
        table = self._table(sampler, steps, debias, t0, noise_level, quality, clip)
        draw = self._noise(seed, None, table, source.shape, frames)

        def restore(loop: Any, tiling: Tiling | None) -> DeviceArray:
            restored: DeviceArray = loop.on_device(source, table, draw, clip, target, stream, bgr, tiling)
            return restored if len(given.shape) == 4 else restored.without_batch()

        return self._run(restore, source.shape, tile, overlap, on_device=True)

    def seconds_per_evaluation(
        self, picture: npt.NDArray[Any], repeats: int = 3, tile: Tile = None, overlap: int | None = None
    ) -> float:
        """What one network evaluation, with the update after it, takes at the size of a picture or batch.

        For `irsde_deploy.core.presets.quality_within`. With tiles, all of them are one evaluation. A restorer whose
        states are not finite takes its fallback's time.

        Args:
            picture, tile, overlap: as for restoring. repeats: at least 1; the fastest counts.

        Returns:
            Seconds, for the whole batch.

        Raises:
            InvalidValueError, EngineError: as for restoring.
        """
        if repeats < 1:
            raise InvalidValueError(f"repeats must be at least 1, not {repeats}")
        picture = np.asarray(picture)
        batch = check_picture(self.card, picture)
        table = plan_steps(self.sde, "mean", 1)
        draw = self._noise(0, None, table, batch.shape)

        def timed(tiling: Tiling | None) -> float:
            started = time.perf_counter()
            self._loop(batch, table, draw, tiling=tiling)
            return time.perf_counter() - started

        ways = choices(self.engine, batch.shape, tile, overlap)
        try:
            return min(first_that_fits(ways, timed) for _ in range(repeats))
        except NotFiniteError:
            if self.fallback is None:
                raise
            return self.fallback.seconds_per_evaluation(picture, repeats, tile, overlap)

    def _table(
        self,
        sampler: str | None,
        steps: int | None,
        debias: bool,
        t0: int | None,
        noise_level: float | None,
        quality: str | None,
        clip: bool,
    ) -> StepTable:
        """The step table, once the settings are known to fit the model."""
        if blind_sde(self.sde, noise_level, t0):
            raise InvalidValueError(
                "this model starts at the timestep that matches the picture's noise: give noise_level (standard "
                "deviation on the 0..255 scale; irsde_deploy.pictures.noise_level.estimate_noise estimates it) or t0"
            )
        if clip and self.card.value_range is None:
            raise InvalidValueError("clip is for pictures; this network works on latents, which have no fixed range")
        return self.plan(sampler, steps, debias, t0, noise_level, quality)

    def _noise(
        self,
        seed: int,
        given: npt.NDArray[Any] | None,
        table: StepTable,
        batch: tuple[int, ...],
        frames: Sequence[int] | None = None,
    ) -> NoiseSource:
        """The noise of a batch (B, H, W, C): of a seed, or given."""
        shape = (batch[0], batch[3], batch[1], batch[2])
        return seeded_noise(seed, shape, frames) if given is None else given_noise(given, len(table), shape)

    def _run(
        self,
        restore: Callable[[Any, Tiling | None], Restored],
        shape: tuple[int, ...],
        tile: Tile,
        overlap: int | None,
        on_device: bool = False,
    ) -> Restored:
        """Restore a batch (B, H, W, C) with the engine's loop, or where a state is not finite with the fallback's.

        In tiles where `tile` says so, or memory and the engine do.
        """
        try:
            return self._in_tiles(restore, shape, tile, overlap)
        except NotFiniteError:
            if self.fallback is None or (on_device and not isinstance(self.fallback._loop, DeviceLoop)):
                raise
            self.fallbacks += shape[0]
            restored = self.fallback._in_tiles(restore, shape, tile, overlap)
            self.tiling = self.fallback.tiling
            return restored

    def _in_tiles(
        self, restore: Callable[[Any, Tiling | None], Restored], shape: tuple[int, ...], tile: Tile, overlap: int | None
    ) -> Restored:
        def restored(tiling: Tiling | None) -> Restored:
            self.tiling = tiling
            return restore(self._loop, tiling)

        return first_that_fits(choices(self.engine, shape, tile, overlap), restored)


def loop_around(engine: Engine) -> DeviceLoop | NumpyLoop:
    """The loop that an engine's arrays are made for: on its device, or in NumPy."""
    return DeviceLoop(engine) if isinstance(engine, DeviceEngine) else NumpyLoop(engine)


def load(
    path: str | Path,
    device: str | None = None,
    card: ModelCard | None = None,
    fallback: str | Path | None = None,
    driver: str = "cuda-bindings",
    provider: str | None = None,
) -> Restorer:
    """Open an engine file as a Restorer: `.onnx`, `.plan`, or a PyTorch checkpoint.

    Args:
        path, device, card, driver, provider: see `irsde_deploy.runtimes.opening.open_engine`.
        fallback: engine file of the same model to restore with where this one's states are not finite; where no device
            is named and this one is a plan, on the GPU if it can be used there, else on the CPU.
    """
    beside_plan = device is None and Path(path).suffix.lower() == ".plan"
    other = (
        None if fallback is None else load(fallback, "auto" if beside_plan else device, card, None, driver, provider)
    )
    return Restorer(open_engine(path, device, card, driver, provider), other)


def _require_same_model(card: ModelCard, fallback: ModelCard) -> None:
    if fallback.precision != "fp32":
        raise InvalidValueError(
            f"the fallback is {fallback.precision} itself: give one that was made with --precision fp32"
        )
    for name in ("network", "sde", "channels", "pad_mode", "checkpoint_sha256"):
        mine, other = getattr(card, name), getattr(fallback, name)
        if mine != other:
            raise InvalidValueError(
                f"the fallback is of another model: its {name} is {other}, and this one's is {mine}"
            )
