"""The VapourSynth filter, which restores the frames of a clip (docs/plugins.md). It needs the package vapoursynth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.sampling import Sampling
from ..core.tiling import Tile
from ..errors import InvalidValueError, requires_extra
from ..system.parsing import shown
from .frame_restorer import FrameRestorer

if TYPE_CHECKING:
    import vapoursynth as vs

FORMATS = ("RGB24", "RGB48", "RGBH", "RGBS")
"""The formats of clips that can be restored, in VapourSynth's own terms: uint8, uint16, float16 and float32."""


def restore(
    clip: vs.VideoNode,
    engine: str | Path,
    *,
    quality: str | None = None,
    sampler: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    noise: str = "fixed",
    noise_level: float | None = None,
    clamp: bool = False,
    tile: Tile = "auto",
    overlap: int | None = None,
    device: str | None = None,
    provider: str | None = None,
    fallback: str | Path | None = None,
) -> vs.VideoNode:
    """Return a clip whose frames are those of another one, restored; format, size, length and frame properties stay.

    Frames can be asked for in any order and from any thread, and come out the same; the engine works on one at a time.

    Args:
        clip: RGB24, RGB48, RGBH or RGBS (floating point in [0, 1]), of constant format and size.
        engine, device, provider, fallback: as for `irsde_deploy.load`.
        quality, sampler, steps, seed, noise_level, tile, overlap: as for `irsde_deploy.core.sampling.Sampling`.
        noise: `fixed`, the same noise in all frames, or `per-frame`, other noise by the frame's number in this clip.
        clamp: whether to keep the predicted picture within [0, 1] at each step; it is what `Sampling` calls `clip`.

    Raises:
        IrsdeError: a clip of another format, an engine that cannot be opened, settings that do not fit. What goes
            wrong with a frame is a `vapoursynth.Error` when the frame is asked for.
    """
    with requires_extra("vapoursynth", "restoring a clip"):
        import vapoursynth as vs
    if not isinstance(clip, vs.VideoNode) or not isinstance(engine, (str, Path)):  # a script may hand over anything
        raise InvalidValueError(
            f"restore takes a clip and the name of an engine file, not {shown(clip)} and {shown(engine)}"
        )
    _require_rgb(clip, vs.RGB)
    sampling = Sampling(
        sampler=sampler,
        steps=steps,
        quality=quality,
        noise_level=noise_level,
        seed=seed,
        clip=clamp,
        tile=tile,
        overlap=overlap,
    )
    restored = FrameRestorer(engine, sampling, noise, device, provider, fallback)

    def frame(n: int, f: vs.VideoFrame) -> vs.VideoFrame:  # the names that VapourSynth calls it with
        picture = np.stack([np.asarray(f[plane]) for plane in range(3)], axis=-1)
        out = f.copy()  # with its properties; its values are replaced
        for plane, values in enumerate(restored(n, picture).transpose(2, 0, 1)):
            np.copyto(np.asarray(out[plane]), values)
        return out

    return clip.std.ModifyFrame(clips=clip, selector=frame)


def _require_rgb(clip: vs.VideoNode, rgb: object) -> None:
    """Raise InvalidValueError unless a clip has one of `FORMATS` and one size; `rgb` is VapourSynth's constant."""
    kind = clip.format
    # A format that varies is None in some versions of VapourSynth and called so in others; a size that varies is 0.
    if kind is None or 0 in (clip.width, clip.height) or kind.name == "None":
        raise InvalidValueError(
            "a clip to restore must have one format and size, and this one's vary: "
            "resize it first, such as core.resize.Bicubic(clip, 1280, 720, format=vs.RGBS)"
        )
    if kind.color_family != rgb or kind.name not in FORMATS:
        raise InvalidValueError(
            f"a clip to restore must be {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, not {kind.name}: convert it first, "
            'such as core.resize.Bicubic(clip, format=vs.RGBS, matrix_in_s="709")'
        )
