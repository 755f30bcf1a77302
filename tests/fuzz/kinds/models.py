"""What models come in: ONNX files, TensorRT plans, checkpoints; each with a card."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx

from irsde_deploy.core.card import METADATA_KEY, ModelCard
from irsde_deploy.core.sde import MeanRevertingSDE
from irsde_deploy.graphs.onnx_file import read_model, set_metadata
from irsde_deploy.reports.inspection import format_inspection, inspect_file
from irsde_deploy.restorer import load

from .. import damage, values
from ..formats import archives
from ..formats.protobuf import PROTOBUF
from .kind import Kind, good_files, refused, require


def _make_onnx(folder: Path) -> None:
    from small_network import write_small_network

    from irsde_deploy.embedding.whole_loop_file import export_whole_loop
    from irsde_deploy.graphs.whole_loop import plan_loop

    path = write_small_network(folder / "small.onnx")
    model, card = read_model(path)
    set_metadata(model, "irsde_int8", json.dumps({"layers": ["a"], "rest": "fp32", "float_layers": []}))
    onnx.save(model, folder / "int8.onnx")
    model, card = read_model(path)
    export_whole_loop(model, card, plan_loop(card), folder / "whole.onnx")


def _damage_onnx(rng: Random, good: Path, target: Path) -> Path:
    path = rng.choice((*good_files(good), good / "small.onnx"))
    data = path.read_bytes()
    kind = rng.randrange(10)
    if kind < 3:
        data = _other_card(rng, data)
    elif kind < 5:
        data = _other_graph(rng, data)
    elif kind < 8:
        data = PROTOBUF.spoil(rng, data)
    else:
        data = damage.spoil(rng, data)
    made = target / "model.onnx"
    made.write_bytes(data)
    return made


def _other_card(rng: Random, data: bytes) -> bytes:
    """Another text under a key of the metadata. It is put in as bytes, since it may not be UTF-8."""
    model = onnx.ModelProto.FromString(data)
    entry = rng.choice(model.metadata_props)
    text = entry.value.encode()
    mark = "irsde-mark-" + "x" * 20
    entry.value = mark
    spoilt = values.spoil_json(rng, text)
    if rng.random() < 0.1:
        model.metadata_props.add(key=METADATA_KEY, value="{}")
    nodes = PROTOBUF.parse(model.SerializeToString())
    for place in _all(nodes):
        if place.data == mark.encode():
            place.data = spoilt
    return PROTOBUF.join(nodes)


def _all(nodes: list[Any]) -> Iterator[Any]:
    for node in nodes:
        yield node
        if node.children is not None:
            yield from _all(node.children)


def _other_graph(rng: Random, data: bytes) -> bytes:
    """A graph that can be parsed, and is another one: types, shapes, names, operators, attributes."""
    model = onnx.ModelProto.FromString(data)
    graph = model.graph
    kind = rng.randrange(9)
    tensors = [*graph.input, *graph.output]
    if kind == 0:
        rng.choice(tensors).type.tensor_type.elem_type = rng.randrange(30)
    elif kind == 1:
        sides = rng.choice([tensor for tensor in tensors if tensor.type.tensor_type.shape.dim])
        side = rng.choice(sides.type.tensor_type.shape.dim)
        side.dim_value = rng.choice((0, 1, 4, -1, 2**31, 2**62))
    elif kind == 2:
        rng.choice(tensors).name = rng.choice(("", "x", "eps", "lq", "\x1b[2J", "a" * 5000))
    elif kind == 3:
        rng.choice(graph.node).op_type = rng.choice(("Add", "Loop", "If", "Conv", "NoSuch", "", "Identity", "Reshape"))
    elif kind == 4:
        rng.choice(graph.node).domain = rng.choice(("com.microsoft", "ai.onnx.ml", "x\ny", "org.openvinotoolkit"))
    elif kind == 5:
        tensor = rng.choice(graph.initializer)
        tensor.dims[:] = [rng.choice((0, 1, 3, -1, 2**40)) for _ in range(rng.randrange(5))]
    elif kind == 6:
        tensor = rng.choice(graph.initializer)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=rng.choice(("/etc/passwd", "../x", "weights.bin", "", "\0")))
        tensor.external_data.add(key="length", value=rng.choice(("10", "-1", "99999999999", "x")))
    elif kind == 7:
        model.opset_import[0].version = rng.choice((0, 1, 7, 99, 2**60, -1))
    else:
        model.ir_version = rng.choice((0, 1, 3, 99, 2**60))
    return bytes(model.SerializeToString())


def _read_onnx(path: Path, outputs: Path) -> None:
    """Inspect it, read it without a runtime, open it, and restore a small picture with it."""
    del outputs
    kinds: list[str] = []
    error = refused(lambda: kinds.append(_inspect(path)["kind"]))
    if kinds == ["whole loop as an ONNX graph"]:
        return
    other = refused(lambda: read_model(path))
    engine = load(path)
    picture = np.full((6, 7, engine.card.channels), 0.5, np.float32)
    if engine.card.multiple_of <= 64 and _is_small(path, engine.card):
        engine(picture, sampler="mean", steps=1)
    if error is not None or other is not None:
        raise error or other  # type: ignore[misc]


def _is_small(path: Path, card: ModelCard) -> bool:
    """Whether what a graph computes of a small picture is small: a graph is a program, which may ask for any size."""
    model = onnx.load(path)
    side = 8 * card.multiple_of
    for tensor in model.graph.input:
        dims = tensor.type.tensor_type.shape.dim
        for dim, size in zip(dims, (1, card.channels, side, side), strict=False):
            dim.dim_value = size
    for tensor in model.graph.output:
        tensor.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:
        return False
    sizes = [tensor.type.tensor_type.shape.dim for tensor in (*inferred.value_info, *inferred.output)]
    return all(0 < math.prod(dim.dim_value for dim in dims) < 10_000_000 for dims in sizes if dims)


def _inspect(path: Path) -> dict[str, Any]:
    description = inspect_file(path)
    lines = format_inspection(description)
    require(not any(ord(c) < 32 and c != "\n" for c in lines), "inspect prints control characters")
    return description


def _model_card() -> ModelCard:
    settings = {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}
    sde = MeanRevertingSDE(max_sigma=10, T=100, schedule="cosine", eps=0.005)
    return ModelCard("ConditionalNAFNet", settings, 3, 2, "zero", sde)


def _make_plan(folder: Path) -> None:
    from irsde_deploy.runtimes.tensorrt.options import BuildOptions
    from irsde_deploy.runtimes.tensorrt.plan_card import PlanCard
    from irsde_deploy.runtimes.tensorrt.profiles import Profile

    small = Profile((1, 64, 64), (1, 256, 256), (4, 512, 512))
    for backend, capabilities in (("tensorrt", ("9.0",)), ("tensorrt-rtx", ())):
        options = BuildOptions(backend, (small, small))
        card = PlanCard(_model_card(), options, "10.13.3.9", "NVIDIA H100", capabilities, "a b.onnx", "0" * 64)
        (folder / f"{backend}.json").write_bytes(card.network_name().encode())


def _damage_plan(rng: Random, good: Path, target: Path) -> Path:
    name = rng.choice(good_files(good)).read_bytes()
    prefix, card = name[: name.index(b"{")], name[name.index(b"{") :]
    if rng.random() < 0.9:  # else only what is around it changes
        card = values.spoil_json(rng, card) if rng.random() < 0.8 else damage.spoil(rng, card)
    parts = [rng.randbytes(rng.randrange(300)), prefix, card, rng.randbytes(rng.randrange(300))]
    if rng.random() < 0.2:
        parts[0:0] = [prefix, rng.choice((b"", b"{", b'{"schema":', b'{"schema":1}', b"[" * 3000))]
    if rng.random() < 0.1:
        parts[1] = damage.spoil(rng, prefix)
    made = target / "model.plan"
    made.write_bytes(b"".join(parts) or b"x")
    return made


def _read_plan(path: Path, outputs: Path) -> None:
    """What `inspect` does with a plan, without TensorRT; and opening it, which ends in a sentence here."""
    del outputs
    json.dumps(_inspect(path))


def _make_checkpoint(folder: Path) -> None:
    import torch

    from irsde_deploy.networks.checkpoints import save_checkpoint
    from irsde_deploy.networks.nafnet import ConditionalNAFNet

    torch.manual_seed(0)
    weights = ConditionalNAFNet(4, [1], 1, [1]).state_dict()
    few = {key: weights[key] for key in list(weights)[:6]}
    torch.save(weights, folder / "plain.pth")
    torch.save({"params": weights, "params_ema": weights, "iter": 5}, folder / "ema.pth")
    torch.save({"module." + key: value.half() for key, value in few.items()}, folder / "module.pt")
    torch.save(few, folder / "old.pth", _use_new_zipfile_serialization=False)
    save_checkpoint(folder / "own.pt", weights, _model_card())
    save_checkpoint(folder / "own.safetensors", few, _model_card())


def _damage_checkpoint(rng: Random, good: Path, target: Path) -> Path:
    path = rng.choice(good_files(good))
    data = path.read_bytes()
    kind = rng.randrange(10)
    if kind < 2:
        data = damage.spoil(rng, data)
    elif path.suffix == ".safetensors":
        data = archives.spoil_safetensors(rng, data, values.spoil_json)
    elif data[:2] == b"PK":
        data = archives.spoil_archive(rng, data)
    else:
        data = archives.spoil_pickle(rng, data)
    made = target / f"model{path.suffix}"
    made.write_bytes(data)
    return made


def _read_checkpoint(path: Path, outputs: Path) -> None:
    del outputs
    json.dumps(_inspect(path))


ONNX = Kind("onnx", _make_onnx, _damage_onnx, _read_onnx, most_mib=1000, weight=1.5)
PLANS = Kind("plans", _make_plan, _damage_plan, _read_plan, weight=0.5)
CHECKPOINTS = Kind("checkpoints", _make_checkpoint, _damage_checkpoint, _read_checkpoint, weight=1.5)
