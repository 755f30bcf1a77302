"""Every sampler is a table: name + number of steps -> six coefficients a step and the timesteps.

One reverse step from timestep t to s < t, in y = x - mu, is

    q  = p y + r eps                          predicted y_0
    y' = a y + c eps + d q_prev + s z         q_prev: q of the step before; z: standard normal

The loop that executes it (NumPy, CUDA, C++, unrolled into ONNX) knows nothing of samplers. `euler`, `ode` and
`posterior` are the reference implementation's `reverse_sde`, `reverse_ode` and `reverse_posterior`; `mean` is the
posterior without its noise; `ddim` (Song et al., 2021) and the multistep `sde-2m`, `ode-2m` (DPM-Solver++ 2M, Lu et
al., 2022) apply because y / lam is a variance-preserving process.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral

import numpy as np
import numpy.typing as npt

from ..errors import InvalidValueError
from ..system.parsing import shown
from .sde import SDE, Array

GRID_EXPONENT = 1.3


@dataclass(frozen=True, eq=False)
class StepTable:
    """A sampler, ready to execute: row k is the k-th reverse step.

    Attributes:
        t: (N,) int64, the timestep of each evaluation, strictly decreasing.
        a, c, d, s: (N,) float64, y' = a y + c eps + d q_prev + s z.
        p, r: (N,) float64, q = p y + r eps.
        start: standard deviation of the initial y (lam, whatever t0).

    Where q is clipped before it is used, the step is written in q instead of eps, y' = a_clip y + k q + d q_prev + s z
    with k = c / r and a_clip = a - k p: columns that follow from the others.
    """

    t: npt.NDArray[np.int64]
    a: Array
    c: Array
    d: Array
    s: Array
    p: Array
    r: Array
    start: float

    def __len__(self) -> int:
        return len(self.t)

    @cached_property
    def k(self) -> Array:
        """(N,) weight of a clipped q: c / r; 0 where r is, since q does not depend on eps there."""
        return np.divide(self.c, self.r, out=np.zeros_like(self.c), where=self.r != 0)

    @cached_property
    def a_clip(self) -> Array:
        """(N,) weight of y beside a clipped q: a - k p."""
        return np.asarray(self.a - self.k * self.p)

    @property
    def stochastic(self) -> bool:
        """Whether any step draws noise beyond the initial state."""
        return bool(np.any(self.s != 0))


@dataclass(frozen=True)
class _Step:
    """One step as a rule writes it: the coefficients of y, eps, q, q_prev and z in the sum that is y'.

    A rule may use both eps and q; in the table q is written out as p y + r eps.
    """

    y: float = 0.0
    eps: float = 0.0
    q: float = 0.0
    prev: float = 0.0
    noise: float = 0.0


Rule = Callable[[SDE, int, int, "int | None"], _Step]
"""A function (sde, t, s, before) -> the step from timestep t to timestep s < t. `before` is the timestep at which the
step before began; None at the first step."""


def _euler(sde: SDE, t: int, s: int, before: int | None) -> _Step:
    cy, cn, std = sde.euler_step(t)
    return _Step(y=cy, eps=cn, noise=-std)  # minus, and at t = 1 too, as the reference has it


def _ode(sde: SDE, t: int, s: int, before: int | None) -> _Step:
    cy, cn = sde.ode_step(t)
    return _Step(y=cy, eps=cn)


def _posterior(sde: SDE, t: int, s: int, before: int | None) -> _Step:
    cy, cq, std = sde.posterior(s, t)
    return _Step(y=cy, q=cq, noise=std)


def _mean(sde: SDE, t: int, s: int, before: int | None) -> _Step:
    cy, cq, _ = sde.posterior(s, t)
    return _Step(y=cy, q=cq)


def _ddim(sde: SDE, t: int, s: int, before: int | None) -> _Step:
    ratio = sde.a[s] / sde.a[t]
    return _Step(y=ratio, eps=-(ratio * sde.sigma[t] - sde.sigma[s]))


def _sde_2m(sde: SDE, t: int, s: int, before: int | None) -> _Step:
    h = sde.log_snr[s] - sde.log_snr[t]
    weight = -sde.a[s] * np.expm1(-2 * h)
    slope = _half_slope(sde, t, before, h)
    return _Step(
        y=sde.sigma[s] / sde.sigma[t] * np.exp(-h),
        q=weight * (1 + slope),
        prev=-weight * slope,
        noise=sde.sigma[s] * np.sqrt(-np.expm1(-2 * h)),
    )


def _ode_2m(sde: SDE, t: int, s: int, before: int | None) -> _Step:
    h = sde.log_snr[s] - sde.log_snr[t]
    weight = -sde.a[s] * np.expm1(-h)
    slope = _half_slope(sde, t, before, h)
    return _Step(y=sde.sigma[s] / sde.sigma[t], q=weight * (1 + slope), prev=-weight * slope)


def _half_slope(sde: SDE, t: int, before: int | None, h: float) -> float:
    """h / (2 h_prev), the weight of (q - q_prev); 0 at the first step, which has no q_prev."""
    if before is None:
        return 0.0
    return float(h / (2 * (sde.log_snr[t] - sde.log_snr[before])))


SAMPLERS: dict[str, Rule] = {
    "euler": _euler,
    "ode": _ode,
    "posterior": _posterior,
    "mean": _mean,
    "ddim": _ddim,
    "sde-2m": _sde_2m,
    "ode-2m": _ode_2m,
}
"""Name of a sampler -> its rule for one step."""

ADJACENT_ONLY = ("euler", "ode")
"""Samplers that discretise one timestep: they cannot skip any, and their last step is like every other."""


def plan_steps(
    sde: SDE,
    sampler: str,
    steps: int | Sequence[int],
    debias: bool = False,
    t0: int | None = None,
    exponent: float = GRID_EXPONENT,
) -> StepTable:
    """Turn a sampler into its table.

    Args:
        sde: the SDE that the network was trained with.
        sampler: one of `SAMPLERS`.
        steps: number of network evaluations, 1..t0; or the timesteps themselves, strictly decreasing within 1..T.
        debias: take the bias of the maximum-likelihood target out of the network's output (see
            `MeanRevertingSDE.likelihood_bias`). Off for parity with the reference; pointless with `euler`, whose
            own discretisation is what the bias makes up for.
        t0: first timestep, T by default. A later start begins at y = lam z all the same.
        exponent: of the grid `timestep_grid`.

    Raises:
        InvalidValueError: an unknown sampler, steps or t0 out of range, or skipped timesteps where a sampler
            takes adjacent ones only.
    """
    if not isinstance(sampler, str) or sampler not in SAMPLERS:
        raise InvalidValueError(f"sampler must be one of {', '.join(SAMPLERS)}, not {shown(sampler)}")
    t = _timesteps(sde, steps, t0, exponent)
    if sampler in ADJACENT_ONLY and t != list(range(t[0], 0, -1)):
        raise InvalidValueError(
            f"sampler {shown(sampler)} cannot skip timesteps: use steps={t[0]}, or a sampler that can, such as 'sde-2m'"
        )
    rows = [_row(sde, sampler, k, t, debias) for k in range(len(t))]
    a, c, d, s, p, r = (_column(rows, j) for j in range(6))
    timesteps = np.array(t, dtype=np.int64)
    timesteps.setflags(write=False)
    return StepTable(timesteps, a, c, d, s, p, r, start=sde.start)


def timestep_grid(t0: int, steps: int, exponent: float = GRID_EXPONENT) -> list[int]:
    """`steps` timesteps from t0 down: round(t0 (1 - i/steps)^exponent), moved where needed to decrease strictly."""
    grid = [t0]
    for i in range(1, steps):
        wanted = round(t0 * (1 - i / steps) ** exponent)
        # Below the one before, and high enough that those to come still fit above 0.
        grid.append(max(steps - i, min(grid[-1] - 1, wanted)))
    return grid


def _timesteps(sde: SDE, steps: int | Sequence[int], t0: int | None, exponent: float) -> list[int]:
    """The timesteps of the evaluations: of the grid for a number of steps, or as they are given."""
    first = sde.T if t0 is None else t0
    if not isinstance(first, Integral) or not 1 <= first <= sde.T:
        raise InvalidValueError(f"t0 must be a whole number from 1 to T = {sde.T}, not {shown(t0)}")
    if isinstance(steps, Integral) and not isinstance(steps, bool):
        if not 1 <= steps <= first:
            raise InvalidValueError(f"steps must be from 1 to {first} (the first timestep), not {steps}")
        if not exponent > 0:
            raise InvalidValueError(f"the grid's exponent must be above 0, not {shown(exponent)}")
        return timestep_grid(int(first), int(steps), exponent)
    if isinstance(steps, (Sequence, np.ndarray)) and not isinstance(steps, str):
        return _explicit_timesteps(sde, steps, t0)
    raise InvalidValueError(f"steps must be a whole number or a sequence of timesteps, not {shown(steps)}")


def _explicit_timesteps(sde: SDE, steps: Sequence[int], t0: int | None) -> list[int]:
    """The timesteps as they are given, once they are known to be an allowed path from T or below down to 1 or above."""
    for value in steps:
        if not isinstance(value, Integral):
            raise InvalidValueError(f"timesteps must be whole numbers, not {shown(list(steps))}")
    t = list(map(int, steps))
    bounds = [sde.T + 1, *t, 0]
    if not t or not _strictly_decreasing(bounds):
        raise InvalidValueError(f"timesteps must strictly decrease within 1..{sde.T}, not {shown(list(steps))}")
    if t0 is not None and t0 != t[0]:
        raise InvalidValueError(f"t0 = {t0} contradicts the first timestep {t[0]}: leave t0 out")
    return t


def _strictly_decreasing(values: list[int]) -> bool:
    return all(later < earlier for earlier, later in itertools.pairwise(values))


def _row(sde: SDE, sampler: str, k: int, t: list[int], debias: bool) -> tuple[float, ...]:
    """(a, c, d, s, p, r) of step k."""
    now = t[k]
    following = t[k + 1] if k + 1 < len(t) else 0
    if following == 0 and sampler not in ADJACENT_ONLY:
        step = _Step(q=1.0)  # the second-order terms diverge at 0; what is left there is q itself
    else:
        step = SAMPLERS[sampler](sde, now, following, t[k - 1] if k else None)
    p, r = 1 / sde.a[now], -sde.sigma[now] / sde.a[now]
    a, c = step.y + step.q * p, step.eps + step.q * r
    if debias:
        u, v = sde.likelihood_debias(now)
        a, c, p, r = a + c * v, c * u, p + r * v, r * u
    return a, c, step.prev, step.noise, p, r


def _column(rows: list[tuple[float, ...]], j: int) -> Array:
    column = np.array([row[j] for row in rows], dtype=np.float64)
    column.setflags(write=False)
    return column
