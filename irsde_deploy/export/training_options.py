"""The reference's options files, as far as training goes: its names and units translated into ours.

Nothing is checked here; `TrainingSettings` and `DataPlan` do that when a run is planned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

REFERENCE_EMA = 0.995 ** (1 / 10)
"""The reference averages every 10 iterations with 0.995."""

_TRAIN = {
    "lr_G": "learning_rate",
    "beta1": "beta1",
    "beta2": "beta2",
    "weight_decay_G": "weight_decay",
    "niter": "iterations",
    "lr_steps": "milestones",
    "lr_gamma": "gamma",
    "eta_min": "min_learning_rate",
    "is_weighted": "weighted",
    "loss_type": "loss",
    "manual_seed": "seed",
    "val_freq": "validate_every",
}
_SCHEMES = {"MultiStepLR": "multi-step", "TrueCosineAnnealingLR": "cosine"}
_DATASET = {"batch_size": "batch", "GT_size": "patch", "use_flip": "flip", "use_rot": "rotate"}
_LOGGER = {"print_freq": "log_every", "save_checkpoint_freq": "save_every"}


def training_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Training settings out of the sections `train`, `datasets.train` and `logger`; empty where there is no `train`."""
    train = _section(options, "train")
    if not train:
        return {}
    values: dict[str, Any] = {"objective": "ml", "ema": REFERENCE_EMA, "warmup": 0}
    dataset = _section(_section(options, "datasets"), "train")
    for section, names in ((train, _TRAIN), (dataset, _DATASET), (_section(options, "logger"), _LOGGER)):
        for theirs, ours in names.items():
            if section.get(theirs) is not None:
                values[ours] = section[theirs]
    if "optimizer" in train:
        values["optimizer"] = str(train["optimizer"]).lower()
    if "lr_scheme" in train:
        scheme = str(train["lr_scheme"])
        values["scheme"] = _SCHEMES.get(scheme, scheme)
    warmup = train.get("warmup_iter")
    none = isinstance(warmup, (int, float)) and warmup <= 0  # the reference writes -1
    if warmup is not None and not none:
        values["warmup"] = warmup
    return values


def data_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Folders out of the section `datasets`, by the names of `DataPlan`; the noise level out of `degradation`."""
    datasets = _section(options, "datasets")
    found: dict[str, Any] = {}
    for phase, prefix in (("train", ""), ("val", "validation_")):
        section = _section(datasets, phase)
        for ours, theirs in (("gt", "dataroot_GT"), ("lq", "dataroot_LQ")):
            if isinstance(section.get(theirs), str):
                found[f"{prefix}{ours}"] = section[theirs]
    sigma = _section(options, "degradation").get("sigma")
    if isinstance(sigma, (int, float)) and not isinstance(sigma, bool):  # it may be a list, of no use here
        found["noise_level"] = sigma
    return found


def training_mode(options: Mapping[str, Any]) -> Any:
    """What the training data set holds: `LQGT`, `GT` alone, or nothing said."""
    return _section(_section(options, "datasets"), "train").get("mode")


def _section(options: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = options.get(name)
    if isinstance(section, Mapping):
        return section
    return {}
