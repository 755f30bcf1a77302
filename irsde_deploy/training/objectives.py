"""Training objectives: what the network's output is compared with.

Each compares a prediction that is linear in the network's output n with a target that is linear in the clean state:

    prediction = py y + pn n        target = ty y + tq y_0        with y = y_t = a_t y_0 + sigma_t z

    ml        the paper's maximum-likelihood objective (IR-SDE, eq. 14): the mean of one Euler step against the optimal
              reverse step. The optimum is n = u eps + v y (`likelihood_bias`), not eps.
    ml-exact  the same target against the reverse step with its exact coefficients, e^d y - 2 sinh(d) lam^2/sigma n for
              the mean-reverting SDE. The optimum is eps itself; the weight of each timestep is all that is left of it.
    noise     n against eps: every timestep counts alike.
    clean     the clean state that n implies, q = (y - sigma_t n) / a_t, against y_0: what few-step samplers depend on.
              Large t, where q carries sigma_t / a_t times the error of n, counts most. The optimum is eps itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.sde import SDE, Array
from ..errors import InvalidValueError

OBJECTIVES = ("ml", "ml-exact", "noise", "clean")
LOSSES: dict[str, Callable[..., Tensor]] = {"l1": F.l1_loss, "l2": F.mse_loss}


@dataclass(frozen=True, eq=False)
class Objective:
    """Coefficients (T+1,) of the prediction and its target, by timestep; entry 0 is unused."""

    py: Array
    pn: Array
    ty: Array
    tq: Array

    def prediction(self, y: Tensor, output: Tensor, t: Tensor) -> Tensor:
        """What the network's output (B, C, H, W) says the target is."""
        return at(self.py, t, y) * y + at(self.pn, t, y) * output

    def target(self, y: Tensor, y0: Tensor, t: Tensor) -> Tensor:
        """What it should say."""
        return at(self.ty, t, y) * y + at(self.tq, t, y) * y0


def make_objective(name: str, sde: SDE) -> Objective:
    """The coefficients of an objective.

    Raises:
        InvalidValueError: an unknown name.
    """
    if name not in OBJECTIVES:
        raise InvalidValueError(f"objective must be one of {', '.join(OBJECTIVES)}, not {name!r}")
    columns = [[0.0, 0.0, 0.0, 0.0]] + [_coefficients(name, sde, t) for t in range(1, sde.T + 1)]
    return Objective(*np.array(columns, dtype=np.float64).T)


def _coefficients(name: str, sde: SDE, t: int) -> list[float]:
    a, sigma = sde.marginal(t)
    if name == "noise":
        return [0.0, 1.0, 1 / sigma, -a / sigma]
    if name == "clean":
        return [1 / a, -sigma / a, 0.0, 1.0]
    cy, cq, _ = sde.posterior(t - 1, t)
    if name == "ml":
        py, pn, _ = sde.euler_step(t)
    else:
        py, pn = cy + cq / a, -cq * sigma / a  # the posterior mean with y_0 = (y - sigma n) / a
    return [py, pn, cy, cq]


def at(column: Array, t: Tensor, like: Tensor) -> Tensor:
    """The entries of a column at timesteps t (B,), shaped to multiply (B, C, H, W)."""
    return torch.tensor(column, dtype=like.dtype, device=like.device)[t].reshape(-1, 1, 1, 1)
