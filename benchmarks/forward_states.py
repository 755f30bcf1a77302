"""States that calibration does not use, which benchmarks/int8.py compares with those that it uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

from irsde_deploy.calibration.states import Marginal, State
from irsde_deploy.core.card import ModelCard
from irsde_deploy.core.noise import normal_field
from irsde_deploy.core.sde import SDE
from irsde_deploy.runtimes.loops.padding import pad_to_multiple


def forward_marginals(sde: SDE, timesteps: Sequence[int]) -> list[Marginal]:
    """Return the marginals a_t y_0 + sigma_t z of the forward process, on which the network was trained."""
    return [Marginal(int(t), float(sde.a[t]), float(sde.sigma[t])) for t in timesteps]


def noise_states(card: ModelCard, timesteps: Sequence[int], seed: int, side: int) -> Iterator[State]:
    """Draw standard normal noise for x and for mu, as calibration without any data does; endless.

    Args:
        card: of the network, which gives channels and padding.
        timesteps: taken in turn.
        seed: of the noise.
        side: height and width in pixels, before padding.
    """
    for number in count():
        x, mu = (normal_field(seed, k, (card.channels, side, side), frame=number)[None] for k in (0, 1))
        x, mu = (pad_to_multiple(array, card.multiple_of, card.pad_mode) for array in (x, mu))
        yield State(x, mu, int(timesteps[number % len(timesteps)]))
