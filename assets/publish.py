"""Turn a training run into a model of this folder: weights in float16 with their card, and how they came to be.

    python assets/publish.py runs/derain derain_nafnet_w16 [--sampler mean --steps 10]

Writes NAME.safetensors, and NAME/ with the plan (settings, data, seed), the log, the curve and a sheet of those
held-out photographs that may be shown here.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import click

from irsde_deploy import ModelCard
from irsde_deploy.networks.checkpoints import Checkpoint, read_checkpoint, save_checkpoint
from irsde_deploy.networks.detection import build_network
from irsde_deploy.training.plan import TrainingPlan
from irsde_deploy.training.run_folder import read_run
from irsde_deploy.training.validation import Validated, read_examples, validate, write_sheet

HERE = Path(__file__).parent
FREE = ("astronaut", "coffee", "rocket")
"""Public domain and CC0; the other photographs may not be copied."""


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.argument("name")
@click.option("--sampler", help="For the card, where another than the recipe's was measured to be better.")
@click.option("--steps", type=int)
def main(run: Path, name: str, sampler: str | None, steps: int | None) -> None:
    """Publish the best checkpoint of RUN as NAME."""
    checkpoint = read_checkpoint(run / "best.pt")
    plan, state = read_run(run / "best.pt")
    if checkpoint.card is None:
        raise click.ClickException(f"{run}: no model card inside")
    chosen = {key: value for key, value in (("sampler", sampler), ("steps", steps)) if value is not None}
    card = replace(checkpoint.card, checkpoint_sha256=checkpoint.sha256, **chosen)  # type: ignore[arg-type]
    save_checkpoint(HERE / f"{name}.safetensors", checkpoint.weights, card, half=True)
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    plan["iteration"] = state["iteration"]
    plan["data"]["gt"] = Path(plan["data"]["gt"]).name
    (folder / "plan.json").write_text(json.dumps(plan, indent=1) + "\n")
    shutil.copy(run / "log.csv", folder / "log.csv")
    shutil.copy(run / "curve.png", folder / "curve.png")
    write_sheet(folder / "samples.jpg", restored_samples(run, checkpoint, card))
    print(f"wrote {name}.safetensors and {name}/, iteration {state['iteration']}")


def restored_samples(run: Path, checkpoint: Checkpoint, card: ModelCard) -> list[Validated]:
    """The middles of the free photographs, degraded as in validation and restored with the published weights."""
    plan = TrainingPlan.from_dict(read_run(run / "best.pt")[0])
    _, held_out = plan.data.open()
    examples = [e for e in read_examples(held_out, card, plan.data) if e.name in FREE]
    network = build_network(card.network, card.settings, checkpoint.weights)
    return validate(network, card, examples, plan.data.noise_level) or []


if __name__ == "__main__":
    main()
