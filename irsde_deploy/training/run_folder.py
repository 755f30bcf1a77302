"""The folder of a training run: its checkpoints, log, curve and sample sheets.

Checkpoints and pictures appear whole or not at all; a row of the log that a killed process left unfinished is dropped
when the run is resumed.

last.pt          averaged weights with the model card (what `export` and `run` take), and all that resuming needs
best.pt          the same, from the best validation so far
log.csv          iteration, loss, learning rate, seconds, PSNR, and of validations the margin and errors at the border
curve.png        the log as a picture
samples/N.png    held-out pictures at iteration N: degraded, restored, clean
tensorboard/     the log for TensorBoard, where that is installed
lock             there while a process trains: no other may continue the run meanwhile
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..core.card import METADATA_KEY, ModelCard
from ..errors import CheckpointError, InputFileError, OutputFileError, reason
from ..networks.checkpoints import OWN_FORMAT
from ..networks.torch_files import load_safely
from ..system.decoding import inside
from ..system.figures import figure_file
from ..system.files import require_readable, require_there, require_writable, write_atomically
from ..system.locks import LockFile
from ..system.parsing import parse_json
from ..system.tables import write_text
from ..system.temporaries import clear_leftovers
from . import margins

MAX_PLAN = 16_000_000
"""Characters of the plan in a checkpoint; names of held-out pictures can be many."""

COLUMNS = ("iteration", "loss", "learning_rate", "seconds", "psnr", *margins.COLUMNS)


@dataclass
class RunFolder:
    """A run's folder and its log so far.

    Attributes:
        path: the folder.
        rows: the rows of the log, values by `COLUMNS`; one that was not measured is None.
    """

    path: Path
    rows: list[dict[str, float | None]] = field(default_factory=list)
    _board: Any = None  # TensorBoard's writer; None before it is first asked for, False where it is not installed
    _lock: LockFile = field(init=False)

    def __post_init__(self) -> None:
        self._lock = LockFile(self.path / "lock")

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.path / "last.pt"

    @property
    def best(self) -> Path:
        """The checkpoint of the best validation."""
        return self.path / "best.pt"

    @property
    def log_file(self) -> Path:
        """The log: a row every `log_every` iterations and at each validation."""
        return self.path / "log.csv"

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Make a new run's folder.

        Raises:
            OutputFileError: there is a run in it already, another process is at work there, or it cannot be written.
        """
        folder = cls(path)
        if path.exists() and not path.is_dir():
            raise OutputFileError(f"{path}: is a file; a run needs a folder: give another name with `output`")
        if folder.last.exists():
            raise OutputFileError(f"{path}: holds a training run already: `resume` {path} continues it")
        for name in ("best.pt", "log.csv", "curve.png", "samples"):  # a run without last.pt: it would be written over
            if (path / name).exists():
                raise OutputFileError(
                    f"{path / name}: exists already, from another run: give another folder with `output`"
                )
        require_writable(folder.last)
        folder._claim()
        return folder

    @classmethod
    def reopen(cls, path: Path, iteration: int) -> RunFolder:
        """Open the folder of a run that continues after `iteration`; what was logged later is dropped.

        Raises:
            OutputFileError: another process is at work there, or it cannot be written.
        """
        folder = cls(path)
        folder._claim()
        for place in (path, path / "samples"):
            clear_leftovers(place)  # unfinished files of a process that was killed
        if folder.log_file.exists():
            folder.rows = folder._logged_until(iteration)
            write_text(folder.log_file, "".join([_line(COLUMNS), *map(_formatted, folder.rows)]))
        return folder

    def _claim(self) -> None:
        """Keep other processes away from the folder until `close`, or until this process ends."""
        self._lock.claim(f"{self.path}: another process is training there: wait for its end, or stop it")

    def _logged_until(self, iteration: int) -> list[dict[str, float | None]]:
        """The rows of the log file up to an iteration, without any that cannot be read."""
        rows = []
        # A row that was cut off may end in half a character: that is no reason not to go on.
        with self.log_file.open(newline="", encoding="utf-8", errors="replace") as file:
            for read in csv.DictReader(file):
                row = _parsed_row(read)
                if row is not None and (row["iteration"] or 0) <= iteration:
                    rows.append(row)
        return rows

    def best_validation(self) -> tuple[int, float] | None:
        """(iteration, PSNR in dB) of the validation that best.pt is from, by the log; None before the first."""
        if not self.log_file.exists():
            return None
        measured = [(row["psnr"], row["iteration"]) for row in self._logged_until(sys.maxsize)]
        best: tuple[int, float] | None = None
        for psnr, iteration in measured:
            if psnr is not None and iteration is not None and (best is None or psnr > best[1]):
                best = int(iteration), psnr  # of equal ones the first, which was kept
        return best

    def save(self, path: Path, card: ModelCard, averaged: Mapping[str, Any], training: Mapping[str, Any]) -> None:
        """Write a checkpoint: what `read_checkpoint` reads, and under `training` what resuming needs.

        Args:
            path: the file, which is replaced whole or stays.
            card: describes the network.
            averaged: the state dict that whoever uses the model gets.
            training: all that resuming needs besides.

        Raises:
            OutputFileError: the file cannot be written.
        """
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
        """Add a row to the log: the iteration, and other values by `COLUMNS`."""
        row = {name: values.get(name) for name in COLUMNS}
        self.rows.append(row)
        text = _formatted(row)
        if not self.log_file.exists():
            text = _line(COLUMNS) + text
        with self.log_file.open("a", encoding="utf-8") as file:
            file.write(text)  # in one piece, and closed at once: what is logged outlives the process
        self._show(int(values["iteration"]), values)

    def _show(self, iteration: int, values: Mapping[str, float]) -> None:
        """Give a row of the log to TensorBoard, where that is installed."""
        board = self._tensorboard(iteration)
        if board is None:
            return
        for name, value in values.items():
            if name != "iteration":
                board.add_scalar(name, value, iteration)
        board.flush()

    def _tensorboard(self, iteration: int) -> Any:
        """TensorBoard's writer, or None where it is not installed."""
        if self._board is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                self._board = False
            else:
                # TensorBoard hides what an earlier process of this run logged from this iteration on.
                self._board = SummaryWriter(str(self.path / "tensorboard"), purge_step=iteration)
        return self._board or None

    def close(self) -> None:
        """Close what is open, and let other processes continue the run."""
        if self._board:
            self._board.close()
        self._lock.release(remove=True)

    def write_curve(self) -> None:
        """Draw loss and PSNR against the iteration: curve.png."""
        losses = [(row["iteration"], row["loss"]) for row in self.rows if row["loss"]]  # 0 has no logarithm
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
    """Read what is needed to continue a run.

    Args:
        path: the run's folder, or one of its checkpoints.

    Returns:
        The plan as plain data, and the training state for `train`.

    Raises:
        InputFileError: no run there.
        CheckpointError: the checkpoint is damaged or holds no training state.
    """
    require_there(path)
    file = path
    if not path.is_file():
        file = path / "last.pt"
    if not file.exists():
        raise InputFileError(f"{path}: no training run to resume there (looked for {file})")
    require_readable(file)
    content = load_safely(file)
    if not isinstance(content, Mapping):
        content = {}  # some other file of PyTorch's, which is refused as one without a training state
    training = content.get("training")
    if not isinstance(training, Mapping) or not isinstance(training.get("plan"), str):
        raise CheckpointError(f"{file}: holds no training state: start anew from its weights with `init` {file}")
    with inside(file, CheckpointError, f"start anew with `init` {file}"):
        plan = parse_json(training["plan"], "its training plan", MAX_PLAN)
    return plan, {**training, "averaged": content.get("weights")}


def _line(values: Iterable[str]) -> str:
    return ",".join(values) + "\n"


def _formatted(row: Mapping[str, float | None]) -> str:
    """A row as a line of the log; what was not measured is empty."""
    texts = []
    for name in COLUMNS:
        value = row[name]
        texts.append("" if value is None else f"{value:.10g}")
    return _line(texts)


def _parsed_row(row: Mapping[str, Any]) -> dict[str, float | None] | None:
    """A row as `csv` reads it, its texts by column, with numbers for them; None where one is no number."""
    values: dict[str, float | None] = dict.fromkeys(COLUMNS)
    try:
        for name in COLUMNS:
            text = row.get(name) if name in margins.COLUMNS else row[name]  # which logs of earlier versions lack
            if text:
                values[name] = float(text)
    except (KeyError, ValueError, TypeError):
        return None
    return values
