"""PyTorch's files are looked through before PyTorch reads them: what claims more than it has is refused."""

from __future__ import annotations

import collections
import io
import pickle
import random
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch

from irsde_deploy.errors import CheckpointError
from irsde_deploy.networks.pickles import UNSAFE
from irsde_deploy.networks.torch_files import load_safely


def packed(
    path: Path,
    pickled: bytes,
    behind: bytes = b"",
    byteorder: bytes = b"little",
    entry: str | zipfile.ZipInfo = "c/data.pkl",
    **arrays: bytes,
) -> Path:
    """An archive as PyTorch writes them, of this pickle and these arrays, and something behind it."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, pickled)
        archive.writestr("c/version", "3")
        archive.writestr("c/byteorder", byteorder)
        for key, content in arrays.items():
            archive.writestr(f"c/data/{key}", content)
    path.write_bytes(path.read_bytes() + behind)
    return path


def claiming(count: int) -> bytes:
    """The pickle of one array, x, of so many float32 values, stored as "k"."""
    return b"\x80\x02}X\x01\0\0\0x" + tensor_of(count, count) + b"s."


def tensor_of(count: int, length: int, stride: int = 1, end: bytes = b"") -> bytes:
    """The part of a pickle that makes a vector of an array of `count` numbers; `end` of the array's reference."""
    counted, long = b"J" + struct.pack("<i", count), b"J" + struct.pack("<i", length)
    storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0kX\x03\0\0\0cpu" + counted + end + b"tQ"
    view = storage + b"K\0" + long + b"\x85K" + bytes([stride]) + b"\x85\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + view + b"tR"


def calling(function: bytes, *arguments: bytes) -> bytes:
    """A pickle that calls something with arguments, which are pickled already."""
    return b"\x80\x02" + function + b"(" + b"".join(arguments) + b"tR."


def test_the_pickle_of_these_tests_is_one(tmp_path: Path) -> None:
    path = packed(tmp_path / "c.pt", claiming(4), k=bytes(16))
    assert torch.load(path, weights_only=True)["x"].tolist() == [0.0] * 4


DOUBLING = b"\x80\x02}K\x01\x85q\x01" + b"h\x01\x86q\x01" * 200 + b"K\x01s."

ATTACKS: dict[str, tuple[bytes, str]] = {
    "a tuple that doubles, as a name": (DOUBLING, "a tuple in it has more than 10000 values"),
    "a wide tuple as a name": (
        b"\x80\x02}(" + b"K\x01" * 500 + b"tK\x01s.",
        "a name in it is a tuple of more than 100",
    ),
    "an array of more than there is": (claiming(2**28), "an array of 1073741824 bytes has 16"),
    "a terabyte of nothing": (
        b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\0\0\0\0\0\x01\x85R.",
        "it asks for memory that nothing in it fills",
    ),
    "the same, as a tensor with attributes": (
        calling(
            b"ctorch._tensor\n_rebuild_from_type_v2\n",
            b"cbuiltins\nbytearray\n" * 2,
            b"\x8a\x06\0\0\0\0\0\x01\x85}",
        ),
        "it asks for memory that nothing in it fills",
    ),
    "a set of one number a billion times": (
        calling(b"cbuiltins\nset\n", tensor_of(4, 10**9, stride=0)),
        "holds more than tensors",
    ),
    "arguments that are a tensor": (
        b"\x80\x02ccollections\nCounter\n" + tensor_of(4, 10**9, stride=0) + b"R.",
        "holds more than tensors",
    ),
    "a set of wide tuples": (
        b"\x80\x02cbuiltins\nset\n](" + b"(" + b"K\x01" * 500 + b"te\x85R.",
        "a name in it is a tuple of more than 100",
    ),
    "pairs of wide tuples": (
        b"\x80\x02ccollections\nOrderedDict\n](](" + b"(" + b"K\x01" * 500 + b"tK\x01ee\x85R.",
        "a name in it is a tuple of more than 100",
    ),
    "a class of tensors that fills memory": (calling(b"ctorch\nTensor\n", b"K\x07"), "holds more than tensors"),
    "one number made a thousand times as large": (
        calling(
            b"ctorch._utils\n_rebuild_device_tensor_from_cpu_tensor\n",
            tensor_of(4, 1000, stride=0) + b"ctorch\ncomplex128\nX\x03\0\0\0cpu\x89",
        ),
        "holds more than tensors",
    ),
    "an encoding that takes forever": (
        calling(b"c_codecs\nencode\n", b"X\x02\0\0\0abX\x08\0\0\0punycode"),
        "holds more than tensors",
    ),
    "a tensor beyond its array": (
        b"\x80\x02" + tensor_of(4, 5) + b".",
        "a tensor needs 5 numbers of an array that has 4",
    ),
    "an array whose name has two spellings": (
        claiming(4).replace(b"X\x01\0\0\0k", b"X\x02\0\0\0\xc3\xa9"),
        "holds more than tensors",
    ),
    "code": (b"cposix\nsystem\nX\x02\0\0\0ls\x85R.", "it is damaged, or holds more than tensors"),
    "nothing on the stack": (b"\x80\x02tttt.", "it is damaged, or holds more than tensors"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_a_file_claims_is_looked_at_before_pytorch_believes_it(attack: str, tmp_path: Path) -> None:
    pickled, sentence = ATTACKS[attack]
    path = packed(tmp_path / "c.pt", pickled, k=bytes(16))
    with pytest.raises(CheckpointError, match=sentence) as refused:
        load_safely(path)
    assert len(str(refused.value)) < 300 + len(str(path))


@pytest.mark.parametrize("behind", [1, 22, 65_535, 66_500, 200_000])
def test_an_archive_ends_where_it_ends(behind: int, tmp_path: Path) -> None:
    path = packed(tmp_path / "c.pt", claiming(4), bytes(behind), k=bytes(16))
    with pytest.raises(CheckpointError, match="does not end as one"):
        load_safely(path)


def test_a_directory_that_readers_find_in_different_places_is_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "c.pt", claiming(4), k=bytes(16))
    content = path.read_bytes()
    at = content.index(b"PK\x01\x02")
    path.write_bytes(content[:at] + bytes(100) + content[at:])  # zipfile counts back from the end, PyTorch from offset
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist()
    with pytest.raises(CheckpointError, match="does not end as one"):
        load_safely(path)


def test_an_array_is_as_long_as_the_shortest_of_its_name(tmp_path: Path) -> None:
    path = packed(tmp_path / "c.pt", claiming(4), k=bytes(8))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/data/k", bytes(16))
    with pytest.raises(CheckpointError, match="an array of 16 bytes has 8"):
        load_safely(path)


def legacy(path: Path, pickled: bytes) -> Path:
    """A file as PyTorch wrote them before 1.6, of this pickle and one array of four numbers."""
    content = io.BytesIO()
    for value in (torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {}):
        pickle.dump(value, content, protocol=2)
    content.write(pickled)
    pickle.dump(["k"], content, protocol=2)
    content.write(struct.pack("<q", 4) + bytes(16))
    path.write_bytes(content.getvalue())
    return path


def test_arrays_of_old_files_do_not_grow(tmp_path: Path) -> None:
    fits = legacy(tmp_path / "a.pt", b"\x80\x02" + tensor_of(4, 4, end=b"N") + b".")
    assert load_safely(fits).tolist() == [0.0] * 4
    grows = legacy(tmp_path / "b.pt", b"\x80\x02" + tensor_of(4, 10**6, end=b"N") + b".")
    with pytest.raises(CheckpointError, match="a tensor needs 1000000 numbers of an array that has 4"):
        load_safely(grows)


def test_tensors_of_pytorch_before_0_4_are_read(tmp_path: Path) -> None:
    """Parameters, and tensors, that were made first and given their values then; torchvision has such files."""
    tensor, hooks = tensor_of(4, 4, end=b"N"), b"ccollections\nOrderedDict\n)R"
    parameter = b"ctorch.nn.parameter\nParameter\n" + tensor + b"\x85\x81(" + tensor + b"N" + hooks + b"\x88\x89tb"
    read = load_safely(legacy(tmp_path / "a.pt", b"\x80\x02" + parameter + b"."))
    assert isinstance(read, torch.nn.Parameter)
    assert read.tolist() == [0.0] * 4
    for length in (4, 5):
        storage = tensor.partition(b"_v2\n(")[2].partition(b"tQ")[0] + b"tQ"
        state = b"(" + storage + b"K\0K" + bytes([length]) + b"\x85K\x01\x85t"
        path = legacy(tmp_path / "b.pt", b"\x80\x02ctorch\nFloatTensor\n)\x81" + state + b"b.")
        if length == 4:
            assert load_safely(path).tolist() == [0.0] * 4
        else:
            with pytest.raises(CheckpointError, match="a tensor needs 5 numbers of an array that has 4"):
                load_safely(path)


def test_an_entry_is_called_what_its_bytes_say(tmp_path: Path) -> None:
    """From Python 3.12 on, zipfile lets a field of the entry rename it, and PyTorch does not."""
    entry = zipfile.ZipInfo("c/data.pkl")
    renamed = struct.pack("<BL", 1, zlib.crc32(b"c/data.pkl")) + b"c/other"
    entry.extra = struct.pack("<HH", 0x7075, len(renamed)) + renamed
    path = packed(tmp_path / "c.pt", claiming(2**28), entry=entry, k=bytes(16))
    with pytest.raises(CheckpointError, match="an array of 1073741824 bytes has 16"):
        load_safely(path)


def with_note(value: Any) -> Any:
    value.note = "kept"
    return value


BESIDE_WEIGHTS: dict[str, Any] = {
    "a state dict with versions": torch.nn.BatchNorm2d(2).state_dict(),
    "a parameter": torch.nn.Parameter(torch.ones(3)),
    "a parameter with an attribute": with_note(torch.nn.Parameter(torch.ones(3))),
    "a tensor with an attribute": with_note(torch.ones(3)),
    "bytes": b"abc\xff",
    "a bytearray": bytearray(b"xyz"),
    "a complex number": 1 + 2j,
    "a set": {1, "two", (3, 4)},
    "counts": collections.Counter("abca"),
    "a size, a type and a device": [torch.Size([1, 2]), torch.float16, torch.device("cpu")],
    "Python's random state": random.getstate(),
    "a view": torch.arange(10.0)[2:8:2],
    "nothing at the end of something": torch.arange(4.0)[4:],
    "a transposed tensor": torch.ones(3, 4).T,
    "a new type": torch.ones(3, dtype=torch.uint16),
}


@pytest.mark.parametrize("old", [False, True])
def test_what_training_keeps_beside_weights_is_read(old: bool, tmp_path: Path) -> None:
    content = {kind: value for kind, value in BESIDE_WEIGHTS.items() if not (old and kind == "a new type")}
    torch.save(content, tmp_path / "c.pt", _use_new_zipfile_serialization=not old)
    read = load_safely(tmp_path / "c.pt")
    assert list(read) == list(content)
    for kind, value in content.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(read[kind], value), kind
        elif kind != "a state dict with versions":
            assert read[kind] == value, kind
    assert read["a state dict with versions"]._metadata == content["a state dict with versions"]._metadata


def test_arrays_of_big_endian_machines_are_read(tmp_path: Path) -> None:
    content = struct.pack(">4f", 1, 2, 3, 4)
    packed(tmp_path / "c.pt", claiming(4), byteorder=b"big", k=content)
    assert load_safely(tmp_path / "c.pt")["x"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("entry", "content"),
    [("version", b"9" * 40), ("version", b""), (".format_version", b"9" * 40)],
)
def test_words_for_pytorchs_authors_are_not_said(entry: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("c/data.pkl", claiming(4))
        archive.writestr("c/data/k", bytes(16))
        archive.writestr(f"c/{entry}", content)
    with pytest.raises(CheckpointError) as refused:
        load_safely(path)
    assert f"c.pt: not a PyTorch checkpoint that can be read safely ({UNSAFE}): give a file" in str(refused.value)


def test_an_archive_of_something_else_is_called_that(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "c.pt", "w") as archive:
        archive.writestr("c/readme.txt", "no checkpoint")
    with pytest.raises(CheckpointError, match=r"c.pt: an archive, but none of PyTorch's: there is no 'data.pkl' in it"):
        load_safely(tmp_path / "c.pt")


def test_a_size_that_the_file_does_not_have_is_no_compression(tmp_path: Path) -> None:
    path = packed(tmp_path / "c.pt", claiming(4), k=bytes(16))
    content = bytearray(path.read_bytes())
    directory = content.rindex(b"PK\x01\x02")  # of the last entry: its two sizes are at 20 and 24
    content[directory + 20 : directory + 28] = struct.pack("<LL", 2**32 - 16, 2**32 - 16)
    path.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"the file is damaged: what is in it claims 42949\d+ bytes, and the file"
    ):
        load_safely(path)
