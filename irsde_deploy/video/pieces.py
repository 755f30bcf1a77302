"""A video encoded piece by piece: each piece is a file that begins with a keyframe and refers to no other."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..core.arrays import Float32
from ..errors import EngineError
from ..system.files import not_writable
from .containers import WHEN_FULL, require_container, why
from .encoding import Encoding, configure
from .frames import video_frame
from .interlacing import Marker
from .piece_files import Piece
from .source import Losses, TimedFrame, VideoSource
from .work_folder import WorkFolder

_REORDERED = 16
"""Frames that x265 can show before one that it decodes later.

It leaves the decoding times of clips that are shorter than its reordering to whatever is in memory. Any that rise and
are no later than the frames are shown will do in a piece: `muxing` gives the output its own.
"""


class PieceEncoder:
    """Encodes frames into one file.

    The encoder counts frames at a rate that it can write down, the source's average where it can; their own times are
    returned at the end, exact whatever the container rounds. After an error the file is closed, and cannot be used.

    Args:
        path: to write.
        muxer: FFmpeg's name of the container.
        encoding, source: what is encoded, how.

    Raises:
        OutputFileError: the file cannot be written, by a full disk for one.
        EngineError: the encoder has failed.
    """

    def __init__(self, path: Path, muxer: str, encoding: Encoding, source: VideoSource) -> None:
        import av

        self.path, self.source, self.encoding = path, source, encoding
        self._times: list[tuple[int, int]] = []
        self._order: list[int] = []
        self._failed = False
        self._marked = Marker(encoding.fields) if encoding.fields else _as_it_is
        self._container: Any = None
        with self._closed_on_failure():
            self._container = av.open(f"file:{path}", "w", format=muxer)
            self._stream: Any = self._container.add_stream(encoding.codec, rate=encoding.rate)
            configure(self._stream.codec_context, encoding, source)

    @property
    def usable(self) -> bool:
        """Whether there is something to finish."""
        return not self._failed and self.frames > 0

    @property
    def frames(self) -> int:
        """How many have been added."""
        return len(self._times)

    def add(self, frame: TimedFrame, rgb: Float32) -> None:
        """Encode a restored picture."""
        picture = video_frame(frame, rgb, self.source, self.encoding.layout, self.encoding.colour)
        # Its own time goes into the list, and from there to the muxer.
        picture.pts, picture.duration, picture.time_base = self.frames, 1, 1 / self.encoding.rate
        self._times.append((frame.pts, frame.duration))
        with self._closed_on_failure():
            self._mux(self._stream.encode(self._marked(picture)))

    def finish(self) -> list[tuple[int, int]]:
        """Close the file; (pts, duration) of each packet in it, in units of the source's time base."""
        with self._closed_on_failure():
            self._mux(self._stream.encode(None))
            self._container.close()
        if sorted(self._order) != list(range(self.frames)):
            raise EngineError(
                f"{self.encoding.codec} made {len(self._order)} packets of {self.frames} frames: choose another `codec`"
            )
        return [self._times[k] for k in self._order]

    def _mux(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            if self.encoding.codec == "libx265":
                packet.dts = round((len(self._order) - _REORDERED) / self.encoding.rate / packet.time_base)
            # The muxer may have chosen another unit: back to the frame's number.
            self._order.append(round(packet.pts * packet.time_base * self.encoding.rate))
            self._container.mux(packet)

    @contextmanager
    def _closed_on_failure(self) -> Iterator[None]:
        """FFmpeg's errors as ours: those of the operating system are the file's, others the encoder's."""
        import av

        try:
            yield
        except (av.error.FFmpegError, OSError) as error:
            self._failed = True
            if self._container is not None:
                with suppress(Exception):  # what is buffered cannot be written either
                    self._container.close()
            if isinstance(error, OSError):
                raise not_writable(self.path, error, WHEN_FULL) from None
            raise EngineError(f"{self.encoding.codec} has failed ({why(error)}): choose another `codec`") from None


def _as_it_is(frame: Any) -> Any:
    return frame


class PieceWriter:
    """Encodes restored frames piece by piece into a work folder; one thread at a time.

    Args:
        work: folder that keeps the pieces.
        pieces: that are whole already.
        encoding, source: what is encoded, how.
        piece_frames: how many frames a piece has.
        losses: what was wrong with the source so far; a piece remembers how many times were made up until its end.

    Attributes:
        pieces: that are whole.
    """

    def __init__(
        self,
        work: WorkFolder,
        pieces: Sequence[Piece],
        encoding: Encoding,
        source: VideoSource,
        piece_frames: int,
        losses: Losses,
    ) -> None:
        self.pieces = list(pieces)
        self._work, self._encoding, self._source = work, encoding, source
        self._piece_frames, self._losses = piece_frames, losses
        # An interrupt asks for the tail in another thread than the one that adds; and adding finishes pieces.
        self._lock = threading.RLock()
        self._muxer = require_container(work.target)
        self._encoder: PieceEncoder | None = None

    def add(self, frames: Sequence[tuple[TimedFrame, Float32]]) -> None:
        """Encode frames; a full piece is kept."""
        for frame, rgb in frames:
            with self._lock:
                if self._encoder is None:
                    path = self._work.path(len(self.pieces))
                    self._encoder = PieceEncoder(path, self._muxer, self._encoding, self._source)
                self._encoder.add(frame, rgb)
                if self._encoder.frames == self._piece_frames:
                    self.finish()

    def finish(self) -> None:
        """Keep the piece that is being written as a whole one."""
        with self._lock:
            tail = self.tail()
            if tail is not None:
                self.pieces.append(self._work.keep(tail))

    def tail(self) -> Piece | None:
        """End the piece that is being written, if there is one, without keeping it."""
        with self._lock:
            encoder, self._encoder = self._encoder, None
            if encoder is None or not encoder.usable:
                return None
            return Piece(encoder.path, tuple(encoder.finish()), self._losses.retimed)
