"""Restorer: degraded pictures in, restored pictures out, in the type they came in."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy.typing as npt

from .core.card import ModelCard, require_fallback_of
from .core.margin import surrounded
from .core.noise import NoiseSource, given_noise, seeded_noise
from .core.pixels import as_array, check_picture, check_shape
from .core.samplers import plan_steps
from .core.sampling import Plan, Sampling, SamplingSettings
from .core.sde import DenoisingSDE, MeanRevertingSDE
from .core.tiling import Tiling
from .errors import InvalidValueError, NotFiniteError, one_line
from .runtimes.device.arrays import LEGACY_STREAM, DeviceArray
from .runtimes.device.engine import DeviceEngine
from .runtimes.loops.device_loop import DeviceLoop
from .runtimes.loops.numpy_loop import NumpyLoop
from .runtimes.loops.tile_choice import choices, first_that_fits
from .runtimes.opening import open_engine
from .runtimes.protocol import Engine, Loop

if TYPE_CHECKING:
    from typing_extensions import Unpack

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
        files: that `load` opened, this engine's and then the fallback's; empty where an engine was made otherwise.
        runs_on: what computes, this engine's and then the fallback's: library, version, provider and device. As it was
            before the first picture, since an engine that is chosen for a size has another name afterwards.

    Raises:
        InvalidValueError: the fallback is of another model, or not in FP32.
    """

    def __init__(self, engine: Engine, fallback: Restorer | None = None) -> None:
        self.engine = engine
        self.fallback = fallback
        self.fallbacks = 0
        self.tiling: Tiling | None = None
        self.files: tuple[Path, ...] = ()
        self.runs_on: tuple[str, ...] = (*_names_of(engine), *(fallback.runs_on if fallback else ()))
        self._loop = loop_around(engine)
        if fallback is not None:
            require_fallback_of(self.card, fallback.card)

    def __repr__(self) -> str:
        """What is restored with what, in one line."""
        card = self.card
        words = [*(f"{path}:" for path in self.files[:1]), card.network]
        if card.task:
            words.append(f"for {one_line(card.task)}")
        words.append(f"in {card.precision} by {self.engine.name}; {card.sampler}, {card.steps} steps by default")
        if self.fallback is not None:
            words.append(f"(fallback: {self.fallback!r})")
        return f"<Restorer {' '.join(words)}>"

    @property
    def card(self) -> ModelCard:
        """What the engine is and how it wants its pictures."""
        return self.engine.card

    @property
    def sde(self) -> MeanRevertingSDE | DenoisingSDE:
        """The SDE that the network was trained with."""
        return self.card.sde

    def plan(self, sampling: Sampling | None = None, **settings: Unpack[SamplingSettings]) -> Plan:
        """What the loop executes for these settings; what they leave open comes from the card (`ModelCard.plan`)."""
        return self.card.plan(sampling, **settings)

    def __call__(
        self,
        picture: npt.NDArray[Any],
        sampling: Sampling | None = None,
        *,
        noise: npt.NDArray[Any] | None = None,
        frames: Sequence[int] | None = None,
        on_step: Callable[[int], None] | None = None,
        **settings: Unpack[SamplingSettings],
    ) -> npt.NDArray[Any]:
        """Restore one picture or a batch.

        Args:
            picture: (H, W, C) or (B, H, W, C), RGB; uint8, uint16, or floating point in [0, 1].
            sampling: the settings; or in its place, or changing it, single ones by name, such as `steps=4`
                (`irsde_deploy.core.sampling.Sampling` lists them). What they leave open comes from the card. Each
                picture of a batch gets the same noise, alone or in a batch.
            noise: (steps+1, B, C, H, W) standard normals in place of the seed: [0] for the initial state, then one
                a step. A card with a margin restores it too: H and W are then the picture's and twice the margin.
            frames: one number a picture, 0..2^32-1: those of different numbers get different fields of the seed; 0 each
                by default.
            on_step: called with the number of steps done, 0..N.

        Returns:
            The same shape and type. Integers are rounded and saturated; floating point is left as it comes, which
            can be slightly outside [0, 1].

        Raises:
            InvalidValueError: a shape, type or setting that does not fit.
            EngineError: the evaluation failed.
            OutOfMemoryError: it failed for want of memory.
        """
        picture = as_array(picture)
        batch = check_picture(self.card, picture)
        sampling = Sampling.of(sampling, **settings)
        plan = self.card.plan(sampling)
        draw = self._noise(sampling.seed, noise, len(plan), batch.shape, frames)

        def restore(loop: Loop, tiling: Tiling | None) -> npt.NDArray[Any]:
            return loop(batch, plan, draw, on_step=on_step, tiling=tiling).reshape(picture.shape)

        return self._run(restore, batch.shape, sampling)

    def on_device(
        self,
        picture: Any,
        sampling: Sampling | None = None,
        *,
        out: Any = None,
        stream: int | None = None,
        bgr: bool = False,
        frames: Sequence[int] | None = None,
        **settings: Unpack[SamplingSettings],
    ) -> DeviceArray:
        """Restore a picture that is in the GPU's memory already; it never visits the host.

        Args:
            picture: (H, W, C) or (B, H, W, C) with `__cuda_array_interface__` (CuPy, PyTorch, Numba) or `__dlpack__`
                (JAX, and all of them); uint8, uint16, or float16 or float32 in [0, 1]; any strides.
            sampling, frames: as for pictures in host memory; and so single settings by name.
            out: array to write to, same shape and type, `picture` itself if you like; by default a new `DeviceArray`,
                which has `__cuda_array_interface__`.
            stream: CUDA stream handle to work on; by default one of the engine's own, after waiting for the stream
                that the picture's interface names.
            bgr: the channels are blue, green, red.

        Returns:
            The array written to, complete: the stream has been waited for.

        Raises:
            InvalidValueError: an engine that does not run on a device, or a picture that is not on the same.
            EngineError: the evaluation failed.
            NotFiniteError: a state is not finite, and nothing was written.
        """
        if not isinstance(self._loop, DeviceLoop):
            raise InvalidValueError(f"{self.engine.name} works on pictures in host memory: call the restorer itself")
        given = DeviceArray.of(picture, stream or LEGACY_STREAM)
        target = None if out is None else DeviceArray.of(out, stream or LEGACY_STREAM).as_batch()
        source = given.as_batch()
        check_shape(self.card, source.shape, given.shape)
        sampling = Sampling.of(sampling, **settings)
        plan = self.card.plan(sampling)
        draw = self._noise(sampling.seed, None, len(plan), source.shape, frames)

        def restore(loop: Loop, tiling: Tiling | None) -> DeviceArray:
            on_device = cast(DeviceLoop, loop).on_device  # `_run` gives no other
            restored = on_device(source, plan, draw, out=target, stream=stream, bgr=bgr, tiling=tiling)
            return restored if len(given.shape) == 4 else restored.without_batch()

        return self._run(restore, source.shape, sampling, on_device=True)

    def seconds_per_evaluation(
        self, picture: npt.NDArray[Any], sampling: Sampling | None = None, repeats: int = 3
    ) -> float:
        """What one network evaluation, with the update after it, takes at the size of a picture or batch.

        For `irsde_deploy.core.presets.quality_within`. With tiles, all of them are one evaluation. A restorer whose
        states are not finite takes its fallback's time.

        Args:
            picture: as for restoring.
            sampling: its `tile` and `overlap` are what is used of it.
            repeats: at least 1; the fastest counts.

        Returns:
            Seconds, for the whole batch.

        Raises:
            InvalidValueError, EngineError: as for restoring.
        """
        if repeats < 1:
            raise InvalidValueError(f"repeats must be at least 1, not {repeats}")
        picture = as_array(picture)
        batch = check_picture(self.card, picture)
        sampling = Sampling.of(sampling)
        plan = Plan(plan_steps(self.sde, "mean", 1), "mean")
        draw = self._noise(0, None, len(plan), batch.shape)

        def timed(tiling: Tiling | None) -> float:
            started = time.perf_counter()
            self._loop(batch, plan, draw, tiling=tiling)
            return time.perf_counter() - started

        ways = choices(self.engine, batch.shape, sampling.tile, sampling.overlap)
        try:
            return min(first_that_fits(ways, timed) for _ in range(repeats))
        except NotFiniteError:
            if self.fallback is None:
                raise
            return self.fallback.seconds_per_evaluation(picture, sampling, repeats)

    def _noise(
        self,
        seed: int,
        given: npt.NDArray[Any] | None,
        steps: int,
        batch: tuple[int, ...],
        frames: Sequence[int] | None = None,
    ) -> NoiseSource:
        """The noise of a batch (B, H, W, C) and the margin around it: of a seed, or given."""
        shape = (batch[0], batch[3], *surrounded(batch[1], batch[2], self.card.margin))
        return seeded_noise(seed, shape, frames) if given is None else given_noise(given, steps, shape)

    def _run(
        self,
        restore: Callable[[Loop, Tiling | None], Restored],
        shape: tuple[int, ...],
        sampling: Sampling,
        *,
        on_device: bool = False,
    ) -> Restored:
        """Restore a batch (B, H, W, C) with the engine's loop, or where a state is not finite with the fallback's.

        In tiles where the sampling says so, or memory and the engine do.
        """
        try:
            return self._in_tiles(restore, shape, sampling)
        except NotFiniteError:
            if self.fallback is None or (on_device and not isinstance(self.fallback._loop, DeviceLoop)):
                raise
            self.fallbacks += shape[0]
            restored = self.fallback._in_tiles(restore, shape, sampling)
            self.tiling = self.fallback.tiling
            return restored

    def _in_tiles(
        self, restore: Callable[[Loop, Tiling | None], Restored], shape: tuple[int, ...], sampling: Sampling
    ) -> Restored:
        def restored(tiling: Tiling | None) -> Restored:
            self.tiling = tiling
            return restore(self._loop, tiling)

        return first_that_fits(choices(self.engine, shape, sampling.tile, sampling.overlap), restored)


def loop_around(engine: Engine) -> Loop:
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
    other = None
    if fallback is not None:
        other = load(fallback, "auto" if beside_plan else device, card, None, driver, provider)
    restorer = Restorer(open_engine(path, device, card, driver, provider), other)
    restorer.files = (Path(path), *(other.files if other else ()))
    return restorer


def _names_of(engine: Engine) -> tuple[str, ...]:
    """What an engine computes with."""
    if isinstance(engine, DeviceEngine):
        return engine.name, engine.driver.name
    return (engine.name,)
