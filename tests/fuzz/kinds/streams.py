"""Uncompressed video on a pipe: y4m and raw RGB."""

from __future__ import annotations

import io
from pathlib import Path
from random import Random

import numpy as np

from irsde_deploy.errors import IrsdeError
from irsde_deploy.video.pipe_formats import RAW, raw_format
from irsde_deploy.video.pipes import read_format, read_pipe_frames, write_frame, write_header

from .. import damage
from .kind import Kind, good_files, require

_SPACES = {
    "420jpeg": (1, 2, 2),
    "420mpeg2": (1, 2, 2),
    "420paldv": (1, 2, 2),
    "422": (1, 2, 1),
    "444": (1, 1, 1),
    "411": (1, 4, 1),
    "mono": (1, 0, 0),
    "420p10": (2, 2, 2),
    "444p12": (2, 1, 1),
    "422p16": (2, 2, 1),
    "mono12": (2, 0, 0),
}
"""Colour space -> bytes of a sample, and how many times narrower and lower the chroma planes are; 0: there are none."""


def _make(folder: Path) -> None:
    rng = np.random.default_rng(0)
    height, width = 6, 9
    for space, (size, across, down) in _SPACES.items():
        count = height * width
        if across:
            count += 2 * -(-width // across) * -(-height // down)
        top = 256 if size == 1 else 1 << int(space[-2:])
        frames = b""
        for _ in range(3):
            frames += b"FRAME\n" + rng.integers(0, top, count).astype(f"<u{size}").tobytes()
        head = f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C{space} XYSCSS={space.upper()} XCOLORRANGE=LIMITED\n"
        (folder / f"{space}.y4m").write_bytes(head.encode() + frames)
    for name, (kind, _) in RAW.items():
        (folder / f"{name}.raw").write_bytes(rng.integers(0, 256, 3 * height * width * 3).astype(kind).tobytes())


_WORDS = (
    b"W0",
    b"W-5",
    b"W999999",
    b"H99999999999",
    b"W+7",
    b"W 7",
    b"W\xd9\xa1",
    b"H6",
    b"F0:0",
    b"F1:0",
    b"F-1:1",
    b"F999999999:1",
    b"F30000:1001",
    b"It",
    b"Im",
    b"I?",
    b"A0:0",
    b"A-1:x",
    b"C420",
    b"C420p9",
    b"C444alpha",
    b"Cmono9",
    b"C\x1b[2J",
    b"XCOLORRANGE=FULL",
    b"X" + b"y" * 900,
    b"X" + b"y" * 2000,
    b"",
    b"\r",
    b"\0",
)


def _damage(rng: Random, good: Path, target: Path) -> Path:
    path = rng.choice(good_files(good))
    data = path.read_bytes()
    if path.suffix == ".y4m" and rng.random() < 0.6:
        head, _, frames = data.partition(b"\n")
        words = head.split(b" ")
        for _ in range(rng.choice((1, 1, 2))):
            k = rng.randrange(len(words))
            words[k] = rng.choice((rng.choice(_WORDS), words[k] * 2, damage.spoil(rng, words[k])))
        frames = frames if rng.random() < 0.7 else damage.spoil(rng, frames)
        data = b" ".join(words) + b"\n" + frames
    else:
        data = damage.spoil(rng, data)
    made = target / path.name
    made.write_bytes(data)
    return made


def _read(path: Path, outputs: Path) -> None:
    """Every whole frame goes through the colours and comes back, and the stream is written as it was read."""
    del outputs
    data = path.read_bytes()
    stream, out = io.BytesIO(data), io.BytesIO()
    form = raw_format("9x6", path.stem) if path.suffix == ".raw" else read_format(stream)
    require(0 < form.height * form.width <= 100_000_000, "a size without bounds")
    write_header(out, form)
    try:
        for frame in read_pipe_frames(stream, form):
            rgb = form.to_rgb(frame)
            require(rgb.shape == (form.height, form.width, 3) and bool(np.isfinite(rgb).all()), "colours of no sense")
            back = form.restored(frame, rgb)
            require([p.shape for p in back.planes] == [p.shape for p in frame.planes], "planes of another size")
            write_frame(out, form, frame)
    except IrsdeError:
        require(data.startswith(out.getvalue()), "what was read is written in another way")
        raise
    require(out.getvalue() == data, "what was read is written in another way")


Y4M = Kind("y4m", _make, _damage, _read, most_mib=1500, weight=0.7)
