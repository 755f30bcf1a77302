"""Every network against the reference's outputs, at sizes that are no multiple of the padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from golden import GoldenCase, load_case
from torch.utils._python_dispatch import TorchDispatchMode

from irsde_deploy.errors import CheckpointError
from irsde_deploy.networks import ConditionalUNet, LatentUNet
from irsde_deploy.networks.checkpoints import read_checkpoint
from irsde_deploy.networks.detection import build_network, outline
from irsde_deploy.runtimes.loops.padding import pad_to_multiple

FLOAT32 = 3e-6
"""Relative: another order of float32 additions (mean and variance, attention's scale) than the reference's."""


def evaluate(case: GoldenCase, t: np.ndarray) -> np.ndarray:
    model = build_network(case.network, case.settings, read_checkpoint(case.weights).weights)
    x, mu = (pad_to_multiple(case.expected[k], model.multiple_of, model.pad_mode) for k in ("x", "mu"))
    with torch.inference_mode():
        eps = model(torch.from_numpy(x), torch.from_numpy(mu), torch.from_numpy(t.astype(np.float32)))
    height, width = case.expected["x"].shape[2:]
    return eps.numpy()[:, :, :height, :width]


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def test_eps_is_the_references(case: GoldenCase) -> None:
    batch = len(case.expected["x"])
    timesteps = [int(key[5:]) for key in case.expected if key.startswith("eps_t")]
    assert len(timesteps) == 3
    for t in timesteps:
        assert relative_error(evaluate(case, np.full(batch, t)), case.expected[f"eps_t{t}"]) < FLOAT32


def test_a_timestep_per_entry(case: GoldenCase) -> None:
    assert relative_error(evaluate(case, case.expected["eps_batch_t"]), case.expected["eps_batch"]) < FLOAT32


def test_latent_unet_is_the_references() -> None:
    case = load_case("latent_unet_ch8")
    model = LatentUNet(**case.settings).eval()
    model.load_state_dict(read_checkpoint(case.weights).weights, strict=True)
    height, width = case.expected["image"].shape[2:]
    image = torch.from_numpy(pad_to_multiple(case.expected["image"], model.multiple_of, model.pad_mode))
    with torch.inference_mode():
        latent, hidden = model.encode(image)
        decoded = model.decode(latent, hidden)[:, :, :height, :width]
    assert relative_error(latent.numpy(), case.expected["latent"]) < FLOAT32
    for i, skip in enumerate(hidden):
        assert relative_error(skip.numpy(), case.expected[f"hidden{i}"]) < FLOAT32
    assert relative_error(decoded.numpy(), case.expected["decoded"]) < FLOAT32


def test_depth_form_is_the_ch_mult_form_with_powers_of_two() -> None:
    torch.manual_seed(0)
    deep, wide = ConditionalUNet(3, 3, 8, depth=3), ConditionalUNet(3, 3, 8, ch_mult=[2, 4, 8])
    wide.load_state_dict(deep.state_dict(), strict=True)
    x, mu, t = torch.rand(1, 3, 16, 24), torch.rand(1, 3, 16, 24), torch.tensor([5.0])
    with torch.inference_mode():
        assert torch.equal(deep.eval()(x, mu, t), wide.eval()(x, mu, t))


@pytest.mark.parametrize("arguments", [{}, {"depth": 4, "ch_mult": [1, 2]}])
def test_a_unet_has_exactly_one_form(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="either depth or ch_mult"):
        ConditionalUNet(3, 3, 8, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "settings", "why"),
    [
        ("ConditionalUNet", {"nf": 64, "depth": 2**20}, "depth must be from 1 to 12, not 1048576"),
        ("ConditionalUNet", {"nf": 64, "depth": 0}, "depth must be from 1 to 12, not 0"),
        ("ConditionalUNet", {"nf": 10**12, "depth": 4}, "nf must be from 1 to 65536, not 1000000000000"),
        ("ConditionalUNet", {"nf": 64, "ch_mult": [1] * 500}, "ch_mult has 500 levels, and 12 are the most"),
        ("ConditionalUNet", {"nf": 64, "depth": 4, "in_nc": 0}, "in_nc must be from 1 to 65536, not 0"),
        ("ConditionalUNet", {"nf": "x", "depth": 4}, "not all arguments converted"),
        (
            "ConditionalNAFNet",
            {"width": 8, "enc_blk_nums": [10**6], "middle_blk_num": 1, "dec_blk_nums": [1]},
            "enc_blk_nums must be from 0 to 1000, not 1000000",
        ),
        (
            "ConditionalNAFNet",
            {
                "width": 2**16,
                "enc_blk_nums": [1] * 12,
                "middle_blk_num": 1,
                "dec_blk_nums": [1] * 12,
                "img_channel": -1,
            },
            "img_channel must be from 1",
        ),
    ],
)
def test_networks_of_no_sense_are_refused_at_once(name: str, settings: dict[str, Any], why: str) -> None:
    given = {"in_nc": 3, "out_nc": 3, **settings} if name == "ConditionalUNet" else settings
    with pytest.raises(CheckpointError, match=f"^{name} cannot be built with .*: {why}"):
        outline(name, given)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ConditionalNAFNet", {"width": 8, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}),
        ("ConditionalUNet", {"in_nc": 3, "out_nc": 3, "nf": 8, "depth": 2, "mid_attention": "full"}),
    ],
)
def test_an_outline_computes_nothing(name: str, settings: dict[str, Any]) -> None:
    """What PyTorch can only pretend to compute without memory makes it import its compiler, which takes a second."""
    called: set[str] = set()

    class Noting(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            called.add(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    with Noting():
        outline(name, settings)
    assert called <= {"empty", "uniform_", "normal_", "fill_", "zero_", "ones", "zeros", "detach"}
