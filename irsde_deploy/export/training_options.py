"""Training settings in the reference's options files: its names and units translated into ours.

Nothing is checked here: `TrainingSettings` and `DataPlan` do that when a run is planned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

REFERENCE_EMA = 0.995 ** (1 / 10)
"""The decay of averaged weights for every iteration: the reference averages every 10 iterations with 0.995."""

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
    """Take training settings out of the sections `train`, `datasets.train` and `logger`.

    Args:
        options: the options file as plain data.

    Returns:
        Values by the names of `TrainingSettings`; none where there is no section `train`, as in files for testing.
    """
    train = _section(options, "train")
    if not train:
        return {}
    # What the reference does whatever its options say, where our own defaults are others.
    values: dict[str, Any] = {"objective": "ml", "ema": REFERENCE_EMA, "warmup": 0}
    dataset = _section(_section(options, "datasets"), "train")
    for section, names in ((train, _TRAIN), (dataset, _DATASET), (_section(options, "logger"), _LOGGER)):
        for theirs, ours in names.items():
            if section.get(theirs) is not None:  # YAML reads a key without a value as null
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
    """Take folders out of the section `datasets`, and the noise level out of the section `degradation`.

    Args:
        options: the options file as plain data.

    Returns:
        Values by the names of `DataPlan`.
    """
    datasets = _section(options, "datasets")
    found: dict[str, Any] = {}
    for phase, prefix in (("train", ""), ("val", "validation_")):
        section = _section(datasets, phase)
        for ours, theirs in (("gt", "dataroot_GT"), ("lq", "dataroot_LQ")):
            if isinstance(section.get(theirs), str):  # it may be a list of folders, which `DataPlan` does not take
                found[f"{prefix}{ours}"] = section[theirs]
    sigma = _section(options, "degradation").get("sigma")
    if isinstance(sigma, (int, float)) and not isinstance(sigma, bool):  # it may be a list, of no use here
        found["noise_level"] = sigma
    return found


def training_mode(options: Mapping[str, Any]) -> Any:
    """Return what the training data set holds: "LQGT", "GT" alone, or None where an options file does not say."""
    return _section(_section(options, "datasets"), "train").get("mode")


def _section(options: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of an options file; an empty one where it is missing, or no section."""
    section = options.get(name)
    if isinstance(section, Mapping):
        return section
    return {}
