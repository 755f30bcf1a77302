"""The whole loop as one graph: one call of it gives what the loop around the score graph gives."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from places import ASSETS, ROOT

from irsde_deploy.core.card import ModelCard
from irsde_deploy.core.example import example_picture
from irsde_deploy.core.noise import MAX_SEED, normal_field
from irsde_deploy.core.samplers import SAMPLERS
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.embedding import whole_loop_file
from irsde_deploy.embedding.whole_loop_file import export_whole_loop
from irsde_deploy.errors import EngineError, InvalidValueError, NotFiniteError, ParityError
from irsde_deploy.graphs import whole_loop
from irsde_deploy.graphs.noise_nodes import write_normals
from irsde_deploy.graphs.onnx_file import read_model
from irsde_deploy.graphs.whole_loop import LoopPlan, plan_loop
from irsde_deploy.graphs.writer import GraphWriter
from irsde_deploy.precision.lowering import lower_model
from irsde_deploy.restorer import Restorer
from irsde_deploy.runtimes.engines.onnx_engine import OnnxEngine
from irsde_deploy.runtimes.opening import open_engine
from irsde_deploy.system.libraries import openvino_core

TOLERANCE = 1e-5
"""Relative. ONNX Runtime gets the same operations in the same order, and fuses and lays them out as it likes; OpenVINO
adds in another order. That is 1e-6 of eps, which a step multiplies by up to 1/a_t."""

SETTINGS: dict[str, dict[str, Any]] = {
    "mean": {"sampler": "mean", "steps": 4},
    "posterior": {"sampler": "posterior", "steps": 4},
    "ddim": {"sampler": "ddim", "steps": 3, "debias": True},
    "sde-2m": {"sampler": "sde-2m", "steps": 4},
    "ode-2m": {"sampler": "ode-2m", "steps": 4, "t0": 80},
    "euler": {"sampler": "euler", "t0": 4},
    "ode": {"sampler": "ode", "t0": 4},
    "mean, clipped": {"sampler": "mean", "steps": 3, "clip": True},
    "sde-2m, clipped, debiased": {"sampler": "sde-2m", "steps": 4, "clip": True, "debias": True},
    "a single step": {"sampler": "mean", "steps": 1},
}
for sampler in SAMPLERS:  # those that were added since
    SETTINGS.setdefault(sampler, {"sampler": sampler, "steps": 4})

SIZES = [(2, 21, 37), (1, 3, 16), (2, 1, 1), (1, 16, 32)]
"""Sides that need padding; one shorter than its padding beside one without any; a pixel; none."""


def normals(plan: LoopPlan, batch: int, channels: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(7)
    return rng.standard_normal((len(plan.table) + 1, batch, channels, height, width)).astype(np.float32)


def engine_of(path: Path) -> OnnxEngine:
    """The graph as it was exported; `open_engine` would rewrite it for CPUs, which adds in another order."""
    return OnnxEngine.from_bytes(path.read_bytes(), read_model(path)[1])


def expected(engine: Any, lq: np.ndarray, **settings: Any) -> np.ndarray:
    """(B, C, H, W) restored by a Restorer around the score graph."""
    return Restorer(engine)(lq.transpose(0, 2, 3, 1), **settings).transpose(0, 3, 1, 2)


def written(source: Path, path: Path, seeded: bool = False, **settings: Any) -> tuple[LoopPlan, ModelCard]:
    model, card = read_model(source)
    plan = plan_loop(card, Sampling(**settings), seeded)
    export_whole_loop(model, card, plan, path)
    return plan, card


GAIN = {"unet_nf8_depth4": 30, "ConditionalUNet": 1e-3}
"""On the last convolution of networks with random weights: eps of a few units, as a trained one's, so that it counts in
the result and nothing diverges."""


@pytest.fixture(scope="module")
def score_of(onnx_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Name -> score graph whose eps is neither tiny nor huge."""
    folder = tmp_path_factory.mktemp("score")

    def path_of(name: str) -> Path:
        path = folder / f"{name}.onnx"
        if not path.exists():
            model = onnx.load(onnx_of(name))
            last = next(node for node in reversed(model.graph.node) if node.op_type == "Conv")
            for tensor in model.graph.initializer:
                if tensor.name in last.input:
                    values = onnx.numpy_helper.to_array(tensor) * np.float32(GAIN.get(name, 1))
                    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
            onnx.save(model, path)
        return path

    return path_of


def session_of(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def assert_equal(restored: np.ndarray, wanted: np.ndarray) -> None:
    assert restored.shape == wanted.shape
    assert restored.dtype == np.float32
    assert np.abs(restored - wanted).max() <= TOLERANCE * np.abs(wanted).max()


@pytest.mark.parametrize("seeded", [False, True])
@pytest.mark.parametrize("provider", ["onnxruntime", "openvino"])
def test_the_margin_is_in_the_graph(provider: str, seeded: bool, small_onnx: Path, tmp_path: Path) -> None:
    """Also where it is wider than the picture. OpenVINO cannot draw noise (docs/whole-loop.md)."""
    if provider == "openvino":
        pytest.importorskip("openvino", reason="OpenVINO is not installed (extra openvino)")
    if provider == "openvino" and seeded:
        pytest.skip("OpenVINO computes int64 as int32")
    model, card = read_model(small_onnx)
    card, path = replace(card, margin=7), tmp_path / "a.loop.onnx"
    plan = plan_loop(card, Sampling(), seeded)
    export_whole_loop(model, card, plan, path)
    session = session_of(path)
    engine = OnnxEngine.from_bytes(small_onnx.read_bytes(), card)
    for batch, height, width in SIZES:
        lq = np.random.default_rng(0).random((batch, 3, height, width), dtype=np.float32)
        noise = normals(plan, batch, 3, height + 14, width + 14)
        second = {"seed": np.array([5], np.uint64)} if seeded else {"noise": noise[list(plan.draws)]}
        if provider == "openvino":
            compiled = openvino_core().compile_model(path, "CPU")
            (restored,) = compiled({"lq": lq, **second}).values()
        else:
            (restored,) = session.run(None, {"lq": lq, **second})
        assert_equal(restored, expected(engine, lq, **({"seed": 5} if seeded else {"noise": noise})))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_one_call_is_the_loop_of_a_small_network(settings: dict[str, Any], small_onnx: Path, tmp_path: Path) -> None:
    """Sides as long as their padding, longer, and shorter."""
    plan, card = written(small_onnx, path := tmp_path / "a.onnx", **settings)
    session = session_of(path)
    engine = OnnxEngine.from_bytes(small_onnx.read_bytes(), card)
    for batch, height, width in ((1, 2, 8), (2, 5, 2), (1, 1, 3)):
        lq = np.random.default_rng(0).random((batch, 3, height, width), dtype=np.float32)
        noise = normals(plan, *lq.shape)
        (restored,) = session.run(None, {"lq": lq, "noise": noise[list(plan.draws)]})
        assert_equal(restored, expected(engine, lq, noise=noise, **settings))


QUICK = {"unet_nf8_depth4": ("posterior",), "nafnet_w16": ("sde-2m, clipped, debiased", "a single step")}
"""Settings in which the golden networks loop, too; the small network does in all of them, and the rest is slow."""


def networks_and_settings() -> Iterator[Any]:
    for name, quick in QUICK.items():
        for words, settings in SETTINGS.items():
            marks = () if words in quick else pytest.mark.slow
            yield pytest.param(name, settings, marks=marks, id=f"{name}-{words}")


@pytest.mark.parametrize(("name", "settings"), list(networks_and_settings()))
def test_one_call_is_the_loop(
    name: str, settings: dict[str, Any], score_of: Callable[[str], Path], tmp_path: Path
) -> None:
    source, path = score_of(name), tmp_path / "a.loop.onnx"
    plan, _ = written(source, path, **settings)
    session, engine = session_of(path), engine_of(source)
    rng = np.random.default_rng(0)
    for batch, height, width in SIZES:
        lq = rng.random((batch, 3, height, width), dtype=np.float32)
        noise = normals(plan, *lq.shape)
        (restored,) = session.run(None, {"lq": lq, "noise": noise[list(plan.draws)]})
        assert_equal(restored, expected(engine, lq, noise=noise, **settings))


@pytest.mark.parametrize("name", ["unet_nf8_depth4", "nafnet_w16"])
def test_openvino_gives_the_same(name: str, score_of: Callable[[str], Path], tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed (extra openvino)")
    settings = {**SETTINGS["sde-2m, clipped, debiased"], "t0": 60}
    plan, _ = written(score_of(name), tmp_path / "a.onnx", **settings)
    core, engine = openvino_core(), engine_of(score_of(name))
    compiled = core.compile_model(core.read_model(tmp_path / "a.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    rng = np.random.default_rng(1)
    for batch, height, width in SIZES:
        lq = rng.random((batch, 3, height, width), dtype=np.float32)
        noise = normals(plan, *lq.shape)
        restored = compiled({"lq": lq, "noise": noise[list(plan.draws)]})[0]
        assert_equal(restored, expected(engine, lq, noise=noise, **settings))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        pytest.param("unet_nf8_depth4", SETTINGS["sde-2m, clipped, debiased"], marks=pytest.mark.slow),
        pytest.param("nafnet_w16", SETTINGS["sde-2m, clipped, debiased"], marks=pytest.mark.slow),
        pytest.param("nafnet_w16", SETTINGS["mean"], marks=pytest.mark.slow),
        ("ConditionalUNet", {**SETTINGS["mean"], "t0": 80}),
        ("ConditionalNAFNet", {**SETTINGS["sde-2m, clipped, debiased"], "t0": 80}),
    ],
    ids=["unet", "nafnet", "nafnet mean", "denoising unet", "denoising nafnet"],
)
def test_tensorrt_rtx_builds_it(
    name: str, settings: dict[str, Any], score_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """From the parser to the plan, for a range of sizes that need padding, without a GPU."""
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (extra rtx)")
    from irsde_deploy.runtimes.tensorrt.backend import make_logger

    model, card = read_model(score_of(name))
    plan = plan_loop(card, Sampling(**settings))
    graph = whole_loop.whole_loop(model, card, plan)
    builder = trt.Builder(logger := make_logger(trt))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(graph.SerializeToString()), [parser.get_error(i).desc() for i in range(parser.num_errors)]
    inputs = [network.get_input(i).name for i in range(network.num_inputs)]
    assert inputs == ["lq", *([plan.noise_input] if plan.noise_input else [])]
    profile, config = builder.create_optimization_profile(), builder.create_builder_config()
    for entry, draws in zip(inputs, ((), (len(plan.draws),)), strict=False):
        profile.set_shape(entry, *((*draws, *s) for s in ((1, 3, 17, 30), (1, 3, 64, 64), (2, 3, 130, 129))))
    config.add_optimization_profile(profile)
    built = builder.build_serialized_network(network, config)
    weights = sum(4 * int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
    assert built is not None
    assert built.nbytes > weights, "the weights are inside"


@pytest.mark.parametrize("precision", ["fp16", "mixed"])
def test_lowered_graphs_loop_too(precision: str, score_of: Callable[[str], Path], tmp_path: Path) -> None:
    """Against the lowered graph's own loop, not FP32's: rounding to half precision happens at the same places."""
    model, card = read_model(score_of("nafnet_w16"))
    lowered = lower_model(model, card, precision, [example_picture(card, 1, 16, 16)])
    plan = plan_loop(lowered.card, Sampling(sampler="sde-2m", steps=4))
    export_whole_loop(lowered.model, lowered.card, plan, tmp_path / "a.onnx")
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert ModelCard.from_json(metadata["irsde_card"]).precision == precision
    assert tuple(json.loads(metadata["irsde_fp32_nodes"])) == lowered.kept


def test_latents_loop_and_cannot_be_clipped(score_of: Callable[[str], Path], tmp_path: Path) -> None:
    source = score_of("latent_nafnet_w8")
    plan, card = written(source, tmp_path / "a.onnx", sampler="posterior", steps=5)
    lq = np.random.default_rng(0).normal(size=(1, card.channels, 5, 9)).astype(np.float32)
    noise = normals(plan, *lq.shape)
    (restored,) = session_of(tmp_path / "a.onnx").run(None, {"lq": lq, "noise": noise[list(plan.draws)]})
    assert_equal(restored, expected(engine_of(source), lq, sampler="posterior", steps=5, noise=noise))
    with pytest.raises(InvalidValueError, match="clip is for pictures"):
        plan_loop(card, Sampling(clip=True))


@pytest.mark.parametrize("name", ["ConditionalUNet", "ConditionalNAFNet"])
@pytest.mark.parametrize("sampler", ["mean", "posterior"])
def test_denoising_models_start_at_the_picture(
    name: str, sampler: str, score_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """No normals for the initial state; with `mean` the graph maps lq alone."""
    source, path = score_of(name), tmp_path / "a.onnx"
    settings = {"sampler": sampler, "steps": 4, "noise_level": 25.0}
    plan, card = written(source, path, **settings)
    assert plan.draws == (() if sampler == "mean" else (1, 2, 3))
    lq = np.random.default_rng(0).random((2, 3, 5, 9), dtype=np.float32)
    noise = normals(plan, *lq.shape)
    given = {"noise": noise[list(plan.draws)]} if plan.draws else {}
    assert [entry.name for entry in onnx.load(path).graph.input] == ["lq", *given]
    (restored,) = session_of(path).run(None, {"lq": lq, **given})
    assert_equal(restored, expected(engine_of(source), lq, noise=noise, **settings))
    with pytest.raises(
        InvalidValueError, match="starts at the timestep that matches the picture's noise: give `noise_level`"
    ):
        plan_loop(card)


@pytest.mark.parametrize("seed", [0, 12345, MAX_SEED])
def test_the_graph_draws_the_toolkits_normals(seed: int) -> None:
    """Philox word for word, Box-Muller in float64: after rounding to float32 at most the last place differs."""
    w = GraphWriter("noise")
    addresses, channels = (0, 3, 2**24 - 1), 5
    height, width = (w("Shape", "like", start=axis, end=axis + 1) for axis in (0, 1))
    w("Identity", write_normals(w, "seed", addresses, channels, height, width), output="z")
    inputs = [
        helper.make_tensor_value_info("seed", TensorProto.UINT64, [1]),
        helper.make_tensor_value_info("like", TensorProto.BOOL, ["height", "width"]),
    ]
    outputs = [helper.make_tensor_value_info("z", TensorProto.FLOAT, [3, 1, channels, "height", "width"])]
    graph = helper.make_graph(w.nodes, "noise", inputs, outputs, list(w.constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for height, width in [(1, 1), (3, 130), (64, 7)]:
        like = np.zeros((height, width), np.bool_)
        (z,) = session.run(None, {"seed": np.array([seed], np.uint64), "like": like})
        wanted = np.stack([normal_field(seed, step, (channels, height, width))[None] for step in addresses])
        np.testing.assert_array_max_ulp(z, wanted, maxulp=1)
        assert (z == wanted).mean() > 0.9999


@pytest.mark.parametrize("sampler", ["mean", "sde-2m"])
def test_a_seed_restores_as_the_restorers(sampler: str, score_of: Callable[[str], Path], tmp_path: Path) -> None:
    source, path = score_of("nafnet_w16"), tmp_path / "a.onnx"
    written(source, path, sampler=sampler, steps=4, seeded=True)
    session, engine = session_of(path), engine_of(source)
    lq = np.random.default_rng(0).random((2, 3, 21, 37), dtype=np.float32)
    for seed in (0, MAX_SEED):
        (restored,) = session.run(None, {"lq": lq, "seed": np.array([seed], np.uint64)})
        assert_equal(restored, expected(engine, lq, sampler=sampler, steps=4, seed=seed))


def test_openvino_does_not_pass_off_other_noise(score_of: Callable[[str], Path], tmp_path: Path) -> None:
    """It computes int64 as int32: Philox's words come out negative, and their logarithms are not numbers."""
    pytest.importorskip("openvino", reason="OpenVINO is not installed (extra openvino)")
    source, path = score_of("nafnet_w16"), tmp_path / "a.onnx"
    written(source, path, sampler="mean", steps=2, seeded=True)
    core = openvino_core()
    lq, seed = np.full((1, 3, 16, 16), 0.5, np.float32), np.array([5], np.uint64)
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    restored = compiled({"lq": lq, "seed": seed})[0]
    if np.isfinite(restored).all():  # one day it may compute in 64 bits
        assert_equal(restored, expected(engine_of(source), lq, sampler="mean", steps=2, seed=5))


def test_a_seed_needs_opset_18_and_noise_does_not(small_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(small_onnx)
    model.opset_import[0].version = 17
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(InvalidValueError, match="needs opset 18: this graph has 17"):
        written(tmp_path / "a.onnx", tmp_path / "b.onnx", seeded=True)
    written(tmp_path / "a.onnx", tmp_path / "b.onnx", sampler="sde-2m", steps=2)
    assert onnx.load(tmp_path / "b.onnx").opset_import[0].version == 17


def test_weights_and_nodes_are_stored_once(score_of: Callable[[str], Path], tmp_path: Path) -> None:
    source = score_of("unet_nf8_depth4")
    for steps in (2, 20):
        written(source, tmp_path / f"{steps}.onnx", sampler="posterior", steps=steps)
        assert (tmp_path / f"{steps}.onnx").stat().st_size < 1.02 * source.stat().st_size
    few, many = (onnx.load(tmp_path / f"{steps}.onnx").graph for steps in (2, 20))
    assert len(few.node) == len(many.node)
    (loop,) = (node for node in many.node if node.op_type == "Loop")
    (body,) = (entry.g for entry in loop.attribute)
    assert list(body.initializer) == list(onnx.load(source).graph.initializer)
    assert sum(len(tensor.raw_data) for tensor in many.initializer) < 2**14, "the table and a few numbers"


def test_nodes_may_have_no_names(small_onnx: Path, tmp_path: Path) -> None:
    assert {node.name for node in onnx.load(small_onnx).graph.node} == {""}
    written(small_onnx, tmp_path / "a.onnx", sampler="mean", steps=2)  # raises where both loops differ


def test_the_graph_says_what_it_holds(score_of: Callable[[str], Path], tmp_path: Path) -> None:
    source, path = score_of("unet_nf8_depth4"), tmp_path / "a.onnx"
    plan, card = written(source, path, sampler="posterior", steps=4, clip=True)
    model = onnx.load(path)
    onnx.checker.check_model(str(path), full_check=True)
    shapes = {
        entry.name: [d.dim_param or d.dim_value for d in entry.type.tensor_type.shape.dim]
        for entry in (*model.graph.input, *model.graph.output)
    }
    (body,) = (entry.g for node in model.graph.node for entry in node.attribute if entry.name == "body")
    read = {name for graph in (model.graph, body) for node in graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= read, "ONNX Runtime warns of others"
    picture = ["batch", 3, "height", "width"]
    assert shapes == {"lq": picture, "noise": [4, *picture], "restored": picture}
    assert plan.draws == (0, 1, 2, 3), "the last step draws nothing"
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert ModelCard.from_json(metadata["irsde_card"]) == card
    loop = json.loads(metadata["irsde_loop"])
    table = card.plan(sampler="posterior", steps=4).table
    assert loop["table"] == {name: getattr(table, name).tolist() for name in "tacdspr"}
    assert (loop["sampler"], loop["steps"], loop["clip"], loop["debias"]) == ("posterior", 4, True, False)
    assert (loop["noise_input"], loop["draws"], loop["start"]) == ("noise", [0, 1, 2, 3], table.start)


def test_only_what_some_step_draws_is_an_input(score_of: Callable[[str], Path]) -> None:
    card = read_model(score_of("unet_nf8_depth4"))[1]
    assert plan_loop(card, Sampling(sampler="mean", steps=10)).draws == (0,)
    assert plan_loop(card, Sampling(sampler="euler", t0=3)).draws == (0, 1, 2, 3)
    assert plan_loop(card, Sampling(sampler="sde-2m", steps=3)).draws == (0, 1, 2)


def test_a_graph_that_differs_is_not_kept(
    score_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One coefficient of the last step off by a thousandth, as a defect of the writer would have it."""

    def write_wrong(model: onnx.ModelProto, card: ModelCard, plan: LoopPlan) -> onnx.ModelProto:
        c = plan.table.c.copy()
        c[-1] *= 1.001
        return whole_loop.whole_loop(model, card, replace(plan, table=replace(plan.table, c=c)))

    monkeypatch.setattr(whole_loop_file, "whole_loop", write_wrong)
    with pytest.raises(ParityError, match="the whole loop differs from the loop in NumPy: restored 1x3x31x29, 4 steps"):
        written(score_of("nafnet_w16"), tmp_path / "a.onnx", sampler="mean", steps=4)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_diverge_are_not_kept(onnx_of: Callable[[str], Path], tmp_path: Path) -> None:
    model, card = read_model(onnx_of("nafnet_w16"))
    bias = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("ending.bias"))
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(bias.dims, np.inf, np.float32), bias.name))
    with pytest.raises(NotFiniteError, match="after step 1 of 10"):
        export_whole_loop(model, card, plan_loop(card, Sampling(sampler="mean", steps=10)), tmp_path / "a.onnx")
    with pytest.raises(NotFiniteError, match=r"diverges on these weights .*: are they trained\?"):
        written(onnx_of("ConditionalUNet"), tmp_path / "a.onnx", sampler="mean", steps=4, t0=80)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_becomes_a_whole_loop(
    succeeds: Callable[..., tuple[str, str]], tmp_path: Path, fails_with: Callable[..., None]
) -> None:
    """With the recipe's quality, then inspected, then refused where a score network is wanted."""
    checkpoint = ASSETS / "derain_nafnet_w16.safetensors"
    path = tmp_path / "derain.loop.onnx"
    printed, _ = succeeds("export", checkpoint, "--whole-loop", "--quality", "balanced", "-o", path)
    assert (
        "whole loop: mean, 10 steps; inputs lq (batch, 3, height, width), noise (1, batch, 3, height, width)" in printed
    )
    assert "compared with the loop in NumPy" in printed
    printed, _ = succeeds("inspect", path)
    assert "kind: whole loop as an ONNX graph" in printed
    assert "sampler: mean\n  steps: 10" in printed
    picture = ASSETS / "rain.png"
    sentence = "this graph is a whole loop, which a host calls once (docs/whole-loop.md), and no score network"
    fails_with(1, sentence, "run", "--engine", path, picture, "-o", tmp_path / "o.png")
    fails_with(1, sentence, "build", path, "-o", tmp_path / "a.plan", "--backend", "tensorrt-rtx")
    fails_with(1, sentence, "export", path, "--whole-loop", "-o", tmp_path / "b.onnx")
    with pytest.raises(EngineError, match="no score network"):
        open_engine(path, provider="openvino")
    assert list(tmp_path.iterdir()) == [path]


def test_an_exported_graph_becomes_one_without_pytorch(score_of: Callable[[str], Path], tmp_path: Path) -> None:
    program = "import sys; sys.modules['torch'] = None; from irsde_deploy.__main__ import main; main()"
    (tmp_path / "derain.onnx").write_bytes(score_of("nafnet_w16").read_bytes())
    command = ["export", str(tmp_path / "derain.onnx"), "--whole-loop", "--quality", "draft", "--noise-input", "seed"]
    done = subprocess.run([sys.executable, "-c", program, *command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "whole loop: mean, 2 steps; inputs lq (batch, 3, height, width), seed (1)" in done.stdout
    assert [entry.name for entry in session_of(tmp_path / "derain.loop.onnx").get_inputs()] == ["lq", "seed"]


def documented(language: str) -> str:
    page = (ROOT / "docs" / "whole-loop.md").read_text()
    return page.split(f"```{language}\n")[1].split("```")[0]


@pytest.fixture
def host(score_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with derain.loop.onnx and rain.png (64x48), as the documented hosts want it."""
    monkeypatch.chdir(tmp_path)
    written(score_of("nafnet_w16"), tmp_path / "derain.loop.onnx", sampler="sde-2m", steps=3)
    rain = cv2.imread(str(ASSETS / "rain.png"))
    cv2.imwrite("rain.png", rain[:48, :64])
    return tmp_path


def test_the_documented_python_host_restores(host: Path, score_of: Callable[[str], Path]) -> None:
    exec(documented("python"), {})
    picture = np.ascontiguousarray(cv2.imread("rain.png")[:, :, ::-1])
    noise = np.zeros((4, 1, 3, 48, 64), np.float32)
    noise[:3] = np.random.default_rng(0).standard_normal((3, 1, 3, 48, 64), dtype=np.float32)
    wanted = Restorer(engine_of(score_of("nafnet_w16")))(picture, sampler="sde-2m", steps=3, noise=noise)
    difference = cv2.imread("restored.png")[:, :, ::-1].astype(int) - wanted
    assert np.abs(difference).max() <= 1, "a value between two levels may be rounded to either"
    assert (difference == 0).mean() > 0.999


def test_the_documented_cpp_host_restores(host: Path, score_of: Callable[[str], Path]) -> None:
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed (extra openvino)")
    package = Path(openvino.__file__).parent
    libraries = list((package / "libs").glob("libopenvino.so*"))
    if shutil.which("g++") is None or not libraries or not (package / "include" / "openvino" / "openvino.hpp").exists():
        pytest.skip("needs g++ and OpenVINO's headers")
    rng = np.random.default_rng(0)
    lq = rng.random((1, 3, 21, 37), dtype=np.float32)
    noise = rng.standard_normal((4, *lq.shape)).astype(np.float32)
    lq.tofile("lq")
    noise[:3].tofile("noise")
    main = """
#include <cstdio>
static std::vector<float> read(const char* name, size_t count) {
    std::vector<float> values(count);
    std::FILE* file = std::fopen(name, "rb");
    if (!file || std::fread(values.data(), 4, count, file) != count) std::exit(1);
    return values;
}
int main() {
    std::vector<float> lq = read("lq", 3 * 21 * 37), noise = read("noise", 9 * 21 * 37);
    std::vector<float> restored = restore(lq, noise, 3, 21, 37);
    std::fwrite(restored.data(), 4, restored.size(), std::fopen("restored", "wb"));
}
"""
    Path("host.cpp").write_text(documented("cpp") + main)
    paths = [f"-I{package / 'include'}", str(libraries[0]), f"-Wl,-rpath,{package / 'libs'}"]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(openvino.__version__ > '2026')}"  # docs/dependencies.md
    subprocess.run(["g++", "-std=c++17", abi, "host.cpp", *paths, "-o", "host"], check=True, timeout=300)
    subprocess.run(["./host"], check=True, timeout=300)
    restored = np.fromfile("restored", np.float32).reshape(lq.shape)
    assert_equal(restored, expected(engine_of(score_of("nafnet_w16")), lq, noise=noise, sampler="sde-2m", steps=3))


def test_options_that_do_not_fit_are_refused(score_of: Callable[[str], Path], tmp_path: Path, fails_with) -> None:
    checkpoint = ASSETS / "denoise_nafnet_w16.safetensors"
    source, output = score_of("nafnet_w16"), tmp_path / "a.onnx"
    fails_with(2, "--steps, --clip: for a whole loop", "export", checkpoint, "-o", output, "--steps", "5", "--clip")
    fails_with(2, "--engine builds from the score graph", "export", checkpoint, "--whole-loop", "--engine", "a.plan")
    fails_with(2, "--opset: for checkpoints", "export", source, "-o", output, "--whole-loop", "--opset", "18")
    fails_with(2, "must not replace the graph", "export", source, "-o", source, "--whole-loop", "--overwrite")
    fails_with(2, "must end in .onnx", "export", source, "-o", tmp_path / "a.plan", "--whole-loop")
    fails_with(2, "leave out one or the others", "export", source, "--whole-loop", "--quality", "fast", "--steps", "3")
    assert list(tmp_path.iterdir()) == []
