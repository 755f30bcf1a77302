"""Training runs that are to be resumed: checkpoints with a plan, an optimizer's state and more."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from irsde_deploy.export.sources import SettingsSource
from irsde_deploy.training.data_plan import DataPlan
from irsde_deploy.training.plan import TrainingPlan, initial_network, make_plan
from irsde_deploy.training.run_folder import RunFolder, read_run
from irsde_deploy.training.session import RunMemory, _restored
from irsde_deploy.training.trainer import Trainer

from .. import damage, values
from ..formats import archives
from .kind import Kind, require

_NETWORK = {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}


def _make(folder: Path) -> None:
    import torch

    sde = {"kind": "mean-reverting", "max_sigma": 10, "T": 100, "schedule": "cosine", "eps": 0.005}
    source = SettingsSource("a recipe", sde, ("ConditionalNAFNet", _NETWORK))
    plan = make_plan([source], DataPlan(gt="clean", lq="rainy"), {"iterations": 50, "patch": 64, "batch": 1}, None)
    trainer = Trainer(initial_network(plan, None), plan.card.sde, plan.settings)
    for parameter in trainer.model.parameters():  # as after an iteration: the optimizer has a state
        parameter.grad = torch.zeros_like(parameter)
    trainer._optimizer.step()
    state: dict[str, Any] = trainer.state()
    averaged = state.pop("averaged")
    training = {**state, "tally": RunMemory().state(), "plan": plan.to_json()}
    RunFolder(folder).save(folder / "last.pt", plan.card, averaged, training)


def _damage(rng: Random, good: Path, target: Path) -> Path:
    import torch

    made = target / "last.pt"
    kind = rng.randrange(8)
    if kind < 2:
        made.write_bytes(archives.spoil_archive(rng, (good / "last.pt").read_bytes()))
    elif kind == 2:
        made.write_bytes(damage.spoil(rng, (good / "last.pt").read_bytes()))
    else:
        content = torch.load(good / "last.pt", weights_only=True)
        training = content["training"]
        if kind < 6:
            training["plan"] = values.spoil_json(rng, training["plan"].encode()).decode("utf-8", "replace")
        else:
            name = rng.choice(sorted(training))
            training[name] = values.spoil_values(rng, training[name])
        torch.save(content, made)
    return made


def _read(path: Path, outputs: Path) -> None:
    """What `train --resume` reads before it looks at pictures, and the state put into a trainer."""
    del outputs
    saved, state = read_run(path)
    plan = TrainingPlan.from_dict(saved)
    trainer = Trainer(initial_network(plan, None), plan.card.sde, plan.settings)
    memory = _restored(state, trainer)
    require(trainer.iteration >= 0, "fewer iterations than none")
    json.dumps(asdict(memory))


RUNS = Kind("training runs", _make, _damage, _read, most_mib=1000, weight=0.7)
