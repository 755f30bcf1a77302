"""irsde-deploy degrade."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from ..errors import InvalidValueError, OutputFileError
from .command import command
from .common import KINDS, PATH, SEED
from .output import note, tell


@command(
    "irsde-deploy degrade clean.png --kind rain -o rainy.png --seed 3",
    "irsde-deploy degrade clean.png --kind gaussian-noise --set sigma=25 -o noisy.png",
)
@click.argument("picture", type=PATH)
@click.option("--kind", required=True, help=f"Kind of the degradation: {KINDS}")
@click.option("-o", "--output", type=PATH, required=True, help="Picture file to write.")
@click.option(
    "--seed", type=SEED, default=0, show_default=True, help="Seed of what is drawn: the same one degrades the same way."
)
@click.option(
    "--set",
    "assigned",
    multiple=True,
    metavar="NAME=VALUE",
    help="Parameter of the degradation, NUMBER or LOW,HIGH; repeatable.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
def degrade(picture: Path, kind: str, output: Path, seed: int, assigned: tuple[str, ...], overwrite: bool) -> None:
    """Degrade a clean PICTURE: rain, haze, shadow, blur, noise, JPEG, low resolution or masks.

    What training makes on the fly; parameters that are left out are drawn by the seed.
    """
    from ..core.comparison import psnr
    from ..pictures.degradations import degradation, degrade_picture
    from ..pictures.files import read_picture, require_target, to_eight_bit, write_picture

    if os.path.lexists(output) and not overwrite:
        raise OutputFileError(f"{output}: exists already: pass --overwrite to replace it")
    apply = degradation(kind, dict(_parameter(text) for text in assigned))
    clean = read_picture(picture)
    require_target(output, clean)
    for sentence in clean.notes:
        note(f"{picture}: {sentence}")
    if lost := write_picture(output, clean.with_rgb(degrade_picture(clean.rgb, apply, seed))):
        note(f"{output}: its format cannot hold {' and '.join(lost)}")
    written = psnr(to_eight_bit(read_picture(output).rgb), to_eight_bit(clean.rgb))
    tell(f"wrote {output}: {kind}, seed {seed}, {written:.2f} dB from the clean picture")


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    try:
        parts = [json.loads(part) for part in value.split(",")]
    except ValueError:
        parts = []
    if not equals or not parts:
        raise InvalidValueError(f"--set takes NAME=NUMBER or NAME=LOW,HIGH, not {text!r}")
    return name.strip(), parts[0] if len(parts) == 1 else parts
