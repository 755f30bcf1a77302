"""The training objectives at equal compute: one network, one seed, the same samples; PSNR of what it restores.

    python benchmarks/objectives.py PHOTOS [--iterations 800]

Trains ml, ml-exact, noise and clean in turn on rain made on the fly and restores held-out pictures with few-step
samplers; ml also with its bias taken out. Prints a table; nothing is kept.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch

from irsde_deploy.export.sources import read_recipe
from irsde_deploy.training.data import TrainingSamples
from irsde_deploy.training.iterations import batches
from irsde_deploy.training.objectives import OBJECTIVES
from irsde_deploy.training.plan import DataPlan, TrainingPlan, initial_network, make_plan
from irsde_deploy.training.processes import Process
from irsde_deploy.training.trainer import Trainer
from irsde_deploy.training.validation import mean_psnr, read_examples, validate

SAMPLERS = [("mean", 4), ("mean", 10), ("sde-2m", 10), ("posterior", 20)]


@click.command()
@click.argument("photos", type=click.Path(path_type=Path, exists=True))
@click.option("--recipe", default="derain-small", show_default=True)
@click.option("--objective", "objectives", multiple=True, default=OBJECTIVES, type=click.Choice(OBJECTIVES))
@click.option("--iterations", default=800, show_default=True)
@click.option("--max-sigma", type=float)
@click.option("--eps", type=float)
@click.option("--start-share", type=float, help="In place of the recipe's.")
def main(
    photos: Path,
    recipe: str,
    objectives: tuple[str, ...],
    iterations: int,
    max_sigma: float | None,
    eps: float | None,
    start_share: float | None,
) -> None:
    """Train every objective for the same number of iterations on PHOTOS and compare."""
    source = read_recipe(recipe)
    changed = {name: value for name, value in (("max_sigma", max_sigma), ("eps", eps)) if value is not None}
    source = replace(source, values={**source.values, **changed})
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; {recipe}, {iterations} iterations")
    print(f"changed: {changed}, {start_share=}")
    print(f"{'objective':<14}{'s':>6}  " + "".join(f"{name + ' ' + str(n):>14}" for name, n in SAMPLERS))
    for objective in objectives:
        given: dict[str, object] = {"objective": objective, "iterations": iterations}
        if start_share is not None:
            given["start_share"] = start_share
        plan = make_plan([source], DataPlan(str(photos), degradation=source.data["degradation"], side=192), given, None)
        trainer, seconds = trained(plan)
        for debias in (False, True) if objective == "ml" else (False,):
            name = objective + (", debiased" if debias else "")
            print(
                f"{name:<14}{seconds:6.0f}  " + "".join(f"{q:14.2f}" for q in quality(trainer, plan, debias)),
                flush=True,
            )


def trained(plan: TrainingPlan) -> tuple[Trainer, float]:
    """The plan's network after all iterations, and the seconds they took."""
    pairs, _ = plan.data.open()
    trainer = Trainer(initial_network(plan, None), plan.card.sde, plan.settings)
    s = plan.settings
    samples = TrainingSamples(pairs, s.patch, plan.card.sde, s.seed, start_share=s.start_share)
    started = time.perf_counter()
    for batch in batches(samples, plan.settings, 0, Process()):
        trainer.step(batch)
    return trainer, time.perf_counter() - started


def quality(trainer: Trainer, plan: TrainingPlan, debias: bool) -> list[float]:
    """Mean PSNR over the held-out pictures by sampler."""
    _, held_out = plan.data.open()
    examples = read_examples(held_out, plan.card, plan.data)
    found = []
    for sampler, steps in SAMPLERS:
        card = replace(plan.card, sampler=sampler, steps=steps)
        results = validate(trainer.averaged, card, examples, plan.data.noise_level, debias=debias)
        found.append(mean_psnr(results) if results else np.nan)
    return found


if __name__ == "__main__":
    main()
