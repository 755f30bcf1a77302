"""The part that plug-ins for video frameworks share: a frame's number and picture in, the restored picture out."""

from __future__ import annotations

import threading
from pathlib import Path

from ..core.noise import FRAME_NOISES
from ..core.pixels import require_rgb_pictures
from ..core.sampling import Sampling
from ..errors import InvalidValueError
from ..pictures.restoring import Pixels, Restoring
from ..restorer import load
from ..system.parsing import shown


class FrameRestorer:
    """Restores the frames of a video with one engine, in any order and from any thread.

    A frame depends on its number and its picture alone. So where no noise level is given, a model of a Denoising-SDE
    gets an estimate for each frame by itself.

    Args:
        engine: the file of an engine for RGB pictures.
        sampling: the settings, for all frames. `Sampling()` restores frames whole, unlike `irsde-deploy run`, whose
            default is tiles by memory (`tile="auto"`).
        noise: `fixed`, the same field for all frames, or `per-frame`, a field for each frame's number.
        device, provider, fallback: where and how the engine runs, as for `irsde_deploy.load`.

    Raises:
        IrsdeError: an engine that cannot be opened, or settings that do not fit it; before the first frame.
    """

    def __init__(
        self,
        engine: str | Path,
        sampling: Sampling,
        noise: str = "fixed",
        device: str | None = None,
        provider: str | None = None,
        fallback: str | Path | None = None,
    ) -> None:
        if noise not in FRAME_NOISES:
            raise InvalidValueError(f"noise must be one of {', '.join(FRAME_NOISES)}, not {shown(noise)}")
        restorer = load(engine, device, fallback=fallback, provider=provider)
        require_rgb_pictures(restorer.card, engine)
        self._restoring = Restoring(restorer, sampling)
        self._numbered = noise == "per-frame"
        self._lock = threading.Lock()  # engines keep buffers, and frameworks ask from several threads

    def __call__(self, number: int, picture: Pixels) -> Pixels:
        """Restore a frame.

        Args:
            number: the frame's place in the video, 0..2^32-1.
            picture: (H, W, 3) RGB, of a type that a `Restorer` takes.

        Returns:
            The restored picture, of the same shape and type.
        """
        frames = None
        if self._numbered:
            frames = [number]
        with self._lock:
            return self._restoring(picture, frames=frames)
