"""Turn a training run into a model of this folder: weights in float16 with their card, and how they came to be.

    python assets/publish.py runs/derain derain_nafnet_w16 [--sampler mean --steps 10]

Writes NAME.safetensors, and NAME/ with the plan (settings, data, seed), the log, the curve and the last sample sheet.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import click

from irsde_deploy.export.checkpoints import read_checkpoint, save_checkpoint
from irsde_deploy.export.run_folder import read_run

HERE = Path(__file__).parent


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
    shutil.copy(max((run / "samples").iterdir()), folder / "samples.png")
    print(f"wrote {name}.safetensors and {name}/, iteration {state['iteration']}")


if __name__ == "__main__":
    main()
