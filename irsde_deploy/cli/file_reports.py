"""What `run --json` says of each file."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .output import detail, report, worded

if TYPE_CHECKING:
    from ..pictures.batch import Outcome
    from ..pictures.planning import Job


_STATUSES = ("written", "incomplete", "failed", "skipped")
"""What can become of a file; incomplete is what lacks frames that its damaged source lacked."""


class FileReports:
    """The files of a run, one after another, for --json, and with -v what each took.

    Args:
        planned: all jobs, in the order in which the files are reported.
        left: those of them that are to be done; the outputs of the others were there before.
    """

    def __init__(self, planned: Sequence[Job], left: Sequence[Job]) -> None:
        to_do = set(left)
        self._places = {str(job.target): place for place, job in enumerate(planned)}
        self._files = [_entry(job, "skipped") for job in planned if job not in to_do]
        self._before = time.monotonic()
        self._tell()

    def add(self, outcome: Outcome, notes: Sequence[str] = (), **more: Any) -> None:
        """Say what became of a file; `seconds` are those since the one before, what was read and written included."""
        now = time.monotonic()
        seconds, self._before = now - self._before, now
        entry = _entry(outcome.job, _status(outcome), seconds=seconds, notes=[*map(worded, notes)], **more)
        if outcome.failed:
            entry["error"] = worded(outcome.error or "; ".join(outcome.missing))
        self._files.append(entry)
        self._files.sort(key=lambda file: self._places[file["output"]])
        detail(f"{outcome.job.source}: {entry['status']} after {seconds:.2f} s")
        self._tell()

    def _tell(self) -> None:
        counted = Counter(entry["status"] for entry in self._files)
        counts = {status: counted[status] for status in _STATUSES}
        outputs = [entry["output"] for entry in self._files if entry["status"] in ("written", "incomplete")]
        report(files=self._files, outputs=outputs, **counts)


def _status(outcome: Outcome) -> str:
    if outcome.error is not None:
        return "failed"
    return "incomplete" if outcome.missing else "written"


def _entry(job: Job, status: str, **more: Any) -> dict[str, Any]:
    return {"input": str(job.source), "output": str(job.target), "status": status, "error": None, **more}
