"""irsde-deploy pack and selftest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from cloup import option_group

from ..core.sampling import Sampling
from ..errors import InvalidValueError
from ..runtimes.tensorrt.profiles import parse_size
from .command import command, takes_engine
from .common import PATH, note_uncalibrated
from .output import status, tell
from .sampling import PLAN_OPTIONS, noise_level_option, sampling_of, seed_option


@command(
    "irsde-deploy pack derain.onnx -o derain.pack",
    "irsde-deploy pack derain.onnx -o derain.pack --quality best --picture rainy.png",
)
@takes_engine("engine", "ENGINE", PATH, "Exported .onnx or .plan")
@click.option("-o", "--output", "folder", type=PATH, required=True, help="Folder to write.")
@sampling_of(
    option_group(
        "Sampling",
        *PLAN_OPTIONS,
        noise_level_option("Noise level that a denoising model starts at, 0..255, in place of --t0."),
        seed_option("Seed of the noise, where a run names none."),
    )
)
@click.option("--size", metavar="HxW", help="Height and width of the synthetic reference input [default: 61x93].")
@click.option("--picture", type=PATH, help="Take this picture as the reference input.")
@click.option("--overwrite", is_flag=True, help="Replace a pack that is there already.")
def pack(
    engine: Path,
    folder: Path,
    size: str | None,
    picture: Path | None,
    overwrite: bool,
    sampling: Sampling,
) -> None:
    """Write the folder that a program which embeds the model takes.

    ENGINE is an exported .onnx, for OpenVINO, or a .plan. The folder holds it with its card, the step table, and a
    reference input, noise and output to check it with.
    """
    from ..embedding.pack import DEFAULT_SIZE, card_of, write_pack
    from ..pictures.files import read_picture

    if size is not None and picture is not None:
        raise InvalidValueError("--size is of the synthetic reference: leave it or --picture out")
    if picture is not None:
        reference: Any = read_picture(picture).rgb
    else:
        reference = DEFAULT_SIZE if size is None else parse_size(size)
    with _counting("restoring the reference") as show:
        written = write_pack(engine, folder, sampling, reference, overwrite, show)
    note_uncalibrated(engine, card_of(engine), written.table.t)
    size_mb = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    tell(
        f"wrote {folder} ({size_mb:.1f} MB): {written.sampler}, {len(written.table)} steps, seed {written.seed}, "
        f"for {written.backend}; 'irsde-deploy selftest {folder}' checks it"
    )


@command("irsde-deploy selftest derain.pack", "irsde-deploy selftest derain.pack -v")
@click.argument("folder", type=PATH)
def selftest(folder: Path) -> None:
    """Restore the reference input of a pack and compare with its reference output; exit code 3 where they differ."""
    from ..embedding.selftest import selftest as check

    with _counting("restoring the reference") as show:
        found = check(folder, show)
    tell(
        f"{found.engine}: {found.sampler}, {found.steps} steps: largest error {found.output_error:.3g} "
        f"({found.tolerance:.3g} is allowed), of the noise {found.noise_error:.3g}"
    )
    found.require(folder)


@contextmanager
def _counting(label: str) -> Iterator[Callable[[int, int], None]]:
    """Steps done on stderr, on a terminal only."""
    with status(label) as update:

        def show(done: int, steps: int) -> None:
            update(f"step {done} of {steps}")

        yield show
