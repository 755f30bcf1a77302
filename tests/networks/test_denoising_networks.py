"""Networks that do not see mu: found in the weights, exported without that input, equal to PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from random_networks import CASES, random_network

from irsde_deploy import DenoisingSDE, load
from irsde_deploy.errors import CheckpointError, InvalidValueError
from irsde_deploy.export.description import describe, flags
from irsde_deploy.export.exporter import export_checkpoint
from irsde_deploy.networks.checkpoints import Checkpoint, read_checkpoint, save_checkpoint
from irsde_deploy.networks.detection import build_network, detect_network
from irsde_deploy.networks.layers import FullAttention


@pytest.mark.parametrize("name", list(CASES))
def test_exported_without_mu_and_equal_to_pytorch(name: str, tmp_path: Path) -> None:
    network = random_network(name)
    assert detect_network(network.state_dict()) == (name, CASES[name])
    checkpoint = Checkpoint(tmp_path / "x.pt", dict(network.state_dict()), None, "")
    card = describe(checkpoint, [flags(max_sigma=75, T=30)]).card
    assert card.sde == DenoisingSDE(75, 30, "cosine", 0.04)
    export_checkpoint(checkpoint, card, tmp_path / "x.onnx")
    assert [given.name for given in onnx.load(tmp_path / "x.onnx").graph.input] == ["x", "t"]
    restorer = load(tmp_path / "x.onnx")
    x, mu = np.random.default_rng(0).random((2, 1, 3, 16, 24), dtype=np.float32)
    t = np.array([7], np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(x), torch.from_numpy(mu), torch.from_numpy(t)).numpy()
    answers = restorer.engine(x, mu, t), restorer.engine(x, 1 - mu, t)
    np.testing.assert_allclose(answers[0], expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(answers[0], answers[1])
    save_checkpoint(tmp_path / "x.safetensors", checkpoint.weights, card)
    again = read_checkpoint(tmp_path / "x.safetensors")
    assert again.card == card
    build_network(card.network, card.settings, again.weights)


def test_full_attention_is_scaled_dot_product_attention() -> None:
    torch.manual_seed(0)
    layer, x = FullAttention(16), torch.randn(2, 16, 5, 7)
    q, k, v = layer.to_qkv(x).chunk(3, dim=1)
    split = lambda part: part.reshape(2, 4, 32, 35).transpose(-1, -2)  # noqa: E731
    attended = F.scaled_dot_product_attention(split(q), split(k), split(v))
    expected = layer.to_out(attended.transpose(-1, -2).reshape(2, 128, 5, 7))
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-6)


def test_a_process_that_contradicts_the_network_is_refused(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "x.pt", dict(random_network("ConditionalNAFNet").state_dict()), None, "")
    with pytest.raises(InvalidValueError, match="does not see mu"):
        describe(checkpoint, [flags(kind="mean-reverting", max_sigma=10, T=10, schedule="cosine", eps=0.01)])
    odd = {**checkpoint.weights, "intro.weight": torch.zeros(8, 5, 3, 3)}
    with pytest.raises(CheckpointError, match=r"takes 5 channels"):
        detect_network(odd)
