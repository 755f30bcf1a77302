"""PBM, PGM, PPM and PAM, in text and in bytes, 1 to 16 bit: all of it is read here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

import numpy as np

from .scan import Damaged, Decoded, Pixels, Scan, Unsupported
from .scan_data import Data

SIGNATURES = tuple(b"P%d" % number for number in range(1, 8))
_TOKEN = re.compile(rb"(?:\s|#[^\r\n]*)*([^\s#]+)")
_CHANNELS = {"1": 1, "2": 1, "3": 3, "4": 1, "5": 1, "6": 3}
_PAM = {1: False, 2: True, 3: False, 4: True}  # channels -> whether the last one is alpha
_MOST_HEADER = 100_000


@dataclass(frozen=True)
class _Header:
    kind: str
    width: int
    height: int
    channels: int
    most: int
    begin: int


def is_pnm(head: bytes) -> bool:
    """Whether a file that begins like this is one."""
    return head[:2] in SIGNATURES and head[2:3] in (b" ", b"\n", b"\r", b"\t", b"#")


def scan(data: Data) -> Scan:
    """What such a file says of itself."""
    head = data[:_MOST_HEADER]
    header = _pam_header(head) if head.startswith(b"P7") else _plain_header(head)
    if header.width < 1 or header.height < 1 or not 0 < header.most < 65_536:
        raise Damaged("its header has values that are none of a picture")
    return Scan(header.width, header.height, partial(_decode, data, header))


def _plain_header(head: bytes) -> _Header:
    kind, at = chr(head[1]), 2
    numbers: list[int] = []
    wanted = 2 if kind in "14" else 3
    while len(numbers) < wanted:
        match = _TOKEN.match(head, at)
        if match is None or not match[1].isdigit() or len(match[1]) > 9:
            raise Damaged("its header is not three numbers")
        numbers.append(int(match[1]))
        at = match.end()
    return _Header(kind, numbers[0], numbers[1], _CHANNELS[kind], [*numbers, 1][2], at + 1)


def _pam_header(head: bytes) -> _Header:
    end = head.find(b"ENDHDR\n")
    if end < 0:
        raise Damaged("its header has no end")
    lines = [line.split(None, 1) for line in head[:end].splitlines()[1:] if not line.startswith(b"#")]
    words = {line[0]: line[1] for line in lines if len(line) == 2}
    numbers = []
    for name in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL"):
        word = words.get(name, b"").strip()
        if not word.isdigit() or len(word) > 9:
            raise Damaged(f"its header has no {name.decode()}")
        numbers.append(int(word))
    width, height, channels, most = numbers
    if channels not in _PAM:
        raise Unsupported(f"has {channels} channels: expected grey or RGB, with or without alpha")
    return _Header("7", width, height, channels, most, end + 7)


def _decode(data: Data, header: _Header) -> Decoded:
    count = header.width * header.height * header.channels
    if header.kind == "4":
        values = _bits(data, header)
    elif header.kind in "123":
        values = _text(data[header.begin :], count, header.kind == "1")
    else:
        dtype = np.dtype(np.uint8 if header.most < 256 else ">u2")
        content = data[header.begin : header.begin + count * dtype.itemsize]
        if len(content) < count * dtype.itemsize:
            raise Damaged("its pixels end early")
        values = np.frombuffer(content, dtype).astype(np.uint16)
    if values.max() > header.most:
        raise Damaged(f"it has values above its white, {header.most}")
    if header.kind in "14":
        values = 1 - values  # 1 is black there
    pixels = _scaled(values, header.most).reshape(header.height, header.width, header.channels)
    alpha = pixels[:, :, -1].copy() if _PAM[header.channels] else None
    colours = pixels if alpha is None else pixels[:, :, :-1]
    grey = colours.shape[2] == 1
    return Decoded(np.repeat(colours, 3, axis=2) if grey else np.ascontiguousarray(colours), alpha, grey)


def _bits(data: Data, header: _Header) -> Pixels:
    stride = (header.width + 7) // 8
    content = data[header.begin : header.begin + stride * header.height]
    if len(content) < stride * header.height:
        raise Damaged("its pixels end early")
    rows = np.frombuffer(content, np.uint8).reshape(header.height, stride)
    return np.unpackbits(rows, axis=1, count=header.width).ravel()


def _text(content: bytes, count: int, single: bool) -> Pixels:
    """Numbers in text; single digits, which need no spaces between them."""
    content = re.sub(rb"#[^\r\n]*", b" ", content)
    words = re.findall(rb"[01]", content)[:count] if single else content.split(None, count)[:count]
    if len(words) < count:
        raise Damaged("its pixels end early")
    if not all(word.isdigit() and len(word) < 6 for word in words):
        raise Damaged("its pixels are not whole numbers")
    return np.array([int(word) for word in words], np.uint32)


def _scaled(values: Pixels, most: int) -> Pixels:
    """Values of 0..most on the scale of 8 bits, or of 16 where there are more."""
    full, dtype = (255, np.uint8) if most < 256 else (65_535, np.uint16)
    if most == full:
        return np.asarray(values.astype(dtype))
    return np.asarray(((values.astype(np.uint32) * full + most // 2) // most).astype(dtype))
