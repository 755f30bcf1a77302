"""Calibration in one call: an FP32 graph and pictures -> an INT8 graph, its manifest and the table of ranges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from ..core.card import ModelCard
from ..core.pixels import require_rgb_pictures
from ..errors import InvalidValueError, refuse
from ..graphs.onnx_file import read_model
from ..system.figures import require_plotting
from ..system.files import require_new, require_output, require_writable
from ..system.listener import SILENT, Listener
from .data import find_data
from .manifest import Manifest
from .options import CalibrationOptions
from .problem import Cost, Problem, search_float_layers, write_int8
from .range_table import RangeTable
from .repeating import Original, made_of
from .sensitivity import REPORTS, format_ranking, format_timesteps, measure_sensitivity, write_reports

_LISTED = 12
"""Timesteps that the heading names."""


@dataclass(frozen=True)
class Calibrated:
    """What a calibration has written.

    Attributes:
        output: the INT8 graph. table: the file of its ranges.
        manifest: what the run was made of; beside the graph, with the suffix `.json`.
        cost: what INT8 costs.
    """

    output: Path
    table: Path
    manifest: Manifest
    cost: Cost


def calibrate_graph(
    source: str | Path,
    data: str | None = None,
    output: str | Path | None = None,
    options: CalibrationOptions | None = None,
    *,
    manifest: str | Path | None = None,
    cache: str | Path | None = None,
    report: str | Path | None = None,
    overwrite: bool = False,
    listener: Listener = SILENT,
) -> Calibrated:
    """Quantise an exported FP32 graph to INT8, with ranges from states along the sampling trajectory.

    Args:
        source: the FP32 graph.
        data: folders of degraded and of clean pictures as `LQ,GT`; or one folder with the subfolders LQ and GT, or of
            degraded pictures alone. With a manifest: where its pictures are now.
        output: ONNX file to write; the source's name with `.int8.onnx` by default. The manifest is written beside it.
        options: how to calibrate; must be left out with a manifest, which has them.
        manifest: repeat the run that wrote this file.
        cache: folder of range tables; the output's by default.
        report: folder for what each layer alone costs at each timestep (`sensitivity.REPORTS`); takes long.
        overwrite: whether files that exist are replaced.
        listener: is told how the ranges moved, which layers stay in floating point, what INT8 costs, what was written.

    Raises:
        InvalidValueError: settings that do not go together or do not fit the model; a budget that cannot be kept.
        InputFileError: graph, pictures or manifest cannot be read, or do not belong together.
        OutputFileError: a file exists or cannot be written. EngineError: no exported graph.
        MissingPackageError: ONNX Runtime, or for a report Matplotlib, is not installed.
    """
    source = Path(source)
    target = source.with_suffix(".int8.onnx") if output is None else Path(output)
    manifest, cache, report = (None if path is None else Path(path) for path in (manifest, cache, report))
    files = _Files(source, target, manifest, cache, report, overwrite)
    files.check()
    refuse([(manifest is not None and options is not None, "the manifest has the options already: leave them out")])
    model, card = read_model(source)
    require_rgb_pictures(card, source)
    original = None if manifest is None else Original.read(manifest, model, card)
    problem = _problem(files, model, card, original, data, options or CalibrationOptions(), listener.note)
    return _Run(files, problem, original, listener).carried_out()


def _problem(
    files: _Files,
    model: onnx.ModelProto,
    card: ModelCard,
    original: Original | None,
    data: str | None,
    options: CalibrationOptions,
    on_note: Callable[[str], None],
) -> Problem:
    if original is not None:
        pictures, settings = original.pictures(data), original.manifest.settings
    else:
        refuse([(not data, "give the pictures to calibrate on: `data` LQ,GT or `data` LQ")])
        pictures, settings = find_data(data or "", on_note), options.settings(card)
    try:
        return Problem.of(model, card, pictures, settings)
    except InvalidValueError as error:
        raise InvalidValueError(f"{files.source}: {error}") from None


@dataclass(frozen=True)
class _Files:
    """Where a run reads and writes; the names are those of `calibrate_graph`."""

    source: Path
    output: Path
    manifest: Path | None
    cache: Path | None
    report: Path | None
    overwrite: bool

    @property
    def new_manifest(self) -> Path:
        """Beside the output."""
        return self.output.with_suffix(".json")

    @property
    def tables(self) -> Path:
        """The folder of range tables."""
        return self.cache or self.output.parent

    @property
    def in_place(self) -> bool:
        """Whether the new manifest would take the place of the one that is repeated."""
        return self.manifest is not None and self.new_manifest.resolve() == self.manifest.resolve()

    def check(self) -> None:
        """Raise where something must not or cannot be written, before anything is measured."""
        require_output(self.output, ".onnx", self.overwrite)
        require_new(self.new_manifest, self.overwrite or self.in_place)
        refuse(
            [
                (
                    self.output.name.startswith("ranges-"),
                    f"{self.output}: names that begin with ranges- are for range tables: give another one",
                ),
                (
                    self.output.resolve() == self.source.resolve(),
                    f"{self.output}: must not replace the graph it is made of: give another name",
                ),
            ]
        )
        for path in (self.output, self.new_manifest, self.tables / "ranges.json"):
            require_writable(path)
        if self.report is not None:
            self._check_report(self.report)

    def _check_report(self, folder: Path) -> None:
        require_plotting()  # said before anything long starts
        for name in REPORTS:
            require_new(folder / name, self.overwrite)
        require_writable(folder / REPORTS[0])


@dataclass(frozen=True)
class _Run:
    """The order of work, told to a listener."""

    files: _Files
    problem: Problem
    original: Original | None
    listener: Listener

    def carried_out(self) -> Calibrated:
        original = self.original
        self.listener.line(_heading(self.problem))
        table, table_file = self._range_table()
        float_layers = self._float_layers(table) if original is None else original.manifest.float_layers
        calibrated = self._written(table, table_file, float_layers)
        if original is not None:
            self._compare(original, calibrated.manifest)
        if self.files.report is not None:
            self._report(table, self.files.report)
        return calibrated

    def _written(self, table: RangeTable, table_file: Path, float_layers: Sequence[str]) -> Calibrated:
        """Write the graph and its manifest."""
        files, problem, original, tell = self.files, self.problem, self.original, self.listener.line
        check = None
        if original is not None and files.in_place and not files.overwrite:
            check = original.require_same
        cost = write_int8(problem, table, float_layers, files.output, check)
        made = made_of(problem, table, table_file, float_layers, files.source, files.output)
        if original is None or not files.in_place or not original.repeated_by(made):
            made.write(files.new_manifest)
        quantised, layers = len(problem.layers) - len(float_layers), len(problem.layers)
        tell(f"{quantised} of {layers} layers in INT8, the rest in {problem.settings.rest}\n{cost}")
        megabytes = files.output.stat().st_size / 1e6
        tell(f"wrote {files.output} ({megabytes:.1f} MB), {files.new_manifest.name} and {table_file.name}")
        return Calibrated(files.output, table_file, made, cost)

    def _range_table(self) -> tuple[RangeTable, Path]:
        settings, folder, tell = self.problem.settings, self.files.tables, self.listener.line
        expected = None if self.original is None else self.original.manifest.ranges
        about = settings.most_states if settings.states is None else settings.states
        with self.listener.progress(about, "measuring ranges") as advance:

            def on_state(done: int) -> None:
                advance(done, f"{done} states")

            table, path, reused = self.problem.range_table(folder, on_state, expected, self.listener.note)
        tell("\n".join(table.rounds))
        if settings.states is None:
            most = f"not converged: `most_states` {settings.most_states} allows no more"
            tell("converged" if table.converged else most)
        tell(f"ranges by {settings.method}" + (f", of {path}, whose hash fits" if reused else ""))
        if expected is not None and not reused:
            where = folder / expected.name
            self.listener.note(f"{where} is not the table of the manifest, so that ranges were measured again")
        return table, path

    def _float_layers(self, table: RangeTable) -> tuple[str, ...]:
        """The layers that must stay in floating point for the PSNR budget; none without one."""
        settings, tell = self.problem.settings, self.listener.line
        budget = settings.psnr_budget
        if budget is None:
            return ()
        with self.listener.trials("searching") as on_trial:
            result = search_float_layers(self.problem, table.ranges(settings.method), budget, on_trial)
        found = result.kept
        if len(found) == len(self.problem.layers):
            raise InvalidValueError(
                f"no layer can be in INT8 within {budget:g} dB: lower `psnr_budget`, or keep the FP32 graph"
            )
        tell(
            f"for {budget:g} dB {_counted(len(found), 'layer')} must stay in floating point, with {result.share:.1%} "
            f"of the operations that could be in INT8 (found in {_counted(result.trials, 'trial')})"
        )
        for name in found:
            tell(f"  {name}")
        return found

    def _compare(self, original: Original, made: Manifest) -> None:
        """Say whether a repeated run gave the same file."""
        if original.repeated_by(made):
            self.listener.line("the same file as the manifest's, byte for byte")
            return
        changed = original.changed_packages(made)
        why = f" (other versions of {', '.join(changed)})" if changed else ""
        self.listener.note(f"the file differs from the manifest's{why}")

    def _report(self, table: RangeTable, folder: Path) -> None:
        """Measure and write each layer's cost."""
        problem, tell = self.problem, self.listener.line
        with self.listener.progress(len(problem.layers), "measuring layers") as advance:
            sensitivity = measure_sensitivity(problem, table.ranges(problem.settings.method), advance)
        paths = write_reports(sensitivity, folder, f"{self.files.output.name}: each layer alone in INT8")
        tell(f"{format_timesteps(sensitivity)}\n\n{format_ranking(sensitivity, 10)}")
        tell(f"wrote {', '.join(map(str, paths))}")


def _heading(problem: Problem) -> str:
    settings, number = problem.settings, len(problem.data.entries)
    source = f"{_counted(number, 'picture')} without clean ones, states recorded along FP32 trajectories"
    if problem.data.paired:
        source = f"{_counted(number, 'pair')}, states drawn exactly"
    timesteps = ", ".join(map(str, settings.timesteps[:_LISTED]))
    if len(settings.timesteps) > _LISTED:
        timesteps += ", ..."
    return f"{source}\n{settings.sampler}, {_counted(len(settings.timesteps), 'step')}: t = {timesteps}"


def _counted(number: int, noun: str) -> str:
    """`1 pair`, `2 pairs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
