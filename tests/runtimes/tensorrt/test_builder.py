"""Real plans, built ahead of time by TensorRT-RTX on this machine, without a GPU."""

from __future__ import annotations

import hashlib
import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from places import ASSETS
from small_quantisable import CHANNELS, small_quantisable

from irsde_deploy.__main__ import main
from irsde_deploy.core.example import example_picture
from irsde_deploy.errors import EngineError, InvalidValueError
from irsde_deploy.graphs.onnx_file import read_model, write_model
from irsde_deploy.precision.lowering import for_plan, lower_model
from irsde_deploy.runtimes.device.drivers.probe import Device, devices
from irsde_deploy.runtimes.tensorrt.builder import build_plan, timing_cache_path
from irsde_deploy.runtimes.tensorrt.options import BuildOptions
from irsde_deploy.runtimes.tensorrt.plan_card import read_plan_card
from irsde_deploy.runtimes.tensorrt.profiles import Profile
from irsde_deploy.runtimes.tensorrt.rebuild import rebuild

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (extra rtx)")

DYNAMIC = (Profile((1, 32, 32), (1, 64, 96), (2, 128, 128)), Profile((1, 64, 64), (2, 128, 128), (2, 128, 192)))
STATIC = (Profile(*[(1, 64, 64)] * 3),)


def options(profiles: tuple[Profile, ...] = STATIC, **settings) -> BuildOptions:
    return BuildOptions("tensorrt-rtx", profiles, **settings)


@pytest.fixture
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five convolutions whose nodes have names, in a folder of their own: for what is around a build."""
    return write_quantisable(tmp_path_factory.mktemp("small") / "small.onnx")


def write_quantisable(path: Path, channels: int = CHANNELS) -> Path:
    write_model(*small_quantisable(channels=channels), path)
    return path


NETWORKS = ("unet_nf8_depth4", "nafnet_w16", "latent_nafnet_w8", "ConditionalUNet", "ConditionalNAFNet")
QUICK = {
    ("unet_nf8_depth4", "fp32", "static"),
    ("nafnet_w16", "fp16", "static"),
    ("latent_nafnet_w8", "mixed", "static"),
    ("ConditionalUNet", "mixed", "static"),
    ("ConditionalNAFNet", "fp16", "dynamic"),
}
"""Each network, each precision and each kind of profiles; their whole product is slow."""


def product() -> Iterator[Any]:
    for name, precision, kind in itertools.product(NETWORKS, ("fp32", "fp16", "mixed"), ("static", "dynamic")):
        marks = () if (name, precision, kind) in QUICK else pytest.mark.slow
        profiles = STATIC if kind == "static" else DYNAMIC
        yield pytest.param(name, precision, profiles, marks=marks, id=f"{name}-{precision}-{kind}")


@pytest.mark.parametrize(("name", "precision", "profiles"), list(product()))
def test_every_network_builds(
    name: str, precision: str, profiles: tuple[Profile, ...], onnx_of: Callable[[str], Path], tmp_path: Path
) -> None:
    source, plan = onnx_of(name), tmp_path / "a.plan"
    model, card = read_model(source)
    if precision != "fp32":
        lowered = lower_model(model, card, precision, [example_picture(card, 1, 16, 16)])
        model, card = lowered.model, lowered.card
    built = build_plan(model, card, source, plan, options(profiles))
    read = read_plan_card(plan)
    assert read == built
    assert read.model == replace(read_model(source)[1], precision=precision)
    assert read.build.profiles == profiles
    assert read.onnx_sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    weights = sum(
        np.prod(tensor.dims) * (2 if tensor.data_type == TensorProto.FLOAT16 else 4)
        for tensor in model.graph.initializer
    )
    assert plan.stat().st_size > weights, "the weights are inside"


def test_chosen_architectures_and_options_are_in_the_plan(onnx_of: Callable[[str], Path], tmp_path: Path) -> None:
    source = onnx_of("ConditionalNAFNet")
    chosen = options(compute_capabilities=("8.6", "8.9", "12.0"), workspace=512, optimization_level=1, tf32=True)
    built = build_plan(*read_model(source), source, tmp_path / "a.plan", chosen)
    assert built.compute_capabilities == ("8.6", "8.9", "12.0")
    assert read_plan_card(tmp_path / "a.plan").build == chosen
    with pytest.raises(
        EngineError, match=r"FP32 GEMM is not supported; .* no FP32 matrix product there, .* build for 8.0 and later"
    ):
        build_plan(*read_model(source), source, tmp_path / "b.plan", options(compute_capabilities=("7.5",)))
    with pytest.raises(InvalidValueError, match=r"builds for 7.5, .*, not for 9.9"):
        build_plan(*read_model(source), source, tmp_path / "b.plan", options(compute_capabilities=("9.9",)))
    assert not (tmp_path / "b.plan").exists()


def test_a_card_near_the_limit_is_kept_whole(small: Path, tmp_path: Path) -> None:
    """TensorRT keeps 4,095 characters of a network's name; the card is refused before that is not enough."""
    model, card = read_model(small)
    task = "x" * (
        4095 - len(build_plan(model, card, small, tmp_path / "a.plan", options()).network_name()) + len(card.task)
    )
    built = build_plan(model, replace(card, task=task), small, tmp_path / "b.plan", options())
    assert len(built.network_name()) == 4095
    assert read_plan_card(tmp_path / "b.plan") == built


def test_a_node_that_tensorrt_cannot_take_is_named(small: Path, tmp_path: Path) -> None:
    model, card = read_model(small)
    final = model.graph.node[-1]
    final.output[0] = "before"
    model.graph.node.append(helper.make_node("Det", ["before"], ["eps"], name="/our/Det"))
    with pytest.raises(EngineError, match=r"node '/our/Det' \(Det\)"):
        build_plan(model, card, small, tmp_path / "a.plan", options())
    assert list(tmp_path.iterdir()) == []


def test_scratch_memory_that_is_too_little_says_what_to_do(onnx_of: Callable[[str], Path], tmp_path: Path) -> None:
    source = onnx_of("ConditionalNAFNet")
    large = (Profile((1, 64, 64), (1, 512, 512), (4, 512, 512)),)
    with pytest.raises(EngineError, match="allow more with `workspace`, or build for a smaller `max_size`"):
        build_plan(*read_model(source), source, tmp_path / "a.plan", options(large, workspace=16))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seconds", [0.5, 1.5, 2.5])
def test_interrupts_end_a_build_with_one_sentence(
    seconds: float, onnx_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """Wherever they hit: while it is parsed, built, or before; and more than one."""
    sizes = [word for size in ("64x64", "256x256", "512x512", "1024x1024", "128x128") for word in ("--opt", size)]
    arguments = ["build", str(onnx_of("unet_nf8_depth4")), "-o", str(tmp_path / "a.plan"), "--backend", "tensorrt-rtx"]
    program = "from irsde_deploy.__main__ import main; print('imported', flush=True); main()"
    command = [sys.executable, "-c", program, *arguments, *sizes]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "imported\n"
    time.sleep(seconds)
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    _, stderr = process.communicate(timeout=120)
    assert (process.returncode, len(stderr.strip().splitlines())) == (130, 1), stderr
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing_behind(onnx_of: Callable[[str], Path], tmp_path: Path) -> None:
    def interrupt(seconds: float, phase: str) -> None:
        raise KeyboardInterrupt

    source = onnx_of("nafnet_w16")  # whose build takes longer than the first report of its progress
    with pytest.raises(KeyboardInterrupt):
        build_plan(*read_model(source), source, tmp_path / "a.plan", options(), interrupt)
    assert list(tmp_path.iterdir()) == []


def test_timings_are_kept_for_one_gpu_and_version() -> None:
    device = Device("NVIDIA H100 80GB HBM3", (9, 0))
    assert timing_cache_path(Path("x/derain.plan"), "10.13.3.9", device) == Path(
        "x/derain.nvidia-h100-80gb-hbm3.10.13.3.9.timing"
    )


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["irsde-deploy", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_build_inspect_and_run_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd, fails_with
) -> None:
    source = write_quantisable(tmp_path / "derain.onnx")
    trtexec = ["--minShapes=x:1x3x64x64", "--optShapes=x:1x3x128x128,mu:1x3x128x128,t:1", "--maxShapes=x:2x3x256x256"]
    assert run(monkeypatch, "build", source, "--backend", "tensorrt-rtx", *trtexec) == 0
    printed = capfd.readouterr().out
    assert "profile: min 1x64x64 opt 1x128x128 max 2x256x256" in printed
    assert "mixed: 4 of 12 nodes stay in FP32" in printed
    plan = tmp_path / "derain.plan"
    assert read_plan_card(plan).model.precision == "mixed"
    assert run(monkeypatch, "inspect", plan) == 0
    assert "runs_on: any GPU of compute capability 8.0 or later" in capfd.readouterr().out
    fails_with(1, "exists already", "build", source, "--backend", "tensorrt-rtx")
    fails_with(
        2,
        "nearest valid shape is 104x104",
        "build",
        source,
        "--backend",
        "tensorrt-rtx",
        "--opt",
        "101x101",
        "--overwrite",
    )
    if devices():
        pytest.skip("this machine has a GPU: what follows is what a machine without one is told")
    picture = ASSETS / "rain.png"
    fails_with(5, "needs an NVIDIA GPU", "run", "--engine", plan, picture, "-o", tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()
    fails_with(
        2, "a plan runs on a GPU alone", "run", "--engine", plan, picture, "-o", tmp_path / "o.png", "--device", "cpu"
    )
    model = onnx.load(source)
    model.doc_string = "another model"
    onnx.save(model, source)
    fails_with(5, "derain.onnx has changed since", "run", "--engine", plan, picture, "-o", tmp_path / "o.png")


def test_rebuild_takes_the_onnx_beside_the_plan(tmp_path: Path, fails_with) -> None:
    source, plan = write_quantisable(tmp_path / "derain.onnx"), tmp_path / "derain.plan"
    model, card = read_model(source)
    lowered = lower_model(model, card, "mixed")
    first = build_plan(lowered.model, lowered.card, source, plan, options(DYNAMIC, compute_capabilities=("8.9",)))
    model.doc_string = "trained for longer"
    onnx.save(model, source)
    rebuild(plan, for_plan)
    assert read_plan_card(plan) == replace(first, onnx_sha256=hashlib.sha256(source.read_bytes()).hexdigest())
    source.unlink()
    with pytest.raises(EngineError, match="derain.onnx must be there"):
        rebuild(plan, for_plan)
    if not devices():
        picture = ASSETS / "rain.png"
        fails_with(5, "needs an NVIDIA GPU", "run", "--engine", plan, picture, "-o", tmp_path / "out.png", "--rebuild")


@pytest.mark.parametrize("missing", ["torch", "onnxruntime"])
def test_a_box_without_pytorch_or_onnxruntime_builds(missing: str, small: Path, tmp_path: Path) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; from irsde_deploy.__main__ import main; main()"
    plan = tmp_path / "a.plan"
    files = ["build", str(small), "-o", str(plan), "--backend", "tensorrt-rtx", "--opt", "64x64"]
    done = subprocess.run([sys.executable, "-c", program, *files], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert read_plan_card(plan).model.precision == "mixed"
    assert ("not measured" in done.stdout) == (missing == "onnxruntime")


def test_fp16_weights_take_half_the_room(tmp_path: Path) -> None:
    source = write_quantisable(tmp_path / "a.onnx", channels=128)
    model, card = read_model(source)
    sizes = {}
    for precision in ("fp32", "fp16"):
        lowered = model if precision == "fp32" else lower_model(model, card, precision).model
        build_plan(lowered, card, source, tmp_path / "a.plan", options())
        sizes[precision] = (tmp_path / "a.plan").stat().st_size
    weights = sum(4 * int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
    assert sizes["fp32"] - sizes["fp16"] > 0.25 * weights


def test_build_options_without_an_engine_are_refused(fails_with, tmp_path: Path) -> None:
    checkpoint = ASSETS / "denoise_nafnet_w16.safetensors"
    output = ("-o", tmp_path / "a.onnx")
    fails_with(2, "--workspace: for a plan", "export", checkpoint, *output, "--workspace", "5")
    fails_with(2, "above 0 up to 200 dB, not nan", "export", checkpoint, *output, "--psnr-budget", "nan")
    fails_with(1, "no pictures there", "export", checkpoint, *output, "--precision", "mixed", "--pictures", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_export_builds_a_plan_too(
    onnx_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    from random_networks import random_network

    from irsde_deploy.networks.checkpoints import save_checkpoint

    checkpoint = tmp_path / "denoise.pt"
    weights = random_network("ConditionalNAFNet").state_dict()
    save_checkpoint(checkpoint, weights, read_model(onnx_of("ConditionalNAFNet"))[1])
    plan = tmp_path / "denoise.plan"
    files = ["-o", tmp_path / "denoise.onnx", "--engine", plan, "--backend", "tensorrt-rtx", "--opt-size", "128x128"]
    assert run(monkeypatch, "export", checkpoint, *files) == 0
    printed = capfd.readouterr().out
    assert "mixed:" in printed
    assert read_model(tmp_path / "denoise.onnx")[1] == read_plan_card(plan).model
    assert read_plan_card(plan).model.precision == "mixed"
    assert read_plan_card(plan).build.profiles == (Profile(*[(1, 128, 128)] * 3),)
