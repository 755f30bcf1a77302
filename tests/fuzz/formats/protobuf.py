"""Protocol buffers (ONNX): fields with a number and a wire type, messages inside messages."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from .. import damage
from ..trees import Format, Node

_MOST_DEPTH = 8


def varint(value: int) -> bytes:
    """A whole number, seven bits a byte."""
    value &= 2**64 - 1
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("no varint")


def _parse(data: bytes, depth: int = 0) -> list[Node]:
    """Fields; a tag is the key as a varint. What can be read as fields itself is taken for a message."""
    nodes, at = [], 0
    while at < len(data):
        begin = at
        key, at = _read_varint(data, at)
        tag, wire = data[begin:at], key & 7
        if not key >> 3:
            raise ValueError("no field")
        if wire == 0:
            begin = at
            _, at = _read_varint(data, at)
            nodes.append(Node(tag, data[begin:at]))
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            nodes.append(Node(tag, data[at : at + size]))
            at += size
        elif wire == 2:
            size, at = _read_varint(data, at)
            if at + size > len(data):
                raise ValueError("too long")
            nodes.append(_message(tag, data[at : at + size], depth))
            at += size
        else:
            raise ValueError("no wire type")
    return nodes


def _message(tag: bytes, data: bytes, depth: int) -> Node:
    if len(data) > 3 and depth < _MOST_DEPTH:
        try:
            return Node(tag, b"", _parse(data, depth + 1))
        except (ValueError, IndexError):
            pass
    return Node(tag, data)


def _join(nodes: Sequence[Node]) -> bytes:
    parts = []
    for node in nodes:
        inner = node.data + (b"" if node.children is None else _join(node.children))
        parts.append(node.tag)
        if node.tag and node.tag[0] & 7 == 2:
            parts.append(varint(len(inner) if node.lie is None else node.lie))
        parts.append(inner)
    return b"".join(parts)


def _extra(rng: Random) -> Node:
    """A field of any number: a text that is not UTF-8, a message inside a message, a group that never ends."""
    number = rng.choice((1, 2, 3, 4, 5, 7, 8, 11, 12, 14, 15, 20, 100, 2**28))
    kind = rng.randrange(6)
    if kind == 0:
        return Node(varint(number << 3 | 2), rng.choice(damage.MAGIC))
    if kind == 1:
        nested = b""
        for _ in range(rng.choice((10, 90, 120, 300))):
            nested = varint(number << 3 | 2) + varint(len(nested)) + nested
        return Node(varint(number << 3 | 2), nested)
    if kind == 2:
        return Node(varint(number << 3), varint(damage.number(rng)))
    if kind == 3:
        return Node(varint(number << 3 | rng.choice((3, 4, 6, 7))), b"")
    if kind == 4:
        return Node(varint(number << 3 | rng.choice((1, 5))), rng.randbytes(8))
    return Node(varint(number << 3 | 2), b"x" * rng.choice((0, 1, 300, 100_000)))


def _inside(rng: Random, node: Node) -> bytes | None:
    if not node.tag:
        return None
    if node.tag[0] & 7 == 0:
        return varint(damage.number(rng))
    if node.tag[0] & 7 == 2 and rng.random() < 0.3:
        return rng.choice((*damage.MAGIC, b"", b"x" * 1000, b"\0"))
    return None


PROTOBUF = Format(_parse, _join, _extra, _inside)
