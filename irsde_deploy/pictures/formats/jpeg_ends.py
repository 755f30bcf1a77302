"""JPEG streams whose end is missing: whether all that their pixels need is there.

libjpeg makes up what is missing, and Pillow does not pass on that it did. So other data are put behind the stream in
turn: whatever libjpeg takes from behind it shows in the pixels.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

from .scan import Pixels

_EOI = b"\xff\xd9"
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SOS = 0xDA
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # that ends the data of a scan
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
# Of random bits behind every first byte that may decide: libjpeg takes zeros, and codes there are none of, for nothing.
# As long as the codes of an MCU can be, for its blocks beyond the edge are never seen.
_FILLINGS = [
    bytes([first]) + random.Random(first).randbytes(4096).replace(b"\xff", b"\xfe") for first in (0, 254, 85, 170, 54)
]


def completed(content: bytes, decode: Callable[[bytes], Pixels]) -> Pixels | None:
    """The pixels of a stream without an end; None where it cannot be shown that they are whole.

    Args:
        content: from the start on, without metadata.
        decode: a whole stream's pixels; raises OSError where it cannot.
    """
    content = content.rstrip(b"\xff")  # half of the end's marker
    last_scan = _last_scan(content)
    if last_scan is None:
        return None
    restarts = _RESTART.findall(content, last_scan)
    following = int(restarts[-1][1] - 0xCF) if restarts else 0
    pixels = decode(content + _EOI)
    for filling in [*_FILLINGS, *(_in_intervals(filling, following) for filling in _FILLINGS)]:
        if not (decode(content + filling + _EOI) == pixels).all():
            return None
    return pixels


def _in_intervals(filling: bytes, first: int) -> bytes:
    """A filling behind every restart marker, from a number on."""
    return b"".join(bytes([0xFF, 0xD0 + (first + n) % 8]) + filling for n in range(8))


def _last_scan(content: bytes) -> int | None:
    """Where the data of the last scan begin; None where there are not as many scans as it takes."""
    components: list[int] = []
    missing: dict[int, set[int]] = {}
    begin = None
    for marker, body, behind in _segments(content):
        if marker in _SOF and len(body) >= 6:
            components = list(body[6::3][: body[5]])
            missing = {component: set(range(64)) for component in components}
        elif marker == _SOS and body:
            begin = behind
            count = body[0]
            first, last, bits_left = body[-3], body[-2], body[-1] & 15
            for component in body[1 : 1 + 2 * count : 2]:
                if not bits_left:
                    missing.get(component, set()).difference_update(range(first, last + 1))
    if not components or any(missing.values()):
        return None
    return begin


def _segments(content: bytes) -> Iterator[tuple[int, bytes, int]]:
    """(marker, body, where it ends) of every segment that is whole."""
    found = _MARKER.search(content, 2)
    while found is not None:
        at = found.end()
        end = at + int.from_bytes(content[at : at + 2], "big")
        if end > len(content) or end < at + 2:
            return
        yield content[at - 1], content[at + 2 : end], end
        found = _MARKER.search(content, end)
