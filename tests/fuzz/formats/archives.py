"""Checkpoints: zip archives record by record, and pickles opcode by opcode."""

from __future__ import annotations

import io
import pickletools
import struct
import zipfile
import zlib
from random import Random

from .. import damage

_GLOBALS = (
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch._utils\n_rebuild_parameter\n",
    b"ctorch\nFloatStorage\n",
    b"ctorch\nHalfStorage\n",
    b"ctorch\nSize\n",
    b"ctorch\ndevice\n",
    b"ctorch\ndtype\n",
    b"ctorch.nn.parameter\nParameter\n",
    b"ctorch._tensor\n_rebuild_from_type_v2\n",
    b"ctorch._utils\n_rebuild_sparse_tensor\n",
    b"ctorch._utils\n_rebuild_qtensor\n",
    b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n",
    b"ccollections\nOrderedDict\n",
    b"ccollections\nCounter\n",
    b"c__builtin__\nset\n",
    b"c__builtin__\nbytearray\n",
    b"c_codecs\nencode\n",
    b"cos\nsystem\n",
    b"cbuiltins\neval\n",
    b"cposix\nsystem\n",
)
_SNIPPETS = (
    b")R",
    b"(tR",
    b"b",
    b"a",
    b"s",
    b"u",
    b"e",
    b"0",
    b"1",
    b"2",
    b"}",
    b"]",
    b")",
    b"(",
    b"t",
    b"\x85",
    b"\x86",
    b"\x87",
    b"\x81",
    b"\x88",
    b"\x89",
    b"N",
    b"Q",
    b"l",
    b"d",
    b".",
    b"\x94",
    b"2\x86" * 40,
    b"2\x85a",
    b"}(N}u",
    b"]2a",
    b"}2Ns",
    b"Gx",
    b"K\xff",
    b"M\xff\xff",
    b"J\xff\xff\xff\xff",
    b"\x8a\x08" + b"\x7f" * 8,
    b"\x8a\xff" + b"\x7f" * 255,
    b"\x8b\xff\xff\xff\x7f",
    b"X\xff\xff\xff\x7f",
    b"X\x03\0\0\0\xed\xa0\x80",
    b"X\x04\0\0\0\x1b[2J",
    b"B\xff\xff\xff\x7f",
    b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"G\x7f\xf8\0\0\0\0\0\0",
    b"I999999999999999999999\n",
    b"Fnan\n",
)


def spoil_pickle(rng: Random, data: bytes) -> bytes:
    """A pickle in which opcodes are missing, more, others, or in another order."""
    try:
        places = [place for _, _, place in pickletools.genops(data)]
    except Exception:
        return damage.spoil(rng, data)
    parts = [data[begin:end] for begin, end in zip(places, [*places[1:], len(data)], strict=True)]
    for _ in range(rng.choice((1, 1, 2, 4))):
        _change(rng, parts)
    return b"".join(parts)


def _change(rng: Random, parts: list[bytes]) -> None:
    k = rng.randrange(len(parts))
    kind = rng.randrange(8)
    if kind == 0 and len(parts) > 1:
        del parts[k]
    elif kind == 1:
        parts.insert(rng.randrange(len(parts) + 1), parts[k])
    elif kind == 2:
        parts.insert(rng.randrange(len(parts)), parts.pop(k))
    elif kind == 3:
        parts.insert(k, rng.choice(_GLOBALS))
    elif kind == 4:
        parts.insert(k, rng.choice(_SNIPPETS))
    elif kind == 5:
        parts[k] = rng.choice((*_SNIPPETS, *_GLOBALS))
    elif kind == 6:  # the memo: an object inside itself, for one
        parts.insert(k, bytes([rng.choice(b"hq"), rng.randrange(30)]))
    else:
        parts[k] = parts[k][:1] + damage.spoil(rng, parts[k][1:])


def spoil_archive(rng: Random, data: bytes) -> bytes:
    """A zip archive with another pickle, other records, or records that do not say the truth."""
    kind = rng.randrange(6)
    if kind < 3:
        return _written(
            rng, data, lambda name, content: spoil_pickle(rng, content) if name.endswith("pkl") else content
        )
    if kind == 3:
        return _other_members(rng, data)
    return _other_fields(rng, data)


def _written(rng: Random, data: bytes, change: object) -> bytes:
    """The archive once more, stored as PyTorch stores it, with other contents."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(made, "w") as out:
        for name in archive.namelist():
            out.writestr(zipfile.ZipInfo(name), change(name, archive.read(name)))  # type: ignore[operator]
    return made.getvalue()


def _other_members(rng: Random, data: bytes) -> bytes:
    """Members with other names, twice, missing, compressed, or with other contents."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(made, "w") as out:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
        kind = rng.randrange(7)
        k = rng.randrange(len(entries))
        name, content = entries[k]
        if kind == 0:
            del entries[k]
        elif kind == 1:
            entries[k] = (
                rng.choice(("../" + name, "/" + name, name.upper(), "x/" + name, "\x1b[2J", "a" * 3000)),
                content,
            )
        elif kind == 2:
            entries.append((name.rpartition("/")[0] + rng.choice(("/extra", "/code/x.py", "/data/99")), b"x" * 9))
        elif kind == 3:
            entries[k] = (name, damage.spoil(rng, content))
        elif kind == 4:
            entries[k] = (name, content * rng.choice((2, 50)))
        elif kind == 5:
            entries[k] = (name, b"")
        compressed = zipfile.ZIP_DEFLATED if kind == 6 or rng.random() < 0.2 else zipfile.ZIP_STORED
        for name, content in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = compressed
            out.writestr(info, content)
        if rng.random() < 0.3:
            out.comment = rng.randbytes(rng.choice((3, 66, 65535)))
    return made.getvalue()


_RECORDS = {
    b"PK\x03\x04": 30,
    b"PK\x01\x02": 46,
    b"PK\x05\x06": 22,
    b"PK\x06\x06": 56,
    b"PK\x06\x07": 20,
    b"PK\x07\x08": 16,
}
"""Beginning of a record -> bytes of its fields."""


def _other_fields(rng: Random, data: bytes) -> bytes:
    """Fields of some records become others: sizes, offsets, methods, check sums, lengths of names."""
    spoilt = bytearray(data)
    places = []
    for word, size in _RECORDS.items():
        at = data.find(word)
        while at >= 0:
            places.append((at, size))
            at = data.find(word, at + 4)
    if not places:
        return damage.spoil(rng, data)
    for _ in range(rng.randrange(1, 4)):
        at, size = rng.choice(places[-3:] if rng.random() < 0.4 else places)
        width = rng.choice((2, 4))
        where = at + 4 + 2 * rng.randrange((size - 4) // 2)
        spoilt[where : where + width] = (damage.number(rng) & (1 << 8 * width) - 1).to_bytes(width, "little")
    if rng.random() < 0.2:  # room behind the end, where some readers still look and others do not
        spoilt += bytes(rng.choice((1, 100, 65_535, 65_536, 66_500, 200_000)))
    return bytes(spoilt)


def spoil_safetensors(rng: Random, data: bytes, spoil_text: object) -> bytes:
    """A safetensors file with another header: eight bytes of length, then JSON."""
    (size,) = struct.unpack_from("<Q", data)
    header, rest = data[8 : 8 + size], data[8 + size :]
    header = spoil_text(rng, header)  # type: ignore[operator]
    length = len(header) if rng.random() < 0.9 else damage.number(rng)
    return struct.pack("<Q", length & 2**64 - 1) + header + rest


def crc(data: bytes) -> int:
    """Check sum as zip archives have it."""
    return zlib.crc32(data)
