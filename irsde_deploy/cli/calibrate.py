"""irsde-deploy calibrate."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..core.pixels import require_rgb_pictures
from ..errors import InputFileError, InvalidValueError, OutputFileError, requires_extra
from ..system.figures import require_plotting
from ..system.files import file_sha256, require_writable
from .common import PATH, SEED, counted, given_options, progress, require_new, require_onnx_name, say
from .sampling import plan_options

if TYPE_CHECKING:
    import onnx

    from ..calibration.calibrate import Problem
    from ..calibration.data import CalibrationData
    from ..calibration.manifest import CalibrationSettings, Manifest, TableFile
    from ..calibration.range_table import RangeTable
    from ..core.card import ModelCard

METHODS = ("minmax", "percentile", "entropy", "mse")
"""Of `calibration.ranges`, whose module imports onnx."""

_WITH_MANIFEST = {"onnx_file", "data", "output", "manifest", "cache", "report", "overwrite"}
"""What may be given beside a manifest, which has the rest."""


@click.command()
@click.argument("onnx_file", metavar="ONNX", type=PATH)
@click.option("--data", metavar="LQ[,GT]", help="Folder of degraded pictures, and of clean ones of the same names.")
@click.option("-o", "--output", type=PATH, help="ONNX file to write [default: the ONNX file's name with .int8.onnx].")
@click.option("--method", type=click.Choice(METHODS), default="mse", show_default=True, help="How ranges are chosen.")
@plan_options
@click.option("--noise-level", type=float, help="Of the pictures, 0..255, in place of --t0; denoising models only.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of crops and noise.")
@click.option("--crop", type=int, default=128, show_default=True, help="Largest side of a state, in pixels.")
@click.option("--states", type=int, help="Number of states [default: doubled until the ranges have converged].")
@click.option("--most-states", type=int, default=2048, show_default=True, help="Where doubling ends.")
@click.option("--residuals", is_flag=True, help="Quantise residual sums too, which TensorRT can fuse.")
@click.option(
    "--rest",
    type=click.Choice(["fp32", "fp16"]),
    help="Precision of what stays in floating point [default: fp16 with --psnr-budget, else fp32].",
)
@click.option(
    "--psnr-budget",
    type=float,
    metavar="DB",
    help="Search the cheapest layers to leave out so that restored pictures have DB of PSNR against FP32's.",
)
@click.option("--report", type=PATH, metavar="FOLDER", help="Measure each layer's cost at each timestep.")
@click.option("--manifest", type=PATH, help="Repeat the run that wrote this file.")
@click.option("--cache", type=PATH, metavar="FOLDER", help="Of range tables [default: the output's folder].")
@click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
def calibrate(
    onnx_file: Path,
    data: str | None,
    output: Path | None,
    report: Path | None,
    manifest: Path | None,
    cache: Path | None,
    overwrite: bool,
    **settings: Any,
) -> None:
    """Quantise an exported FP32 graph to INT8, with ranges from states along the sampling trajectory.

    With pairs the states are drawn exactly; without clean pictures they are recorded along FP32 trajectories. Writes
    the graph, and beside it a manifest (.json) that repeats the run, and the table of ranges.
    """
    output = output or onnx_file.with_suffix(".int8.onnx")
    require_onnx_name(output, overwrite)
    beside = output.with_suffix(".json")
    own = manifest is not None and beside.resolve() == manifest.resolve()
    require_new(beside, overwrite or own)
    if output.name.startswith("ranges-"):
        raise InvalidValueError(f"{output}: names that begin with ranges- are for range tables: give another one")
    if output.resolve() == onnx_file.resolve():
        raise InvalidValueError(f"{output}: must not replace the graph it is made of: give another name")
    _require_outputs(output, beside, cache, report, overwrite)
    with requires_extra("cpu", "calibrating"):
        from ..calibration.calibrate import Problem, write_int8
        from ..graphs.onnx_file import read_model
    model, card = read_model(onnx_file)
    require_rgb_pictures(card, onnx_file)
    repeated = None if manifest is None else _read_manifest(manifest, model, card)
    if repeated is None:
        pictures, chosen = _find_data(data), _read_settings(card, settings)
    else:
        pictures, chosen = _data_of(repeated, data, manifest), repeated.settings
    try:
        problem = Problem.of(model, card, pictures, chosen)
    except InvalidValueError as error:
        raise InvalidValueError(f"{onnx_file}: {error}") from None
    click.echo(_heading(problem))
    table, table_file = _range_table(problem, cache or output.parent, None if repeated is None else repeated.ranges)
    float_layers = _float_layers(problem, table) if repeated is None else repeated.float_layers
    keeps = repeated if own and not overwrite else None
    cost = write_int8(problem, table, float_layers, output, lambda path: _require_same(path, keeps, beside))
    made = _manifest(problem, table, table_file, float_layers, onnx_file, output)
    if repeated is None or not own or repeated.output_sha256 != made.output_sha256:
        made.write(beside)
    kept = f"{len(problem.layers) - len(float_layers)} of {len(problem.layers)} layers in INT8"
    click.echo(f"{kept}, the rest in {chosen.rest}\n{cost}")
    click.echo(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB), {beside.name} and {table_file.name}")
    if repeated is not None:
        _compare(repeated, made)
    if report is not None:
        _report(problem, table, report, output.name)


def _require_outputs(output: Path, manifest: Path, cache: Path | None, report: Path | None, overwrite: bool) -> None:
    """Raise OutputFileError where something cannot be written, before anything is measured."""
    for path in (output, manifest, (cache or output.parent) / "ranges.json"):
        require_writable(path)
    if report is None:
        return
    with requires_extra("cpu", "calibrating"):
        from ..calibration.sensitivity import REPORTS
    require_plotting()  # said before anything long starts
    existing = [report / name for name in REPORTS if (report / name).exists()]
    if existing and not overwrite:
        raise OutputFileError(f"{existing[0]}: exists already: pass --overwrite to replace it")
    require_writable(report / REPORTS[0])


def _find_data(data: str | None) -> CalibrationData:
    from ..calibration.data import find_data

    if not data:
        raise InvalidValueError("give the pictures to calibrate on: --data LQ,GT or --data LQ")
    return find_data(data)


def _data_of(manifest: Manifest, data: str | None, path: Path | None) -> CalibrationData:
    """The manifest's pictures, in --data or where they were then, seen from the manifest."""
    from ..calibration.data import data_in

    if data:
        return _find_data(data).only(manifest.pictures)
    folders = tuple(os.path.normpath((path or Path()).parent / part) for part in manifest.data)
    return data_in(folders).only(manifest.pictures)


def _read_settings(card: ModelCard, given: dict[str, Any]) -> CalibrationSettings:
    from ..calibration.manifest import CalibrationSettings

    given["rest"] = given["rest"] or ("fp32" if given["psnr_budget"] is None else "fp16")
    if given["states"] is not None and given_options(lambda name: name == "most_states"):
        raise InvalidValueError("--states says how many: leave out --most-states, which is where doubling ends")
    quality, sampler, steps, debias = (given.pop(name) for name in ("quality", "sampler", "steps", "debias"))
    t0, noise_level = given.pop("t0"), given.pop("noise_level")
    if card.sde.kind == "denoising" and t0 is None and noise_level is None:
        raise InvalidValueError(
            "a denoising model starts at the picture's noise level, and is calibrated from there: give the pictures' "
            "--noise-level, or --t0"
        )
    plan = card.plan(sampler=sampler, steps=steps, debias=debias, t0=t0, noise_level=noise_level, quality=quality)
    return CalibrationSettings(plan.sampler, tuple(plan.table.t.tolist()), debias, **given)


def _read_manifest(path: Path, model: onnx.ModelProto, card: ModelCard) -> Manifest:
    """A manifest, if it is of this graph and SDE and no option says otherwise."""
    from ..calibration.manifest import read_manifest, sde_of
    from ..calibration.range_table import graph_sha256

    if surplus := given_options(lambda name: name not in _WITH_MANIFEST):
        raise InvalidValueError(f"{', '.join(surplus)}: the manifest has that already: leave it out")
    manifest = read_manifest(path)
    if manifest.graph_sha256 != graph_sha256(model):
        raise InputFileError(
            f"{path}: is of another graph than this ONNX file's (their SHA-256 differ): give the file that it is of, "
            "or calibrate without the manifest"
        )
    if manifest.sde != sde_of(card):
        mine, theirs = (json.dumps(sde) for sde in (sde_of(card), manifest.sde))
        raise InputFileError(
            f"{path}: is of another SDE ({theirs}) than this ONNX file's ({mine}): give the file it names"
        )
    try:
        manifest.settings.table(card.sde)
    except InvalidValueError as error:
        raise InputFileError(f"{path}: {error}") from None
    return manifest


def _require_same(path: Path, manifest: Manifest | None, where: Path) -> None:
    """Raise where a file that was written is not the manifest's, whose place the new manifest would take."""
    if manifest is not None and file_sha256(path) != manifest.output_sha256:
        raise OutputFileError(
            f"{where}: the result differs from this manifest's, which a new one would replace: give another name with "
            "-o, or pass --overwrite"
        )


def _heading(problem: Problem) -> str:
    settings, pictures = problem.settings, problem.data.entries
    source = (
        f"{counted(len(pictures), 'pair')}, states drawn exactly"
        if problem.data.paired
        else f"{counted(len(pictures), 'picture')} without clean ones, states recorded along FP32 trajectories"
    )
    timesteps = ", ".join(map(str, settings.timesteps[:12])) + (", ..." if len(settings.timesteps) > 12 else "")
    return f"{source}\n{settings.sampler}, {counted(len(settings.timesteps), 'step')}: t = {timesteps}"


def _range_table(problem: Problem, folder: Path, expected: TableFile | None) -> tuple[RangeTable, Path]:
    settings = problem.settings
    about = settings.most_states if settings.states is None else settings.states
    with progress(about, "measuring ranges") as advance:
        table, path, reused = problem.range_table(folder, lambda done: advance(done, f"{done} states"), expected)
    click.echo("\n".join(table.rounds))
    if settings.states is None:
        most = f"not converged: --most-states {settings.most_states} allows no more"
        click.echo("converged" if table.converged else most)
    click.echo(f"ranges by {settings.method}" + (f", of {path}, whose hash fits" if reused else ""))
    if expected is not None and not reused:
        say(f"note: {folder / expected.name} is not the table of the manifest, so that ranges were measured again")
    return table, path


def _float_layers(problem: Problem, table: RangeTable) -> tuple[str, ...]:
    """The layers that must stay in floating point for the PSNR budget; none without one."""
    from ..calibration.calibrate import search_float_layers

    settings = problem.settings
    if settings.psnr_budget is None:
        return ()
    with progress(1, "searching") as advance:

        def on_trial(done: int, about: int) -> None:
            advance(min(done / about, 1.0), f"{done} of about {about} trials")

        result = search_float_layers(problem, table.ranges(settings.method), settings.psnr_budget, on_trial)
    found = result.kept
    if len(found) == len(problem.layers):
        raise InvalidValueError(
            f"no layer can be in INT8 within {settings.psnr_budget:g} dB: lower --psnr-budget, or keep the FP32 graph"
        )
    click.echo(
        f"for {settings.psnr_budget:g} dB {counted(len(found), 'layer')} must stay in floating point, with "
        f"{result.share:.1%} of the operations that could be in INT8 (found in {counted(result.trials, 'trial')})"
    )
    click.echo("\n".join(f"  {name}" for name in found), nl=bool(found))
    return found


def _manifest(
    problem: Problem, table: RangeTable, table_file: Path, float_layers: tuple[str, ...], source: Path, output: Path
) -> Manifest:
    from ..calibration.calibrate import packages
    from ..calibration.manifest import Manifest, TableFile, sde_of
    from ..calibration.range_table import graph_sha256

    def relative(part: str) -> str:
        return Path(os.path.relpath(Path(part).resolve(), output.parent.resolve())).as_posix()

    parts = problem.data.folders
    return Manifest(
        settings=replace(problem.settings, states=table.states),
        data=tuple(map(relative, parts)),
        pictures=tuple(problem.data.hashes),
        model_sha256=file_sha256(source),
        graph_sha256=graph_sha256(problem.model),
        sde=sde_of(problem.card),
        float_layers=float_layers,
        ranges=TableFile(table_file.name, file_sha256(table_file)),
        output_sha256=file_sha256(output),
        packages=packages(),
    )


def _compare(before: Manifest, now: Manifest) -> None:
    """Say whether a repeated run gave the same file."""
    if before.output_sha256 == now.output_sha256:
        click.echo("the same file as the manifest's, byte for byte")
    else:
        differ = [name for name, version in now.packages.items() if before.packages.get(name) != version]
        why = f" (other versions of {', '.join(differ)})" if differ else ""
        say(f"note: the file differs from the manifest's{why}")


def _report(problem: Problem, table: RangeTable, folder: Path, name: str) -> None:
    """Measure and write each layer's cost."""
    from ..calibration.sensitivity import format_ranking, format_timesteps, measure_sensitivity, write_reports

    with progress(len(problem.layers), "measuring layers") as advance:
        sensitivity = measure_sensitivity(problem, table.ranges(problem.settings.method), advance)
    paths = write_reports(sensitivity, folder, f"{name}: each layer alone in INT8")
    click.echo(f"{format_timesteps(sensitivity)}\n\n{format_ranking(sensitivity, 10)}")
    click.echo(f"wrote {', '.join(map(str, paths))}")
