"""The folder of a training run: its checkpoints, log, curve and sample sheets. Its checkpoints and
pictures appear whole or not at all; a row of the log that a killed process left unfinished is dropped when resuming.

last.pt          averaged weights with the model card (what `export` and `run` take), and all that resuming needs
best.pt          the same, from the best validation so far
log.csv          iteration, loss, learning rate, seconds, PSNR
curve.png        the log as a picture
samples/N.png    held-out pictures at iteration N: degraded, restored, clean
tensorboard/     the log for TensorBoard, where that is installed
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..core.card import METADATA_KEY, ModelCard
from ..errors import CheckpointError, InputFileError, OutputFileError, reason
from ..networks.checkpoints import OWN_FORMAT, load_safely
from ..system.decoding import inside
from ..system.figures import figure_file
from ..system.files import require_readable, require_writable, write_atomically
from ..system.parsing import parse_json
from ..system.tables import write_text

_OWN_PART = re.compile(r"\.(last\.pt|best\.pt|log\.csv|curve\.png|\d+\.png)\.[0-9a-f]{12}\.part")
MAX_PLAN = 16_000_000
"""Characters of the plan in a checkpoint; names of held-out pictures can be many."""
COLUMNS = ("iteration", "loss", "learning_rate", "seconds", "psnr")


@dataclass
class RunFolder:
    """A run's folder and its log so far.

    Attributes:
        path: of the folder.
        rows: of the log; a value that was not measured is None.
    """

    path: Path
    rows: list[dict[str, float | None]] = field(default_factory=list)
    _board: Any = None

    @property
    def last(self) -> Path:
        """Checkpoint to resume from."""
        return self.path / "last.pt"

    @property
    def best(self) -> Path:
        """Checkpoint of the best validation."""
        return self.path / "best.pt"

    @property
    def log_file(self) -> Path:
        """One row every `log_every` iterations and at each validation."""
        return self.path / "log.csv"

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """A new run's folder.

        Raises:
            OutputFileError: there is a run in it already, or it cannot be written.
        """
        folder = cls(path)
        if path.exists() and not path.is_dir():
            raise OutputFileError(f"{path}: is a file; a run needs a folder: give another name with -o")
        if folder.last.exists():
            raise OutputFileError(f"{path}: holds a training run already: `resume` {path} continues it")
        for name in ("best.pt", "log.csv", "curve.png", "samples"):
            if (path / name).exists():
                raise OutputFileError(f"{path / name}: exists already, from another run: give another folder with -o")
        require_writable(folder.last)
        return folder

    @classmethod
    def reopen(cls, path: Path, iteration: int) -> RunFolder:
        """The folder of a run that continues after `iteration`; what was logged later is dropped."""
        folder = cls(path)
        for leftover in (*path.glob(".*.part"), *(path / "samples").glob(".*.part")):
            if _OWN_PART.fullmatch(leftover.name):  # of a process that was killed
                leftover.unlink(missing_ok=True)
        if folder.log_file.exists():
            with folder.log_file.open(newline="", encoding="utf-8", errors="replace") as file:
                folder.rows = [row for row in map(_parsed_row, csv.DictReader(file)) if row is not None]
            folder.rows = [row for row in folder.rows if (row["iteration"] or 0) <= iteration]
            write_text(folder.log_file, "".join([_line(COLUMNS), *map(_formatted, folder.rows)]))
        return folder

    def save(self, path: Path, card: ModelCard, averaged: Mapping[str, Any], training: Mapping[str, Any]) -> None:
        """Write a checkpoint: what `read_checkpoint` reads, and under `training` what resuming needs."""
        content = {
            "format": OWN_FORMAT,
            METADATA_KEY: card.to_json(),
            "weights": dict(averaged),
            "training": dict(training),
        }
        with write_atomically(path) as temporary:
            try:
                torch.save(content, temporary)
            except RuntimeError as error:  # PyTorch's own writer, where the disk is full
                raise OutputFileError(f"{path}: cannot be written ({reason(error)}): is the disk full?") from None

    def log(self, **values: float) -> None:
        """Add a row to the log."""
        self.rows.append({name: values.get(name) for name in COLUMNS})
        new = not self.log_file.exists()
        with self.log_file.open("a", encoding="utf-8") as file:
            file.write((_line(COLUMNS) if new else "") + _formatted(self.rows[-1]))
        board = self._tensorboard(int(values["iteration"]))
        if board is not None:
            for name, value in values.items():
                if name != "iteration":
                    board.add_scalar(name, value, int(values["iteration"]))
            board.flush()

    def _tensorboard(self, iteration: int) -> Any:
        """TensorBoard's writer, or None where it is not installed."""
        if self._board is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                self._board = False
            else:
                self._board = SummaryWriter(str(self.path / "tensorboard"), purge_step=iteration)
        return self._board or None

    def close(self) -> None:
        """Finish what is open."""
        if self._board:
            self._board.close()

    def write_curve(self) -> None:
        """Draw loss and PSNR against the iteration: curve.png."""
        losses = [(row["iteration"], row["loss"]) for row in self.rows if row["loss"]]
        quality = [(row["iteration"], row["psnr"]) for row in self.rows if row["psnr"] is not None]
        with figure_file(self.path / "curve.png", size=(7, 4), dpi=110) as figure:
            loss_axis = figure.add_subplot()
            if losses:
                loss_axis.semilogy(*zip(*losses, strict=True), color="tab:grey", linewidth=0.8)
            loss_axis.set(xlabel="iteration", ylabel="training loss (grey)")
            psnr_axis = loss_axis.twinx()
            if quality:
                psnr_axis.plot(*zip(*quality, strict=True), color="tab:blue", marker=".")
            psnr_axis.set_ylabel("validation PSNR, dB (blue)")


def read_run(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the plan as plain data, the training state) of the run in a folder, or of one of its checkpoints.

    Raises:
        InputFileError: no run there.
        CheckpointError: the checkpoint is damaged or holds no training state.
    """
    file = path if path.is_file() else path / "last.pt"
    if not file.exists():
        raise InputFileError(f"{path}: no training run to resume there (looked for {file})")
    require_readable(file)
    content = load_safely(file)
    training = content.get("training") if isinstance(content, Mapping) else None
    if not isinstance(training, Mapping) or not isinstance(training.get("plan"), str):
        raise CheckpointError(f"{file}: holds no training state: start anew from its weights with `init` {file}")
    with inside(file, CheckpointError, f"start anew with `init` {file}"):
        plan = parse_json(training["plan"], "its training plan", MAX_PLAN)
    return plan, {**training, "averaged": content.get("weights")}


def _line(values: Iterable[str]) -> str:
    return ",".join(values) + "\n"


def _formatted(row: Mapping[str, float | None]) -> str:
    return _line("" if (value := row[name]) is None else f"{value:.10g}" for name in COLUMNS)


def _parsed_row(row: Mapping[str, Any]) -> dict[str, float | None] | None:
    try:
        return {name: float(row[name]) if row[name] else None for name in COLUMNS}
    except (KeyError, ValueError, TypeError):
        return None
