"""Which pictures a new run trains on: what was asked for, completed by what options files and recipes offer."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import refuse
from .plan import DataPlan

FOLDERS = ("gt", "lq", "validation_gt", "validation_lq")


def choose_data(asked: Mapping[str, Any], offered: Sequence[Mapping[str, Any]]) -> DataPlan:
    """Settle where pairs come from.

    Args:
        asked: by the names of `DataPlan`; None, or an empty tuple, where nothing is asked. A degradation may be the
            name of its kind alone: a recipe of the same kind then has its parameters.
        offered: the same by options files and recipes (`SettingsSource.data`), most binding first. Where a folder of
            clean pictures is asked for, no folder of theirs is taken.

    Raises:
        InvalidValueError: no clean pictures, two ways to degraded ones, or values that `DataPlan` refuses.
    """
    wanted = {name: value for name, value in asked.items() if value not in (None, ())}
    chosen: dict[str, Any] = dict(ChainMap(*map(dict, offered)))
    if "gt" in wanted:
        for name in FOLDERS:
            chosen.pop(name, None)
    degradation = _with_parameters(wanted.get("degradation"), chosen.get("degradation"))
    chosen |= wanted
    refuse(
        [
            (
                "lq" in chosen and "degradation" in wanted,
                "give degraded pictures (`lq`) or a `degradation` to make them, not both",
            ),
            ("gt" not in chosen, "which pictures shall be trained on? give a folder of clean ones: `gt` FOLDER"),
        ]
    )
    chosen["degradation"] = None if "lq" in chosen else degradation
    for name in FOLDERS:
        if name in chosen:
            chosen[name] = str(Path(chosen[name]).absolute())
    return DataPlan(**chosen)


def _with_parameters(asked: Any, offered: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The degradation that is asked for, with the parameters that a recipe of its kind has; else the recipe's."""
    if not isinstance(asked, str):
        return offered if asked is None else asked
    if offered is not None and offered.get("kind") == asked:
        return offered
    return {"kind": asked}
