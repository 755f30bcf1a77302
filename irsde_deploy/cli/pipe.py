"""irsde-deploy run - -o -: video from stdin to stdout."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

from ..errors import InvalidValueError
from .output import aside, inform, note
from .sampling import Model, show_quality

if TYPE_CHECKING:
    from ..core.sampling import Sampling
    from ..video import PipeOutcome, PipeSettings, PipeStart


def run_pipe(model: Model, sampling: Sampling, target: float | None, settings: PipeSettings) -> None:
    """Restore frames from stdin to stdout as they come; everything else that is said goes to stderr."""
    from ..video import restore_pipe

    def start(start: PipeStart) -> None:
        size = f"{start.form.width}x{start.form.height}"
        aside(f"{start.engine}: {start.sampling}, {settings.noise} noise; {size}")

    given, output = _claim_pipes()
    outcome = restore_pipe(
        model.load(),
        given,
        output,
        sampling=sampling,
        settings=settings,
        target_seconds=target,
        on_quality=show_quality,
        on_note=note,
        on_start=start,
        on_frame=_frame,
        on_cut_off=_cut_off,
    )
    inform(f"{_summary(outcome)}{'; the reader has closed the pipe' if outcome.closed else ''}")


def _claim_pipes() -> tuple[io.FileIO, io.FileIO]:
    """Stdin and stdout, unbuffered; from now on, what anybody prints on stdout goes to stderr."""
    if sys.stdin is None or sys.stdout is None:
        name = "stdout (>&-)" if sys.stdout is None else "stdin (<&-)"
        raise InvalidValueError(f"{name} is closed: - needs a pipe or a file there")
    if sys.stdin.isatty():
        raise InvalidValueError("nothing is piped in: ffmpeg -i in.mp4 -f yuv4mpegpipe - | irsde-deploy run - -o - ...")
    if sys.stdout.isatty():
        raise InvalidValueError("-o - would write video on a terminal: pipe it into a program, or a file with >")
    sys.stdout.flush()
    given, output = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    return io.FileIO(given, "rb"), io.FileIO(output, "wb")


def _frame(number: int, seconds: float) -> None:
    aside(f"frame {number}: {1000 * seconds:.1f} ms")


def _cut_off(outcome: PipeOutcome) -> None:
    if outcome.frames:
        inform(_summary(outcome))


def _summary(outcome: PipeOutcome) -> str:
    """How many frames, how fast."""
    words = f"{outcome.frames} frames, {outcome.fps:.2f} fps"
    if not outcome.frames:
        return words
    median, late = 1000 * outcome.latency(50), 1000 * outcome.latency(95)
    return f"{words}, latency {median:.1f} ms (median), {late:.1f} ms (95th percentile)"
