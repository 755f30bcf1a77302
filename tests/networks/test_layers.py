"""Details of networks and of their files that golden outputs and whole checkpoints do not show."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from irsde_deploy import MeanRevertingSDE, ModelCard
from irsde_deploy.core.card import METADATA_KEY
from irsde_deploy.errors import CheckpointError
from irsde_deploy.networks import ConditionalNAFNet, ConditionalUNet, LatentUNet
from irsde_deploy.networks.checkpoints import OWN_FORMAT, read_checkpoint, save_checkpoint
from irsde_deploy.networks.detection import build_network, detect_network
from irsde_deploy.networks.layers import ChannelNorm
from irsde_deploy.networks.perceptual import FrechetDistance
from irsde_deploy.networks.pickles import Pickle
from irsde_deploy.networks.state_dicts import select_weights
from irsde_deploy.networks.torch_files import load_safely

SMALL = {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}


def weights_of(**changes: Any) -> dict[str, Tensor]:
    return dict(ConditionalNAFNet(**{**SMALL, **changes}).state_dict())


def test_channels_of_hardly_any_contrast_are_normalised_as_in_the_reference() -> None:
    """Variance 1e-6, which 1e-5 is added to."""
    x = torch.tensor([-1e-3, 1e-3]).reshape(1, 2, 1, 1)
    assert float(ChannelNorm(2)(x).detach()[0, 1]) == pytest.approx(1e-3 / np.sqrt(1.1e-5), rel=1e-4)


def test_decoding_leaves_the_callers_skips() -> None:
    model = LatentUNet(3, 3, 4, [1, 2], 2).eval()
    with torch.inference_mode():
        latent, hidden = model.encode(torch.rand(1, 3, 8, 8))
        count = len(hidden)
        assert torch.equal(model.decode(latent, hidden), model.decode(latent, hidden))
    assert len(hidden) == count == 5


def test_networks_that_cannot_be_built_say_why() -> None:
    with pytest.raises(ValueError, match="as many levels up as down"):
        ConditionalNAFNet(4, [1, 1], 1, [1])
    with pytest.raises(ValueError, match="form must be one of"):
        ConditionalNAFNet(**SMALL, form="round")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mid_attention must be one of linear, full, not 'half'"):
        ConditionalUNet(3, 3, 8, depth=1, mid_attention="half")


def test_a_built_network_is_for_use_and_has_weights_of_its_shapes_alone() -> None:
    weights = weights_of()
    name, settings = detect_network(weights)
    assert not build_network(name, settings, weights).training
    lists = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    assert build_network(name, lists, weights), "a card from JSON, or one that was made in Python"
    with pytest.raises(
        CheckpointError, match=r"'middle_blks.0.conv1.bias' has the shape \(9,\), expected \(32,\)|shape"
    ):
        build_network(name, settings, {**weights, "middle_blks.0.conv4.bias": torch.zeros(9)})
    with pytest.raises(CheckpointError, match="takes 5 channels and the network has 3 outputs: expected 6 .* or 3 "):
        detect_network({**weights, "intro.weight": torch.zeros(4, 5, 3, 3)})


def test_a_weight_of_one_number_is_no_counter() -> None:
    weights = {**weights_of(), "head.bias": torch.tensor(2.0), "n_averaged": torch.tensor(3), "step": torch.tensor(0.5)}
    notes: list[str] = []
    found = select_weights(weights, notes)
    assert found.keys() == weights.keys() - {"n_averaged", "step"}
    assert notes == ["set aside what is no weight: 'n_averaged', 'step'"]


def test_tensors_lie_within_their_arrays_from_their_offset_on(tmp_path: Path) -> None:
    def claims(whole: Tensor) -> dict[str, int]:
        torch.save({"a": whole[:2], "b": whole[2:], "c": whole[8:]}, tmp_path / "c.pt")
        with zipfile.ZipFile(tmp_path / "c.pt") as archive:
            (name,) = [entry for entry in archive.namelist() if entry.endswith("data.pkl")]
            return Pickle.of(io.BytesIO(archive.read(name))).arrays

    assert claims(torch.zeros(8)) == {"0": 32}
    assert claims(torch.zeros(8, dtype=torch.float16)) == {"0": 16}
    (tmp_path / "d.pt").write_bytes((tmp_path / "c.pt").read_bytes())
    assert load_safely(tmp_path / "d.pt")["b"].shape == (6,)


def storage(count: int) -> bytes:
    number = b"J" + struct.pack("<i", count)
    return b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0kX\x03\0\0\0cpu" + number + b"tQ"


def rebuilt(count: int, offset: int, length: int) -> bytes:
    view = storage(count) + b"K" + bytes([offset]) + b"K" + bytes([length]) + b"\x85K\x01\x85\x89"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + view + b"ccollections\nOrderedDict\n)RtR"


def test_what_a_pickle_claims() -> None:
    def claimed(*parts: bytes) -> dict[str, int]:
        return Pickle.of(io.BytesIO(b"\x80\x02](" + b"".join(parts) + b"e.")).arrays

    assert claimed(rebuilt(8, 2, 6), rebuilt(4, 0, 4)) == {"k": 32}, "an array that is named twice is the larger"
    with pytest.raises(CheckpointError, match="a tensor needs 9 numbers of an array that has 8"):
        claimed(rebuilt(8, 3, 6))
    with pytest.raises(CheckpointError, match="cannot be|can be read safely"):
        claimed(rebuilt(-8, 0, 0))


def archive_of(path: Path, *arrays: bytes, pickled: str = "c/data.pkl", comment: bytes = b"") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(pickled, b"\x80\x02" + rebuilt(4, 0, 4) + b".")
        archive.writestr("c/version", "3")
        for content in arrays:
            archive.writestr("c/data/k", content)
        archive.comment = comment
    return path


def test_archives_end_as_pytorchs_and_hold_their_arrays(tmp_path: Path) -> None:
    assert load_safely(archive_of(tmp_path / "a.pt", bytes(16))).tolist() == [0.0] * 4
    with pytest.raises(CheckpointError, match="does not end as one"):
        load_safely(archive_of(tmp_path / "b.pt", bytes(16), comment=b"a comment"))
    with pytest.raises(CheckpointError, match="an array of 16 bytes has 0"):
        load_safely(archive_of(tmp_path / "c.pt"))
    with pytest.raises(CheckpointError, match="an array of 16 bytes has 15"):
        load_safely(archive_of(tmp_path / "d.pt", bytes(15)))
    assert load_safely(archive_of(tmp_path / "e.pt", bytes(16), pickled="c/DATA.PKL")).tolist() == [0.0] * 4
    end = (tmp_path / "e.pt").read_bytes()[:-2] + b"\1\0"
    (tmp_path / "e.pt").write_bytes(end)  # a comment that is announced, and is not there
    with pytest.raises(CheckpointError, match="does not end as one"):
        load_safely(tmp_path / "e.pt")
    torch.save(torch.arange(4.0)[4:].reshape(3, 0), tmp_path / "f.pt")
    assert load_safely(tmp_path / "f.pt").shape == (3, 0), "nothing, at the end of an array"
    torch.save(torch.ones(2), tmp_path / "f.pt")
    content = (tmp_path / "f.pt").read_bytes()
    assert content[-98:].startswith(b"PK\x06\x06"), "PyTorch writes the directory of large archives, always"
    wrong = bytearray(content)
    wrong[-98 + 40] ^= 1  # the directory's length, as that has it
    (tmp_path / "f.pt").write_bytes(wrong)
    with pytest.raises(CheckpointError, match="does not end as one"):
        load_safely(tmp_path / "f.pt")


def test_arrays_of_old_files_are_within_them(tmp_path: Path) -> None:
    content = io.BytesIO()
    for value in (torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {}):
        pickle.dump(value, content, protocol=2)
    content.write(b"\x80\x02" + rebuilt(2**28, 0, 4).replace(b"cputQ", b"cpuNtQ") + b".")
    pickle.dump(["k"], content, protocol=2)
    (tmp_path / "c.pt").write_bytes(content.getvalue() + struct.pack("<q", 4) + bytes(16))
    with pytest.raises(CheckpointError, match="arrays of 1073741824 bytes are in [0-9]+: copy it again"):
        load_safely(tmp_path / "c.pt")


def test_fid_counts_pictures_and_knows_which_are_clean() -> None:
    told: list[tuple[int, bool]] = []
    distance = FrechetDistance.__new__(FrechetDistance)  # its weights are 90 MB, and not ours to keep
    distance._pictures = 0
    distance._metric = SimpleNamespace(
        update=lambda picture, real: told.append((int(picture[0, 0, 0, 0]), real)), compute=lambda: 5.0
    )
    restored, clean = np.full((2, 3, 3), 7, np.uint8), np.full((2, 3, 3), 9, np.uint8)
    for expected in (None, 5.0):
        distance.add(restored, clean)
        assert distance.value() == expected
    assert told == [(7, False), (9, True)] * 2


def test_a_tensor_in_two_places_is_read(tmp_path: Path) -> None:
    weights = weights_of()
    tied = {**weights, "encoders.0.0.conv2.weight": torch.rand(300, 300), "decoders.0.0.conv2.weight": torch.rand(1)}
    tied["decoders.0.0.conv2.weight"] = tied["encoders.0.0.conv2.weight"]
    torch.save(tied, tmp_path / "c.pt")
    read = read_checkpoint(tmp_path / "c.pt").weights
    assert torch.equal(read["decoders.0.0.conv2.weight"], tied["encoders.0.0.conv2.weight"])


def test_a_card_that_is_no_text_is_refused(tmp_path: Path) -> None:
    torch.save({"format": OWN_FORMAT, METADATA_KEY: {"network": "x"}, "weights": weights_of()}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"a\.pt: "):
        read_checkpoint(tmp_path / "a.pt")
    torch.save({METADATA_KEY: "no card", "weights": weights_of()}, tmp_path / "b.pt")
    read = read_checkpoint(tmp_path / "b.pt")
    assert (read.card, read.notes) == (None, ("took the weights in 'weights'",))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_with_strides_are_written(suffix: str, tmp_path: Path) -> None:
    card = ModelCard("x", {}, 3, 1, "zero", MeanRevertingSDE(30, 20, "cosine", 0.02))
    turned = torch.arange(6.0).reshape(2, 3).T
    save_checkpoint(tmp_path / f"c{suffix}", {"w": turned}, card)
    assert torch.equal(read_checkpoint(tmp_path / f"c{suffix}").weights["w"], turned)


def test_parts_called_module_stay_in_unknown_networks() -> None:
    weights = {"first.module.weight": torch.ones(2), "second.weight": torch.ones(2)}
    assert select_weights(weights, []).keys() == weights.keys()
