"""irsde-deploy verify."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ..core.samplers import SAMPLERS
from ..core.sampling import Sampling
from ..core.tiling import Tiling
from ..errors import InvalidValueError, refuse, requires_extra
from .command import Choice, command, takes_engine
from .common import PATH, SEED, device_options
from .output import TERMINAL
from .sampling import opened


@command(
    "irsde-deploy verify derain.onnx --against ckpt.pth",
    "irsde-deploy verify derain.onnx --tiled 256 --picture rainy.png",
)
@takes_engine("engine", "ENGINE", PATH, "Engine to compare")
@click.option("--against", type=PATH, help="The PyTorch checkpoint that it was exported from.")
@click.option(
    "--tiled", type=click.IntRange(1), metavar="SIDE", help="Compare tiles of this side with the whole --picture."
)
@click.option(
    "--overlap", type=int, help="Overlap of neighbouring tiles, in pixels [default: 64, at most half a side]."
)
@click.option(
    "--sampler",
    type=Choice(list(SAMPLERS)),
    help="Sampler of the trajectory [default: posterior; with --tiled or INT8 the card's]",
)
@click.option(
    "--steps", type=int, help="Steps of the trajectory [default: all timesteps; with --tiled or INT8 the card's]"
)
@click.option("--picture", type=PATH, help="Compare on this picture [default: a small example].")
@click.option("--seed", type=SEED, default=2023, show_default=True, help="Seed of the injected noise.")
@click.option(
    "--tolerance",
    type=float,
    help="Allowed error of a state, relative to the largest value [default: 1e-3, with FP16 inside 2e-2, INT8 0.5].",
)
@click.option("--csv", "csv_path", type=PATH, help="CSV file to write [default: ENGINE.parity.csv or ENGINE.tiles.csv]")
@click.option(
    "--plot", "plot_path", type=PATH, help="PNG file to write [default: ENGINE.parity.png or ENGINE.tiles.png]"
)
@device_options()
def verify(
    engine: Path,
    against: Path | None,
    tiled: int | None,
    overlap: int | None,
    sampler: str | None,
    steps: int | None,
    picture: Path | None,
    seed: int,
    tolerance: float | None,
    csv_path: Path | None,
    plot_path: Path | None,
    device_settings: dict[str, Any],
) -> None:
    """Compare ENGINE with PyTorch (--against), or tiles with whole pictures (--tiled).

    With PyTorch: single evaluations, then a whole trajectory with the same noise; exit code 3 where anything is out of
    tolerance. Writes the error of every state, or along every row and column, as CSV and as a plot.
    """
    if tiled is None and overlap is not None:
        raise InvalidValueError("`overlap` is that of tiles: add `tiled`, or leave it out")
    written = _Outputs.beside(engine, "parity" if tiled is None else "tiles", csv_path, plot_path)
    refuse(_contradictions(against, tiled, picture, tolerance))
    written.check(picture)
    if tiled is not None and picture is not None:
        sampling = Sampling(sampler=sampler, steps=steps, seed=seed)
        _verify_tiles(engine, device_settings, picture, Tiling.of(tiled, overlap), sampling, written)
    elif against is not None:
        with requires_extra("export", "comparing with PyTorch"):
            from ..export.parity import compared_sampling
            from ..reports.parity import verify_engine
        from ..restorer import load

        restorer = opened(load(engine, **device_settings))
        verify_engine(
            restorer,
            against,
            written.csv,
            written.plot,
            sampling=compared_sampling(restorer.card, sampler, steps, seed),
            picture=picture,
            tolerance=tolerance,
            listener=TERMINAL,
        )


def _contradictions(
    against: Path | None, tiled: int | None, picture: Path | None, tolerance: float | None
) -> Iterator[tuple[bool, str]]:
    """(what does not go together, the sentence to say then)."""
    one_reference = (against is None) != (tiled is None)
    yield not one_reference, "give --against CKPT to compare with PyTorch, or --tiled SIDE with the whole"
    if tiled is not None:
        yield picture is None, "--tiled needs a picture larger than a tile: add --picture FILE"
        yield tolerance is not None, "--tolerance is for --against: leave it out with --tiled"
    if tolerance is not None:
        yield not 0 < tolerance <= 1, f"--tolerance must be above 0 and at most 1, not {tolerance}"


@dataclass(frozen=True)
class _Outputs:
    """Where a comparison is written."""

    csv: Path
    plot: Path

    @classmethod
    def beside(cls, engine: Path, kind: str, csv: Path | None, plot: Path | None) -> _Outputs:
        """The files that are named, else those beside the engine."""
        return cls(csv or engine.with_suffix(f".{kind}.csv"), plot or engine.with_suffix(f".{kind}.png"))

    def check(self, picture: Path | None) -> None:
        """Raise InvalidValueError where a file is not what its name says, or would replace the picture."""
        endings = (self.csv.suffix.lower(), self.plot.suffix.lower())
        if endings != (".csv", ".png") or self.plot == picture:
            raise InvalidValueError(
                f"--csv must end in .csv and --plot in .png, and neither be an input, not {self.csv} and {self.plot}"
            )


def _verify_tiles(
    engine: Path, device_settings: dict[str, Any], picture: Path, tiling: Tiling, sampling: Sampling, written: _Outputs
) -> None:
    from ..reports.tiles import verify_tiles
    from ..restorer import load

    restorer = opened(load(engine, **device_settings))
    verify_tiles(restorer, picture, tiling, written.csv, written.plot, sampling=sampling, listener=TERMINAL)
