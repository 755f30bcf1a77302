"""Calibration states: what the network sees on the way from a degraded picture to the restored one.

With the clean picture a state is known in closed form at every timestep,

    y_t = signal y_0 + noise z,     y_0 = GT - LQ,      mu = LQ,      x = mu + y        (irsde_deploy.core.sde)

so that states are drawn exactly, without the network, for the timesteps that a step table visits. In the forward
process signal and noise are a_t and sigma_t. A sampler that drops the posterior's noise, as `mean` does, visits less
noisy states after its first step: with a network that predicts y_0 exactly, these follow from the table
(`visited_marginals`), and are what is calibrated on. Without clean pictures states are recorded along trajectories of
the full-precision network. benchmarks/int8.py compares the three.

Stratified: round j takes one state of each timestep, the k-th from picture j + k, so that each timestep meets each
picture equally often. The crops that a timestep takes of a picture follow a low-discrepancy sequence (Roberts' R2),
and begin elsewhere for each picture and timestep, by sequences of other irrational steps. Trajectories take the
pictures in turn, their crops likewise. Crops are of pictures with the card's margin around them, which is what a loop
restores. A state depends on the seed and its own number alone: whoever draws 64 states draws the same first 32 as
whoever draws 32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import numpy.typing as npt

from ..core.arrays import Float32
from ..core.card import ModelCard
from ..core.margin import surround, surrounded
from ..core.noise import normal_field
from ..core.samplers import StepTable
from ..errors import NotFiniteError
from ..runtimes.loops.numpy_loop import padded_evaluation
from ..runtimes.loops.numpy_loop import states as reverse_states
from ..runtimes.loops.padding import pad_to_multiple
from ..runtimes.protocol import Engine

Shape = tuple[int, int]
_VISIT_STEPS = 0.7548776662466927, 0.5698402909980532
_PICTURE_STEPS = 2**0.5, 3**0.5
_TIMESTEP_STEPS = 5**0.5, 7**0.5
"""How far crops move from visit to visit, from picture to picture and from timestep to timestep: shares of the free
height and width, modulo 1. They are rationally independent, so that no sequence falls in step with another."""


@dataclass(frozen=True)
class PictureSource:
    """A picture to draw states from, read when it is needed.

    Attributes:
        name: what to call the picture.
        shape: (H, W).
        read: reads the picture and returns (mu, y_0), both (C, H, W) float32; y_0 = GT - LQ is None without a clean
            picture.
    """

    name: str
    shape: Shape
    read: Callable[[], tuple[Float32, Float32 | None]]


@dataclass(frozen=True, eq=False)
class State:
    """One input of the network.

    Attributes:
        x: (1, C, H, W) float32, padded to multiples of the card's `multiple_of`.
        mu: the degraded picture, padded likewise; same shape.
        t: the timestep.
    """

    x: Float32
    mu: Float32
    t: int


@dataclass(frozen=True)
class Marginal:
    """How states of one timestep are distributed, given the clean picture: y = signal y_0 + noise z.

    Attributes:
        t: the timestep.
        signal: factor of y_0.
        noise: factor of z, which is standard normal.
    """

    t: int
    signal: float
    noise: float


def visited_marginals(table: StepTable) -> list[Marginal]:
    """Return the marginals of the states that a step table visits, one a step, if the network predicts y_0 exactly.

    Then q = y_0 at every step, so that eps = (y_0 - p y) / r and a step is y' = f y + g y_0 + s z with f = a - c p/r
    and g = c/r + d: the signal becomes f signal + g, the variance f^2 noise^2 + s^2. The start is lam z.
    """
    signal, noise = 0.0, table.start
    found = []
    for t, a, c, d, s, p, r in zip(table.t, table.a, table.c, table.d, table.s, table.p, table.r, strict=True):
        found.append(Marginal(int(t), float(signal), float(noise)))  # before the step: what the network sees at t
        kept = a - c * p / r  # not the table's a_clip: it can differ in the last bit, which the bytes of ranges show
        signal, noise = kept * signal + c / r + d, np.hypot(kept * noise, s)
    return found


def exact_states(
    sources: Sequence[PictureSource], card: ModelCard, marginals: Sequence[Marginal], seed: int, crop: int
) -> Iterator[State]:
    """Draw states of pictures whose clean ones are known, exactly and without the network; endless.

    Args:
        sources: the pictures, all with y_0.
        card: the network's, which says how states are padded.
        marginals: what to draw from, one for each timestep.
        seed: of crops and noise.
        crop: largest side of a state in pixels, before padding.
    """
    sources = [_with_margin(source, card.margin) for source in sources]
    for number in count():
        turn, k = divmod(number, len(marginals))
        visit, picture = turn // len(sources), (turn + k) % len(sources)
        source, marginal = sources[picture], marginals[k]
        cut = window(source.shape, visit, picture, k, seed, crop)
        mu, y0 = source.read()
        assert y0 is not None, "exact states need clean pictures"
        mu, y0 = _cut(mu, cut), _cut(y0, cut)
        z = normal_field(seed, 0, _shape(mu), frame=number)
        y = np.float32(marginal.signal) * y0 + np.float32(marginal.noise) * z
        yield _state(card, mu[None], y[None], marginal.t)


def recorded_states(
    sources: Sequence[PictureSource], engine: Engine, table: StepTable, seed: int, crop: int, clip: bool = False
) -> Iterator[State]:
    """Restore pictures with the full-precision engine and return the states that it passes through; endless.

    The states of a trajectory come one after another, then those of the next picture.

    Args:
        sources: the pictures; clean ones are not looked at.
        engine: of the FP32 graph.
        table: the sampler's steps.
        seed: of crops and noise.
        crop: largest side of a state in pixels, before padding.
        clip: as the loop takes it.

    Raises:
        NotFiniteError: the engine's own states are not finite.
    """
    sources = [_with_margin(source, engine.card.margin) for source in sources]
    for turn in count():
        visit, picture = divmod(turn, len(sources))
        source = sources[picture]
        degraded, _ = source.read()
        mu = _cut(degraded, window(source.shape, visit, picture, 0, seed, crop))[None]
        evaluate = padded_evaluation(engine, mu)

        def noise(k: int, mu: Float32 = mu, turn: int = turn) -> Float32:
            return normal_field(seed, k, _shape(mu[0]), frame=turn)[None]

        # One state less than there are: the last one, the restored picture, is not what a network sees.
        for t, y in zip(table.t.tolist(), reverse_states(evaluate, mu, table, noise, clip), strict=False):
            if not np.isfinite(y).all():
                raise NotFiniteError(f"the FP32 graph's own state at t = {t} is not finite: are its weights trained?")
            yield _state(engine.card, mu, y, t)


def _with_margin(source: PictureSource, margin: int) -> PictureSource:
    """The picture as a loop restores it: with the margin around it."""

    def read() -> tuple[Float32, Float32 | None]:
        mu, y0 = source.read()
        return surround(mu, margin), None if y0 is None else surround(y0, margin)

    return replace(source, shape=surrounded(*source.shape, margin), read=read)


def window(shape: Shape, visit: int, picture: int, k: int, seed: int, crop: int) -> tuple[slice, slice]:
    """Return the crop, as slices of rows and columns, that a state takes of a picture.

    Args:
        shape: (H, W) of the picture.
        visit: how often this timestep has visited this picture before.
        picture: index of the picture.
        k: index of the timestep.
        seed: moves all crops together.
        crop: largest side in pixels; a shorter side of the picture is taken whole.
    """
    places = np.random.default_rng(seed).random(2)  # where the sequences begin; along them nothing is drawn
    for steps, number in ((_VISIT_STEPS, visit), (_PICTURE_STEPS, picture), (_TIMESTEP_STEPS, k)):
        places = (places + np.multiply(steps, number)) % 1
    return _span(places[0], shape[0], crop), _span(places[1], shape[1], crop)


def _span(place: float, side: int, crop: int) -> slice:
    """The part of a side that a crop takes; `place`, in [0, 1), says where of all that is possible it begins."""
    length = min(side, crop)
    first = int(place * (side - length + 1))
    return slice(first, first + length)


def _cut(array: Float32, rows_columns: tuple[slice, slice]) -> Float32:
    return array[:, rows_columns[0], rows_columns[1]]


def _shape(array: npt.NDArray[np.float32]) -> tuple[int, int, int]:
    channels, height, width = array.shape
    return channels, height, width


def _state(card: ModelCard, mu: Float32, y: Float32, t: int) -> State:
    """Make the network's input of mu and y (1, C, H, W), padded as runtimes pad it: x after the addition."""
    x = pad_to_multiple(mu + y, card.multiple_of, card.pad_mode)  # a copy: loops overwrite y with the next state
    padded = pad_to_multiple(mu, card.multiple_of, card.pad_mode)
    return State(np.ascontiguousarray(x, np.float32), np.ascontiguousarray(padded, np.float32), t)
