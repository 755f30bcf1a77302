"""The SDEs: their schedules and every closed form that a sampler, a trainer or a test needs.

**Mean-reverting SDE.** Forward, with the degraded picture mu as the mean that the process reverts to (IR-SDE, ICML
2023, eq. 3):

    dx = theta_t (mu - x) dt + sigma_t dw,        sigma_t^2 / theta_t = 2 lam^2

Seen from mu, with y = x - mu, it is solved exactly by (eq. 6)

    y_t = a_t y_0 + sigma_t z,      a_t = exp(-theta_bar_t),      sigma_t = lam sqrt(1 - a_t^2)

so y / lam is a variance-preserving process and mu appears in none of the formulas below. `theta_bar_t` is the
integral of theta from 0 to t.

**Denoising-SDE**, of the same authors: the mean is the clean picture itself, so there is no mu,

    dx = theta_t (x_0 - x) dt + sigma_t dw,       x_t = x_0 + sigma_t z,      sigma_t as above

and a picture with normal noise of standard deviation s is the state at the timestep where sigma_t = s. All steps of its
samplers keep constants (their weights of x and x_0 add up to 1), so they hold for y = x - mu with any mu; the loop
takes the noisy picture for mu, where the initial state is y = 0. In the formulas that both share, its a_t is 1.

Arrays are float64 and indexed by the timestep t = 0..T; t = 0 is the clean picture. Methods take one timestep or an
integer array of them, and return float64 of the same shape.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import InvalidValueError
from ..system.parsing import shown

Array: TypeAlias = npt.NDArray[np.float64]
Timestep: TypeAlias = "int | npt.NDArray[np.integer[Any]]"
State: TypeAlias = Any
"""A state y, q or eps: anything with + and * that broadcasts against float64 (NumPy array, PyTorch tensor, float)."""

MAX_T = 100_000


def _constant(T: int) -> Array:
    return np.ones(T + 1)


def _linear(T: int) -> Array:
    scale = 1000 / (T + 1)
    return np.linspace(scale * 1e-4, scale * 2e-2, T + 1)


def _cosine(T: int) -> Array:
    n = T + 2
    k = np.arange(n + 1) / n
    alpha_bar = np.cos((k + 0.008) / 1.008 * np.pi / 2) ** 2
    theta: Array = 1 - alpha_bar[1:-1] / alpha_bar[0]
    return theta


SCHEDULES: dict[str, Callable[[int], Array]] = {"constant": _constant, "linear": _linear, "cosine": _cosine}


class SDE(ABC):
    """What both SDEs share: the schedule, and all that follows from y_t = a_t y_0 + sigma_t z and the posterior.

    Subclasses are frozen dataclasses with these four fields.
    """

    kind: ClassVar[str]
    """Its name in model cards and recipes."""

    max_sigma: float
    T: int
    schedule: str
    eps: float

    def __post_init__(self) -> None:
        if not _is_number(self.max_sigma) or not 0 < self.max_sigma <= 255:
            raise InvalidValueError(f"max_sigma must be above 0 and at most 255, not {shown(self.max_sigma)}")
        if not isinstance(self.T, Integral) or isinstance(self.T, bool) or not 1 <= self.T <= MAX_T:
            raise InvalidValueError(f"T must be a whole number from 1 to {MAX_T}, not {shown(self.T)}")
        if not isinstance(self.schedule, str) or self.schedule not in SCHEDULES:
            raise InvalidValueError(f"schedule must be one of {', '.join(SCHEDULES)}, not {shown(self.schedule)}")
        if not _is_number(self.eps) or not 0 < self.eps < 1:
            raise InvalidValueError(f"eps must be between 0 and 1, not {shown(self.eps)}")

    # -- the schedule --------------------------------------------------------------------------------------

    @property
    def lam(self) -> float:
        """The stationary standard deviation, lam, on the 0..1 scale of pictures."""
        if self.max_sigma >= 1:  # the reference tells the two scales apart in this way
            return self.max_sigma / 255
        return float(self.max_sigma)

    @cached_property
    def theta(self) -> Array:
        """Speed of reversion theta_t, (T+1,)."""
        return _frozen(SCHEDULES[self.schedule](self.T))

    @cached_property
    def dt(self) -> float:
        """Length of one timestep, chosen so that exp(-theta_bar_T) = eps."""
        return float(-np.log(self.eps) / self.theta[1:].sum())

    @cached_property
    def theta_bar(self) -> Array:
        """Integral of theta from 0 to t, (T+1,); theta_bar_0 = 0."""
        # theta_0 belongs to no step: the sum is from 1 to t, in the reference's order of additions.
        return _frozen((np.cumsum(self.theta) - self.theta[0]) * self.dt)

    @cached_property
    def delta(self) -> Array:
        """theta_t dt = theta_bar_t - theta_bar_{t-1}, (T+1,)."""
        return _frozen(self.theta * self.dt)

    @cached_property
    def sigma(self) -> Array:
        """Standard deviation of the marginal: sigma_t = lam sqrt(1 - a_t^2), (T+1,)."""
        # expm1 here and below: near t = 0 the difference 1 - exp(-x) would lose its digits.
        return _frozen(self.lam * np.sqrt(-np.expm1(-2 * self.theta_bar)))

    @cached_property
    def log_snr(self) -> Array:
        """l_t = log(a_t lam / sigma_t), (T+1,); infinite at t = 0."""
        l_t = np.full(self.T + 1, np.inf)  # sigma_0 = 0: there is nothing to divide by
        l_t[1:] = np.log(self.a[1:] * self.lam / self.sigma[1:])
        return _frozen(l_t)

    # -- distributions -------------------------------------------------------------------------------------

    def marginal(self, t: Timestep) -> tuple[Any, Any]:
        """(a_t, sigma_t): y_t = a_t y_0 + sigma_t z."""
        return self.a[t], self.sigma[t]

    def optimal_reverse_step(self, y: State, y0: State, t: Timestep) -> State:
        """The most likely y_{t-1} given y_t and y_0 (IR-SDE, eq. 10): the target of maximum-likelihood training."""
        cy, cq, _ = self.posterior(t - 1, t)
        return cy * y + cq * y0

    # -- noise <-> score <-> y_0 ---------------------------------------------------------------------------

    def noise_from_y0(self, y: State, y0: State, t: Timestep) -> State:
        """eps = (y_t - a_t y_0) / sigma_t, the noise that leads from y_0 to y_t."""
        return (y - self.a[t] * y0) / self.sigma[t]

    def y0_from_noise(self, y: State, eps: State, t: Timestep) -> State:
        """q = (y_t - sigma_t eps) / a_t, the clean state that noise eps implies."""
        return (y - self.sigma[t] * eps) / self.a[t]

    def score_from_noise(self, eps: State, t: Timestep) -> State:
        """Score = -eps / sigma_t (IR-SDE, eq. 9)."""
        return -eps / self.sigma[t]

    def noise_from_score(self, score: State, t: Timestep) -> State:
        """eps = -sigma_t score."""
        return -self.sigma[t] * score

    def score_from_y0(self, y: State, y0: State, t: Timestep) -> State:
        """Score of y_t given y_0: -(y_t - a_t y_0) / sigma_t^2."""
        return -(y - self.a[t] * y0) / self.sigma[t] ** 2

    def y0_from_score(self, y: State, score: State, t: Timestep) -> State:
        """q = (y_t + sigma_t^2 score) / a_t (Tweedie's formula)."""
        return (y + self.sigma[t] ** 2 * score) / self.a[t]

    @cached_property
    @abstractmethod
    def a(self) -> Array:
        """What is left of y_0 at t, (T+1,)."""

    @property
    @abstractmethod
    def start(self) -> float:
        """Standard deviation of the y that sampling starts from."""

    def posterior(self, s: Timestep, t: Timestep) -> tuple[Any, Any, Any]:
        """(cy, cq, std) of y_s given y_t and y_0, s < t: y_s = cy y_t + cq y_0 + std z. Exact for any s < t.

        About its mean the process is Ornstein-Uhlenbeck, hence cy = A sigma_s^2 / sigma_t^2 with
        A = exp(-(theta_bar_t - theta_bar_s)); cq follows from the means, a_s = cy a_t + cq. With s = t-1 the mean is
        the optimal reverse step of the paper (eq. 10), the standard deviation that of the reference's sampling.
        """
        D = self.theta_bar[t] - self.theta_bar[s]
        # The variances up to s, up to t, and from s to t, in units of lam^2.
        var_s = -np.expm1(-2 * self.theta_bar[s])
        var_t = -np.expm1(-2 * self.theta_bar[t])
        var_st = -np.expm1(-2 * D)
        cy = np.exp(-D) * var_s / var_t
        return cy, self._weight_of_clean(s, t, cy), self.lam * np.sqrt(var_st * var_s / var_t)

    @abstractmethod
    def _weight_of_clean(self, s: Timestep, t: Timestep, cy: Any) -> Any:
        """cq = a_s - cy a_t of `posterior`, computed without cancellation."""

    @abstractmethod
    def euler_step(self, t: Timestep) -> tuple[Any, Any, Any]:
        """(cy, cn, std) of one Euler step of the reverse SDE: y_{t-1} = cy y_t + cn eps - std z."""

    @abstractmethod
    def ode_step(self, t: Timestep) -> tuple[Any, Any]:
        """(cy, cn) of one Euler step of the probability-flow ODE: y_{t-1} = cy y_t + cn eps."""

    @abstractmethod
    def likelihood_bias(self, t: Timestep) -> tuple[Any, Any]:
        """(u, v): the optimum of the maximum-likelihood loss is eps_net = u eps + v y, not eps."""

    def likelihood_debias(self, t: Timestep) -> tuple[Any, Any]:
        """(u, v): eps = u eps_net + v y, the inverse of `likelihood_bias`."""
        u, v = self.likelihood_bias(t)
        return 1 / u, -v / u


@dataclass(frozen=True)
class MeanRevertingSDE(SDE):
    """The SDE of IR-SDE and Refusion, fixed by four numbers that belong to a trained network.

    Args:
        max_sigma: stationary standard deviation; on the 0..255 scale where it is 1 or more, else on 0..1.
        T: number of timesteps that the network was trained with. Fewer steps are a subset of 1..T.
        schedule: `constant`, `linear` or `cosine`: theta as a function of t.
        eps: exp(-theta_bar_T), what is left of the clean picture at t = T; between 0 and 1.

    Raises:
        InvalidValueError: a setting is outside its range.
    """

    kind = "mean-reverting"

    max_sigma: float
    T: int
    schedule: str
    eps: float

    @cached_property
    def a(self) -> Array:
        """What is left of y_0 at t: a_t = exp(-theta_bar_t), (T+1,)."""
        return _frozen(np.exp(-self.theta_bar))

    @property
    def start(self) -> float:
        """Sampling starts from y = lam z."""
        return self.lam

    def transition(self, s: Timestep, t: Timestep) -> tuple[Any, Any]:
        """(A, std) of the step forward from s to t >= s: y_t = A y_s + std z, A = exp(-(theta_bar_t - theta_bar_s))."""
        D = self.theta_bar[t] - self.theta_bar[s]
        return np.exp(-D), self.lam * np.sqrt(-np.expm1(-2 * D))

    def _weight_of_clean(self, s: Timestep, t: Timestep, cy: Any) -> Any:
        # a_s (1 - e^(-2 D)) / (1 - e^(-2 theta_bar_t)): what a_s - cy a_t is once its terms are put together.
        D = self.theta_bar[t] - self.theta_bar[s]
        return self.a[s] * np.expm1(-2 * D) / np.expm1(-2 * self.theta_bar[t])

    def euler_step(self, t: Timestep) -> tuple[Any, Any, Any]:
        """(cy, cn, std) of one Euler step of the reverse SDE: y_{t-1} = cy y_t + cn eps - std z (eq. 4)."""
        delta = self.delta[t]
        return 1 + delta, -2 * self.lam**2 * delta / self.sigma[t], self.lam * np.sqrt(2 * delta)

    def ode_step(self, t: Timestep) -> tuple[Any, Any]:
        """(cy, cn) of one Euler step of the probability-flow ODE: y_{t-1} = cy y_t + cn eps."""
        delta = self.delta[t]
        return 1 + delta, -(self.lam**2) * delta / self.sigma[t]

    def likelihood_bias(self, t: Timestep) -> tuple[Any, Any]:
        """(u, v): the optimum of the maximum-likelihood loss is eps_net = u eps + v y, not eps.

        The loss matches the Euler mean, y (1 + d) - 2 lam^2 d / sigma_t eps_net, to the posterior mean, which is
        e^d y - 2 sinh(d) lam^2 / sigma_t eps, with d = delta_t. Hence u = sinh(d) / d and
        v = -(e^d - 1 - d) / (2 d) sigma_t / lam^2.
        """
        d = self.delta[t]
        return np.sinh(d) / d, -(np.expm1(d) - d) / (2 * d) * self.sigma[t] / self.lam**2


@dataclass(frozen=True)
class DenoisingSDE(SDE):
    """The Denoising-SDE of the reference implementation: normal noise of any level below max_sigma.

    Args:
        max_sigma: the highest noise level; on the 0..255 scale where it is 1 or more, else on 0..1.
        T: number of timesteps that the network was trained with.
        schedule: `cosine` or `linear` in the reference; `constant` works too.
        eps: exp(-theta_bar_T); the reference fixes it at 0.04.

    Raises:
        InvalidValueError: a setting is outside its range.
    """

    kind = "denoising"

    max_sigma: float
    T: int
    schedule: str
    eps: float = 0.04

    @cached_property
    def a(self) -> Array:
        """1 at every t: the mean of x_t is x_0."""
        return _frozen(np.ones(self.T + 1))

    @property
    def start(self) -> float:
        """Sampling starts from the noisy picture itself, y = 0."""
        return 0.0

    def timestep_of(self, sigma: float) -> int:
        """The timestep whose noise level is nearest to sigma (0..1 scale): where a picture of that noise starts.

        Nearest in theta_bar, as the reference's `get_optimal_timestep` has it, but never 0.

        Raises:
            InvalidValueError: sigma is not above 0, or above the highest level.
        """
        if not 0 < sigma <= self.lam * (1 + 1e-6):  # with room for the rounding of computed levels
            raise InvalidValueError(
                f"the noise level must be above 0 and at most {255 * self.lam:.4g} (on the 0..255 scale), the "
                f"highest that this model was trained for, not {255 * sigma:.4g}"
            )
        # sigma_t = lam sqrt(1 - exp(-2 theta_bar)) solved for theta_bar; sigma_T is a little below lam.
        relative = min(sigma / self.lam, self.sigma[-1] / self.lam)
        theta_bar = -0.5 * np.log1p(-(relative**2))
        return max(1, int(np.abs(self.theta_bar - theta_bar).argmin()))

    def _weight_of_clean(self, s: Timestep, t: Timestep, cy: Any) -> Any:
        return 1 - cy

    def euler_step(self, t: Timestep) -> tuple[Any, Any, Any]:
        """(1, cn, std): the reverse drift is -1/2 sigma^2 (1 + exp(-2 theta_bar)) score."""
        delta = self.delta[t]
        cn = -(self.lam**2) * delta * (1 + np.exp(-2 * self.theta_bar[t])) / self.sigma[t]
        return np.ones_like(cn), cn, self.lam * np.sqrt(2 * delta)

    def ode_step(self, t: Timestep) -> tuple[Any, Any]:
        """(1, cn): the drift of the ODE is -1/2 sigma^2 exp(-2 theta_bar) score."""
        cn = -(self.lam**2) * self.delta[t] * np.exp(-2 * self.theta_bar[t]) / self.sigma[t]
        return np.ones_like(cn), cn

    def likelihood_bias(self, t: Timestep) -> tuple[Any, Any]:
        """(u, 0): eps_net = u eps, u = sigma_t^2 (1 - cy) / (lam^2 delta_t (1 + exp(-2 theta_bar_t)))."""
        _, cq, _ = self.posterior(t - 1, t)
        _, cn, _ = self.euler_step(t)
        u = -self.sigma[t] * cq / cn
        return u, np.zeros_like(u)


SDES: dict[str, type[MeanRevertingSDE] | type[DenoisingSDE]] = {
    MeanRevertingSDE.kind: MeanRevertingSDE,
    DenoisingSDE.kind: DenoisingSDE,
}
"""Kind of an SDE, as model cards name it -> its class."""


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)  # Python's True is an int


def _frozen(array: Array) -> Array:
    """The array, not to be written to: what a property returns is the SDE's own."""
    array.setflags(write=False)
    return array
