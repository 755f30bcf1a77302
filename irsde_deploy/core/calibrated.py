"""What to say of timesteps that an INT8 engine was not calibrated for."""

from __future__ import annotations

from collections.abc import Iterable

from .card import ModelCard

_SHOWN = 8
"""Timesteps that are named one by one."""


def uncalibrated_words(card: ModelCard, timesteps: Iterable[int]) -> str | None:
    """A sentence on the timesteps that lie outside of the span that INT8's ranges were measured along.

    Args:
        card: of the engine.
        timesteps: that are visited.

    Returns:
        None where none lies outside, and for engines that are not INT8.
    """
    outside = card.uncalibrated(sorted(timesteps, reverse=True))
    if card.calibrated is None or not outside:
        return None
    first, last = card.calibrated
    span = f"from t = {first} to {last}" if first > last else f"at t = {first} alone"
    these = ", ".join(map(str, outside[:_SHOWN]))
    if len(outside) > _SHOWN:
        these += ", ..."
    return (
        f"INT8 is calibrated {span}, and may be far off at t = {these}, which these settings visit: "
        "calibrate with the settings that are run"
    )
