"""The reverse SDE on the CPU: executes a StepTable around any engine, in NumPy.

The state keeps the picture's own size. For each evaluation it is padded afresh and eps is cropped, as the reference
does; the numbers depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ...core.arrays import Float32
from ...core.margin import inside, surround
from ...core.noise import NoiseSource
from ...core.pixels import from_network, to_network
from ...core.samplers import StepTable
from ...core.sampling import Plan
from ...core.tiling import Tiles, Tiling
from ...errors import EngineError, InvalidValueError, IrsdeError, NotFiniteError
from ..protocol import Engine
from .padding import fill_padding, pad_to_multiple

Evaluate: TypeAlias = Callable[[Float32, int], Float32]
"""(y, t) -> eps: the network as a function of a state and a timestep; y and eps are (B, C, H, W)."""


def states(
    evaluate: Evaluate, mu: Float32, table: StepTable, noise: NoiseSource, clip: bool = False
) -> Iterator[Float32]:
    """Yield y = x - mu after the start and after each step, N+1 times; the last is y_0.

    It is one array (B, C, H, W) that each step overwrites: copy what is to outlive the next. No step allocates any.

    Args:
        evaluate: the network as a function of (y, t).
        mu: degraded pictures (B, C, H, W).
        table: the sampler.
        noise: standard normals, see `irsde_deploy.core.noise`.
        clip: keep mu + q within [0, 1] before q is used. Helps few steps; never for parity, never for latents.
    """
    y = table.start * noise(0)
    yield y
    q, q_prev, term = (np.zeros_like(y) for _ in range(3))
    q_is_read = np.append(table.d[1:] != 0, False) | clip
    bounds = (-mu, 1 - mu) if clip else None
    for k, t in enumerate(table.t.tolist()):
        a, c, d, s, p, r = (float(column[k]) for column in (table.a, table.c, table.d, table.s, table.p, table.r))
        eps = evaluate(y, t)
        if q_is_read[k]:
            np.multiply(p, y, out=q)
            q += np.multiply(r, eps, out=term)
        if bounds is not None:
            np.clip(q, *bounds, out=q)
            y *= float(table.a_clip[k])
            y += np.multiply(float(table.k[k]), q, out=term)
        else:
            y *= a
            y += np.multiply(c, eps, out=term)
        if d:
            y += np.multiply(d, q_prev, out=term)
        if s:
            y += np.multiply(s, noise(k + 1), out=term)
        q, q_prev = q_prev, q
        yield y


def padded_evaluation(engine: Engine, mu: Float32, tiling: Tiling | None = None) -> Evaluate:
    """The engine as a function of (y, t) on pictures of their own size.

    Padding, tiles and cropping are inside it; mu is padded once.
    """
    card = engine.card
    height, width = mu.shape[2:]
    padded_mu = pad_to_multiple(mu, card.multiple_of, card.pad_mode)
    x = np.empty_like(padded_mu)
    evaluated = partial(_evaluated, engine)
    if tiling is not None:
        # Tiles cover the padded picture: at its border they see what the network would see of the whole.
        tiles = tiling.over(x.shape[2], x.shape[3], card.multiple_of)
        evaluated = partial(_blended, evaluated, tiles)

    def evaluate(y: Float32, t: int) -> Float32:
        # Only the picture's part of x is written: what the padding holds is made from it anew at each evaluation.
        np.add(y, mu, out=x[:, :, :height, :width])
        fill_padding(x, height, width, card.pad_mode)
        eps = evaluated(x, padded_mu, np.full(len(mu), t, dtype=np.float32))
        return eps[:, :, :height, :width]

    return evaluate


def _evaluated(engine: Engine, x: Float32, mu: Float32, t: Float32) -> Float32:
    """The engine's answer, after a check that it has the shape of x."""
    eps = engine(x, mu, t)
    if eps.shape != x.shape:
        raise EngineError(f"the engine answered with the shape {eps.shape} where {x.shape} was expected")
    return eps


def _blended(evaluated: Callable[..., Float32], tiles: Tiles, x: Float32, mu: Float32, t: Float32) -> Float32:
    """The engine's answers for one tile after another, blended into eps of the whole, (B, C, H, W).

    `loops.device_tiles` does the same on a device, bit for bit: tiles are added in the same order.
    """
    eps = np.zeros_like(x)
    for tile in tiles:
        rows, columns = tiles.window(tile)
        # Engines read an input as one block of memory, which a window of a larger array is not.
        tile_x = np.ascontiguousarray(x[:, :, rows, columns])
        tile_mu = np.ascontiguousarray(mu[:, :, rows, columns])
        eps[:, :, rows, columns] += tiles.weights(tile) * evaluated(tile_x, tile_mu, t)
    return eps


def restore(
    engine: Engine,
    mu: Float32,
    table: StepTable,
    noise: NoiseSource,
    clip: bool = False,
    on_step: Callable[[int], None] | None = None,
    tiling: Tiling | None = None,
) -> Float32:
    """Degraded pictures mu (B, C, H, W) -> restored pictures of the same shape; `on_step(k)` after k of N steps.

    The card's margin goes around them and off again: the noise is that of the surrounded pictures.

    Raises:
        InvalidValueError: mu has NaN or infinite values.
        EngineError: an evaluation failed.
        NotFiniteError: a state is not finite; the message says after which step.
    """
    margin = engine.card.margin
    mu = surround(mu, margin)
    evaluate = padded_evaluation(engine, mu, tiling)
    last = mu
    with np.errstate(all="ignore"):  # what overflows is reported below
        for k, y in enumerate(states(evaluate, mu, table, noise, clip)):
            # The first y is noise alone, whatever the picture is like: x = y + mu shows what is wrong with mu.
            checked = y + mu if k == 0 else y
            if not np.isfinite(checked).all():
                raise not_finite(engine, table, k)
            last = y
            if on_step is not None:
                on_step(k)
        return inside(mu + last, margin)


def not_finite(engine: Engine, table: StepTable, step: int) -> IrsdeError:
    """The error for a state that is not finite after a step from 1 to N, or, with 0, before the first.

    No engine has touched the state before the first step: then the picture is at fault.
    """
    if step == 0:
        return InvalidValueError("the picture has NaN or infinite values: every value must be finite")
    precision = engine.card.precision
    if precision == "fp32":
        advice = "the weights or the engine are damaged"
    else:
        advice = "give an FP32 engine as fallback, or build one with more nodes in FP32"
    return NotFiniteError(
        f"after step {step} of {len(table)} (t = {table.t[step - 1]}) the state is not finite (NaN or infinity), "
        f"in {precision} on {engine.name}: {advice}"
    )


class NumpyLoop:
    """The loop on the CPU around any engine that is a function of arrays; see `protocol.Loop`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __call__(
        self,
        batch: npt.NDArray[Any],
        plan: Plan,
        noise: NoiseSource,
        *,
        on_step: Callable[[int], None] | None = None,
        tiling: Tiling | None = None,
    ) -> npt.NDArray[Any]:
        """See `protocol.Loop`."""
        restored = restore(self.engine, to_network(batch), plan.table, noise, plan.clip, on_step, tiling)
        return from_network(restored, batch.dtype)
