"""The exported graph: equal to PyTorch at any size, self-contained, and never kept when it is not equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from golden import load_case

from irsde_deploy import ModelCard
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.errors import InvalidValueError, OutputFileError, ParityError
from irsde_deploy.export import exporter, parity, to_onnx
from irsde_deploy.export.description import Description, describe, flags
from irsde_deploy.export.parity import compare_trajectories
from irsde_deploy.networks import ConditionalNAFNet, ConditionalUNet
from irsde_deploy.networks.checkpoints import Checkpoint, read_checkpoint
from irsde_deploy.runtimes.engines.torch_engine import TorchEngine
from irsde_deploy.runtimes.opening import open_engine

EVALUATION = 5e-6
"""Relative: the order of float32 additions in convolutions of a few thousand terms."""

SDE = {"max_sigma": 30, "T": 20, "schedule": "linear", "eps": 0.01}

NETWORKS = {
    "unet depth 1": ConditionalUNet(3, 3, 12, depth=1),
    "unet ch_mult": ConditionalUNet(4, 4, 8, ch_mult=[1, 3, 2]),
    "nafnet pixel": ConditionalNAFNet(10, [1, 2], 1, [1, 1]),
    "nafnet latent": ConditionalNAFNet(8, [1], 2, [2], img_channel=6, form="latent"),
}


def describe_random(name: str) -> tuple[torch.nn.Module, Checkpoint, Description]:
    """A network with random weights that use every parameter (NAF blocks start as the identity)."""
    model = NETWORKS[name]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.15 if parameter.ndim > 1 else 0.05
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    checkpoint = Checkpoint(Path("c.pth"), dict(model.state_dict()), None, "00")
    return (
        model,
        checkpoint,
        describe(checkpoint, [flags(**SDE, form="latent" if name == "nafnet latent" else None)]),
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_other_widths_and_forms_agree_with_pytorch(name: str, tmp_path: Path) -> None:
    model, checkpoint, description = describe_random(name)
    complete = exporter.export_checkpoint(checkpoint, description.card, tmp_path / "m.onnx")
    assert complete != name.startswith("unet"), "random U-Nets make PyTorch's own trajectory diverge"
    engine, reference = open_engine(tmp_path / "m.onnx"), TorchEngine(model, description.card)
    assert engine.card == description.card
    m, c = engine.card.multiple_of, engine.card.channels
    rng = np.random.default_rng(0)
    for batch, rows, columns in [(1, 1, 1), (2, 5, 3), (3, 1, 7)]:
        x, mu = rng.random((2, batch, c, rows * m, columns * m), dtype=np.float32)
        t = rng.uniform(1, 20, batch).astype(np.float32)
        expected = reference(x, mu, t)
        assert np.abs(engine(x, mu, t) - expected).max() < EVALUATION * np.abs(expected).max()


def test_the_graph_is_the_documented_one(unet_onnx: Path) -> None:
    model = onnx.load(unet_onnx, load_external_data=False)
    assert [node.name for node in model.graph.input] == ["x", "mu", "t"]
    assert [node.name for node in model.graph.output] == ["eps"]
    for node in (*model.graph.input, *model.graph.output):
        dims = [d.dim_param or d.dim_value for d in node.type.tensor_type.shape.dim]
        assert dims == (["batch"] if node.name == "t" else ["batch", 3, "height", "width"])
        assert node.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert model.opset_import[0].version == to_onnx.OPSET
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert not {"NonZero", "If", "Loop", "Pad", "Unique"} & {node.op_type for node in model.graph.node}
    assert not {"Constant", "Identity"} & {node.op_type for node in model.graph.node}, "what is constant is folded"
    onnx.checker.check_model(str(unet_onnx), full_check=True)
    card = ModelCard.from_json({p.key: p.value for p in model.metadata_props}["irsde_card"])
    assert card.checkpoint_sha256 == read_checkpoint(load_case("unet_nf8_depth4").weights).sha256


def test_an_export_that_differs_fails_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One wrong weight in the written graph, as a defect of the converter would have it."""

    def write_wrong(model: torch.nn.Module, card: ModelCard, path: Path, opset: int) -> None:
        to_onnx.write_onnx(model, card, path, opset)
        graph = onnx.load(path)
        tensor = next(t for t in graph.graph.initializer if t.name == "final_conv.bias")
        values = onnx.numpy_helper.to_array(tensor) + np.float32(0.05)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        onnx.save(graph, path)

    monkeypatch.setattr(exporter, "write_onnx", write_wrong)
    _, checkpoint, description = describe_random("unet depth 1")
    seen: list[bool] = []
    with pytest.raises(ParityError, match="differs from PyTorch"):
        exporter.export_checkpoint(
            checkpoint, description.card, tmp_path / "m.onnx", on_comparison=lambda c: seen.append(c.passed)
        )
    assert False in seen
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_is_wrong_for_batches_alone_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first entry's timestep for all of them: a trajectory of one picture does not show it."""

    def write_wrong(model: torch.nn.Module, card: ModelCard, path: Path, opset: int) -> None:
        to_onnx.write_onnx(model, card, path, opset)
        graph = onnx.load(path)
        for node in graph.graph.node:
            node.input[:] = ["first" if name == "t" else name for name in node.input]
        graph.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "zero"))
        graph.graph.node.insert(0, onnx.helper.make_node("Gather", ["t", "zero"], ["first"]))
        onnx.save(graph, path)

    monkeypatch.setattr(exporter, "write_onnx", write_wrong)
    _, checkpoint, description = describe_random("nafnet pixel")
    with pytest.raises(ParityError, match="the exported graph differs from PyTorch: eps 3x3x4x8 t=1,10,20 is off by"):
        exporter.export_checkpoint(checkpoint, description.card, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_failed_exports_leave_an_older_file_alone(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"older")
    _, checkpoint, description = describe_random("unet depth 1")
    with pytest.raises(InvalidValueError, match="opset must be from 17 to 20"):
        exporter.export_checkpoint(checkpoint, description.card, tmp_path / "m.onnx", opset=9)
    assert (tmp_path / "m.onnx").read_bytes() == b"older"
    with pytest.raises(OutputFileError, match="is a folder"):
        exporter.export_checkpoint(checkpoint, description.card, tmp_path)


def test_weights_above_two_gigabytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, description = describe_random("unet depth 1")
    numbers = sum(parameter.numel() for parameter in model.parameters())
    monkeypatch.setattr(to_onnx, "PROTOBUF_LIMIT", 4 * numbers - 1)  # bytes, four for each
    with pytest.raises(InvalidValueError, match="2 GB at most"):
        to_onnx.write_onnx(model, description.card, tmp_path / "m.onnx")


def test_trajectory_errors_are_measured_on_each_engines_own_states(unet_onnx: Path) -> None:
    """A reference with every weight changed by 1e-4: the error is seen, at every state, and fails."""
    case = load_case("unet_nf8_depth4")
    engine = open_engine(unet_onnx)
    true = TorchEngine.open(case.weights, card=engine.card)
    trajectory = compare_trajectories(engine, true, Sampling(sampler="posterior", steps=20))
    assert trajectory.passed
    assert trajectory.t[0] == 100
    assert trajectory.t[-1] == 0
    assert trajectory.steps[0].max_abs == 0, "both start from the same noise"
    assert trajectory.worst.relative < 2e-6

    class Shifted:
        card, name = engine.card, "shifted"

        def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
            return true(x, mu, t) + np.float32(0.05)

    shifted = compare_trajectories(engine, Shifted(), Sampling(sampler="mean", steps=20))
    assert not shifted.passed
    assert shifted.growth > 1
    # the first step's error is the shift times the table's c, wherever the state is
    from irsde_deploy import plan_steps

    table = plan_steps(engine.card.sde, "mean", 20)
    assert shifted.steps[1].max_abs == pytest.approx(0.05 * abs(table.c[0]), rel=1e-3)


def test_a_comparison_with_nan_fails() -> None:
    a = np.array([1.0, np.nan])
    assert not parity.compare("nan", a, np.array([1.0, 2.0]), 1.0).passed
    with pytest.raises(ParityError):
        parity.require([parity.compare("nan", a, np.array([1.0, 2.0]), 1.0)], "this")
