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
from ..system.parsing import shown

OBJECTIVES = ("ml", "ml-exact", "noise", "clean")
LOSSES: dict[str, Callable[..., Tensor]] = {"l1": F.l1_loss, "l2": F.mse_loss}


@dataclass(frozen=True, eq=False)
class Objective:
    """The coefficients of a prediction and its target, each (T+1,) float64, by timestep; entry 0 is not used.

    Attributes:
        py: factor of the state y in the prediction.
        pn: factor of the network's output n in the prediction.
        ty: factor of the state y in the target.
        tq: factor of the clean state y_0 in the target.
    """

    py: Array
    pn: Array
    ty: Array
    tq: Array

    def prediction(self, y: Tensor, output: Tensor, t: Tensor) -> Tensor:
        """Return the prediction py y + pn n.

        Args:
            y: states (B, C, H, W).
            output: the network's output n for them, of the same shape.
            t: timesteps (B,), integers in 1..T.
        """
        return at(self.py, t, y) * y + at(self.pn, t, y) * output

    def target(self, y: Tensor, y0: Tensor, t: Tensor) -> Tensor:
        """Return the target ty y + tq y_0, which the prediction is compared with.

        Args:
            y: states (B, C, H, W).
            y0: the clean states GT - LQ that they were made from, of the same shape.
            t: timesteps (B,), integers in 1..T.
        """
        return at(self.ty, t, y) * y + at(self.tq, t, y) * y0


def make_objective(name: str, sde: SDE) -> Objective:
    """Compute the coefficients of an objective for an SDE, at all its timesteps.

    Args:
        name: one of `OBJECTIVES`.
        sde: the process that is trained for.

    Raises:
        InvalidValueError: an unknown name.
    """
    if name not in OBJECTIVES:
        raise InvalidValueError(f"objective must be one of {', '.join(OBJECTIVES)}, not {shown(name)}")
    rows = [[0.0, 0.0, 0.0, 0.0]]  # t = 0, where there is no noise to predict
    for t in range(1, sde.T + 1):
        rows.append(_coefficients(name, sde, t))
    return Objective(*np.array(rows, dtype=np.float64).T)


def _coefficients(name: str, sde: SDE, t: int) -> list[float]:
    """The row [py, pn, ty, tq] of one timestep."""
    a, sigma = sde.marginal(t)
    if name == "noise":
        return [0.0, 1.0, 1 / sigma, -a / sigma]  # eps = (y - a y_0) / sigma
    if name == "clean":
        return [1 / a, -sigma / a, 0.0, 1.0]
    cy, cq, _ = sde.posterior(t - 1, t)
    if name == "ml":
        py, pn, _ = sde.euler_step(t)
    else:
        py, pn = cy + cq / a, -cq * sigma / a  # the posterior mean with y_0 = (y - sigma n) / a
    return [py, pn, cy, cq]


def at(column: Array, t: Tensor, like: Tensor) -> Tensor:
    """Return the entries of a column (T+1,) at timesteps t (B,), shaped and typed to multiply `like` (B, C, H, W)."""
    return torch.tensor(column, dtype=like.dtype, device=like.device)[t].reshape(-1, 1, 1, 1)
