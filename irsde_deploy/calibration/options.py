"""What a calibration is asked for, before the model is known."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..core.card import ModelCard
from ..core.sampling import Sampling
from ..errors import refuse
from .manifest import CalibrationSettings

MOST_STATES = 2048
"""Where doubling ends by default."""


@dataclass(frozen=True)
class CalibrationOptions:
    """What a calibration is asked for, by a user and of any model.

    It may leave things open, such as the steps of the trajectory. `settings` settles them for one model, as
    `CalibrationSettings`, which a manifest keeps.

    Attributes:
        sampling: the trajectory that the graph is calibrated for, and the seed of crops and noise; what it leaves open
            is the card's. Tiles do not matter.
        method: how a range is chosen: `minmax`, `percentile`, `entropy` or `mse`.
        crop: largest side of a state, 16 to 4096 pixels.
        states: how many; by default doubled until the ranges have converged.
        most_states: where doubling ends, 2048 by default.
        residuals: quantise the inputs of residual sums too, which TensorRT can fuse.
        rest: what the other layers compute in, `fp32` or `fp16`; by default FP16 with a PSNR budget, else FP32.
        psnr_budget: dB of PSNR that restored pictures must have against FP32's; the layers to leave in floating point
            for that are searched.
    """

    sampling: Sampling = field(default_factory=Sampling)
    method: str = "mse"
    crop: int = 128
    states: int | None = None
    most_states: int | None = None
    residuals: bool = False
    rest: str | None = None
    psnr_budget: float | None = None

    def settings(self, card: ModelCard) -> CalibrationSettings:
        """The settings for a model.

        Raises:
            InvalidValueError: settings that do not go together, or do not fit the model.
        """
        refuse(
            [
                (
                    self.states is not None and self.most_states is not None,
                    "`states` says how many: leave out `most_states`, which is where doubling ends",
                ),
                (
                    Sampling.of(self.sampling).starts_blind(card.sde),
                    "a denoising model starts at the picture's noise level, and is calibrated from there: give the "
                    "pictures' `noise_level`, or `t0`",
                ),
            ]
        )
        plan = card.plan(self.sampling)
        most_states = MOST_STATES if self.most_states is None else self.most_states
        rest = self.rest or ("fp32" if self.psnr_budget is None else "fp16")
        return CalibrationSettings(
            sampler=plan.sampler,
            timesteps=tuple(plan.table.t.tolist()),
            debias=plan.debias,
            clip=plan.clip,
            seed=self.sampling.seed,
            crop=self.crop,
            method=self.method,
            states=self.states,
            most_states=most_states,
            residuals=self.residuals,
            rest=rest,
            psnr_budget=self.psnr_budget,
        )
