"""Checkpoints in every wrapping the field uses give the same weights; damaged ones give one clear error."""

from __future__ import annotations

import hashlib
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import load_case
from safetensors.torch import save_file
from torch import Tensor

from irsde_deploy import ModelCard, load
from irsde_deploy.errors import CheckpointError, InputFileError, InvalidValueError
from irsde_deploy.export.description import describe, flags
from irsde_deploy.networks.checkpoints import read_checkpoint, save_checkpoint

Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def weights() -> Weights:
    return read_checkpoint(load_case("latent_nafnet_w8").weights).weights


def wrong(weights: Weights) -> Weights:
    """Weights that must not be chosen."""
    return {key: value + 1 for key, value in weights.items()}


def looped(content: dict[str, Any]) -> dict[str, Any]:
    """A dict that holds itself under a name that is looked for."""
    content["params"] = content
    return content


WRAPPINGS: dict[str, Any] = {
    "plain": lambda w: w,
    "DataParallel": lambda w: {f"module.{k}": v for k, v in w.items()},
    "compiled DataParallel": lambda w: {f"module._orig_mod.{k}": v for k, v in w.items()},
    "entry": lambda w: {"state_dict": w, "epoch": 3},
    "nested entry": lambda w: {"model": {"params": w}},
    "EMA entry": lambda w: {"params": wrong(w), "params_ema": w, "iter": 7},
    "EMA wrapper": lambda w: {
        **{f"online_model.{k}": v for k, v in wrong(w).items()},
        **{f"ema_model.{k}": v for k, v in w.items()},
        "initted": torch.tensor(True),
        "step": torch.tensor(5),
    },
    "EMA of DataParallel": lambda w: {"ema": {f"module.{k}": v for k, v in w.items()}},
    "stochastic weight averaging": lambda w: {
        "n_averaged": torch.tensor(3),
        **{f"module.{k}": v for k, v in w.items()},
    },
    "empty EMA entry": lambda w: {"model": w, "ema": {}},
    "EMA without names": lambda w: {"ema": {"decay": 0.9, "shadow_params": list(wrong(w).values())}, "model": w},
    "EMA whose names lost their dots": lambda w: {
        **{f"model.{k}": v for k, v in w.items()},
        **{f"model_ema.{k.replace('.', '')}": v for k, v in wrong(w).items()},
    },
    "compiled parts": lambda w: {k.replace("intro.", "intro._orig_mod."): v for k, v in w.items()},
    "FSDP of parts of a compiled DDP": lambda w: {
        f"_orig_mod.module._fsdp_wrapped_module.{k.replace('ending.', 'ending._fsdp_wrapped_module.')}": v
        for k, v in w.items()
    },
    "compiled DDP of parts": lambda w: {
        k.replace("intro.", "intro._orig_mod.module.").replace("decoders.", "decoders.module._fsdp_wrapped_module."): v
        for k, v in w.items()
    },
    "averaged beside a GAN's other": lambda w: {
        **{f"netG_ema.module.{k}": v for k, v in w.items()},
        **{f"netG.module.{k}": v for k, v in wrong(w).items()},
    },
    "AveragedModel entry": lambda w: {
        "swa_model": {"n_averaged": torch.tensor(3), **{f"module.{k}": v for k, v in w.items()}},
        "model": wrong(w),
    },
    "averaged entry": lambda w: {"model": wrong(w), "averaged_model": w},
    "EMA of DataParallel among others": lambda w: {
        **{f"ema.module.{k}": v for k, v in w.items()},
        **{f"net.{k}": v for k, v in wrong(w).items()},
    },
    "Lightning with its loss": lambda w: {
        "state_dict": {**{f"model.{k}": v for k, v in w.items()}, "lpips.features.0.weight": torch.ones(2, 2)},
        "pytorch-lightning_version": "2.4",
    },
    "a wrapper of itself": lambda w: looped({"model": w}),
    "bytes and numbers as names": lambda w: {**w, b"intro": torch.ones(1), 3: torch.ones(1)},
    "float16": lambda w: {k: v.half().float() for k, v in w.items()},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrappings_give_the_same_weights(weights: Weights, wrapping: str, tmp_path: Path) -> None:
    torch.save(WRAPPINGS[wrapping](weights), tmp_path / "c.pth")
    read = read_checkpoint(tmp_path / "c.pth")
    assert read.weights.keys() == weights.keys()
    expected = WRAPPINGS["float16"](weights) if wrapping == "float16" else weights
    assert all(torch.equal(read.weights[key], expected[key]) for key in weights)
    assert bool(read.notes) == (wrapping not in ("plain", "float16", "bytes and numbers as names")), (
        "what was chosen is told"
    )


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_our_own_files_carry_the_card(weights: Weights, suffix: str, tmp_path: Path) -> None:
    case = load_case("latent_nafnet_w8")
    card = describe(read_checkpoint(case.weights), [flags(form="latent", **case.sde)]).card
    path = tmp_path / f"c{suffix}"
    save_checkpoint(path, weights, card, half=True)
    read = read_checkpoint(path)
    assert read.card == card
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert all(torch.equal(read.weights[key], weights[key].half().float()) for key in weights)
    # and describing it again needs no flags, and changes nothing but the file's own hash
    again = describe(read, []).card
    assert {**again.to_dict(), "checkpoint_sha256": ""} == {**card.to_dict(), "checkpoint_sha256": ""}


def test_plain_safetensors(weights: Weights, tmp_path: Path) -> None:
    save_file(weights, tmp_path / "c.safetensors")
    (tmp_path / "c.safetensors").rename(tmp_path / "c.SAFETENSORS")
    read = read_checkpoint(tmp_path / "c.SAFETENSORS")
    assert read.card is None
    assert all(torch.equal(read.weights[key], weights[key]) for key in weights)


class Malicious:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (eval, ("__import__('pathlib').Path('pwned').touch()",))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Malicious()}, "evil.pth")
    with pytest.raises(CheckpointError, match="cannot be|can be read safely"):
        read_checkpoint("evil.pth")
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.pth", b"", "is empty"),
        ("text.pt", b"hello, I am no checkpoint", "not a PyTorch checkpoint"),
        ("text.safetensors", b"hello, I am no checkpoint", "not a safetensors file"),
        ("weights.bin", b"x", "ends in .pt, .pth, .safetensors"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises((InputFileError, CheckpointError), match=message):
        read_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "a state dict, this file a list"),
        ({"epoch": 3}, "no state dict inside, only 'epoch'"),
        ({"params": {}}, "no state dict inside"),
        ({"intro.weight": torch.tensor([1.0, float("nan")])}, "'intro.weight' are not finite"),
        ({"w": torch.tensor([1e300], dtype=torch.float64)}, "not finite in float32"),
        ({"w": torch.zeros(2, dtype=torch.int64)}, "'w' is a int64 tensor"),
        ({"w": torch.zeros(2, dtype=torch.complex64)}, "'w' is a complex64 tensor"),
        ({"w": torch.eye(3).to_sparse()}, "cannot be a weight"),
        ({"w": torch.zeros(1).expand(10**9)}, "cannot be a weight"),
        ({"w": torch.zeros(3, device="meta")}, "cannot be a weight"),
        ({3: torch.zeros(1)}, "no state dict inside, only 3"),
    ],
)
def test_checkpoints_without_usable_weights(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "c.pth")


def test_compressed_archives_are_refused_before_they_unpack(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(10**6)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in plain.infolist():
            bomb.writestr(entry.filename, plain.read(entry))
    with pytest.raises(CheckpointError, match="compressed archive"):
        read_checkpoint(tmp_path / "bomb.pth")


def test_a_flipped_byte_is_a_damaged_file(weights: Weights, tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "c.pth")
    content = bytearray((tmp_path / "c.pth").read_bytes())
    marker = weights["encoders.2.0.conv1.weight"].numpy().tobytes()
    content[content.index(marker) + 100] ^= 0x10
    (tmp_path / "c.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(tmp_path / "c.pth")


@pytest.mark.parametrize(
    "change", [{"enc_blk_nums": 5}, {"enc_blk_nums": [10**9]}, {"width": 10**9}, {"form": "round"}]
)
def test_a_card_that_contradicts_its_weights_is_refused(
    weights: Weights, tmp_path: Path, change: dict[str, Any]
) -> None:
    case = load_case("latent_nafnet_w8")
    card = describe(read_checkpoint(case.weights), [flags(form="latent", **case.sde)]).card
    damaged = ModelCard.from_dict({**card.to_dict(), "settings": {**card.settings, **change}})
    save_checkpoint(tmp_path / "c.pt", weights, damaged)
    with pytest.raises((CheckpointError, InvalidValueError), match="settings say|cannot be built|form must"):
        load(tmp_path / "c.pt")
    with pytest.raises((CheckpointError, InvalidValueError), match="settings say|cannot be built|form must"):
        describe(read_checkpoint(tmp_path / "c.pt"), [])


def test_files_of_pytorch_before_1_6_are_read(weights: Weights, tmp_path: Path) -> None:
    torch.save({"state_dict": weights}, tmp_path / "c.pth", _use_new_zipfile_serialization=False)
    read = read_checkpoint(tmp_path / "c.pth").weights
    assert all(torch.equal(read[key], weights[key]) for key in weights)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float64])
def test_other_floating_types_become_float32(weights: Weights, dtype: torch.dtype, tmp_path: Path) -> None:
    key = "intro.weight"
    torch.save({**weights, key: weights[key].to(dtype)}, tmp_path / "c.pth")
    read = read_checkpoint(tmp_path / "c.pth").weights[key]
    assert read.dtype == torch.float32
    assert torch.equal(read, weights[key].to(dtype).float())


def test_prefixes_without_end_are_refused(tmp_path: Path) -> None:
    save_file({"module." * 5000 + "w": torch.ones(1)}, tmp_path / "c.safetensors")
    read = read_checkpoint(tmp_path / "c.safetensors")
    assert len(read.notes) == 8
    with pytest.raises(CheckpointError, match="unknown architecture") as refused:
        describe(read, [])
    assert len(str(refused.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("wrapped", ["intro._orig_mod.weight", "intro.module.weight"])
def test_names_that_become_one_are_refused(wrapped: str, weights: Weights, tmp_path: Path) -> None:
    torch.save({**weights, wrapped: torch.ones(1)}, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match="two tensors are called 'intro.weight'"):
        read_checkpoint(tmp_path / "c.pth")


def test_one_array_under_thousands_of_names_is_refused(tmp_path: Path) -> None:
    shared = torch.ones(100_000, dtype=torch.float16)
    torch.save({f"w{i}": shared for i in range(100)}, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match="claim more than 4 times the bytes"):
        read_checkpoint(tmp_path / "c.pth")


OVERLAPPING = (
    b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}'
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ((2**40).to_bytes(8, "little") + b"{}", "its header would have 1099511627776 bytes"),
        ((2).to_bytes(8, "little") + b"\xff\xfe", "not a safetensors file"),
        (
            len(OVERLAPPING).to_bytes(8, "little") + OVERLAPPING + bytes(12),
            "not a safetensors file",
        ),
    ],
)
def test_damaged_safetensors_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "c.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "c.safetensors")


def test_a_checkpoint_of_thousands_of_arrays_is_looked_through_in_no_time(tmp_path: Path) -> None:
    torch.save({f"w{i}": torch.ones(1) for i in range(5000)}, tmp_path / "c.pt")
    started = time.process_time()
    assert len(read_checkpoint(tmp_path / "c.pt").weights) == 5000
    assert time.process_time() - started < 10  # each array is not looked for among all others
