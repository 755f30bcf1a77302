"""The TensorRT engine on a stand-in for TensorRT (tests/fake_tensorrt.py): calls, profiles, memory, refusals."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_tensorrt import FakeTensorRt

from irsde_deploy import Restorer, load
from irsde_deploy.errors import EngineError
from irsde_deploy.runtimes.device.drivers.host import HostDriver
from irsde_deploy.runtimes.tensorrt.engine import TensorRtEngine
from irsde_deploy.runtimes.tensorrt.options import BuildOptions
from irsde_deploy.runtimes.tensorrt.plan_card import PlanCard
from irsde_deploy.runtimes.tensorrt.profiles import Profile

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the kernels with")

SMALL = Profile((1, 16, 16), (1, 32, 32), (2, 48, 64))
LARGE = Profile((1, 32, 32), (2, 64, 64), (3, 128, 128))


@pytest.fixture
def source(onnx_of: Callable[[str], Path]) -> Path:
    return onnx_of("unet_nf8_depth4")


def engine_of(
    source: Path, content: bytes = b"a plan", jit: Path | None = None, **fake
) -> tuple[FakeTensorRt, TensorRtEngine]:
    driver = HostDriver()
    trt = FakeTensorRt(source, (SMALL, LARGE), driver, rtx=jit is not None, **fake)
    build = BuildOptions("tensorrt-rtx" if jit else "tensorrt", (SMALL, LARGE))
    card = load(source).card
    plan = PlanCard(card, build, trt.__version__, "a GPU", ("9.0",), "a.onnx", "0" * 64)
    runtime = trt.Runtime(SimpleNamespace(errors=[]))
    return trt, TensorRtEngine(trt, runtime, content, plan, driver, jit)


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def test_it_restores_what_the_graph_does(source: Path) -> None:
    trt, engine = engine_of(source)
    gpu, cpu = Restorer(engine), load(source)
    for shape in ((1, 21, 34, 3), (2, 40, 60, 3), (3, 36, 40, 3), (1, 21, 34, 3)):
        for seed in (0, 1):
            found, expected = (
                gpu(picture(*shape), sampler="sde-2m", steps=3, seed=seed),
                cpu(picture(*shape), sampler="sde-2m", steps=3, seed=seed),
            )
            assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()
    assert len(trt.contexts) == 3, "one context a size"
    x, t = picture(1, 3, 32, 32), np.array([5], np.float32)
    np.testing.assert_array_equal(engine(x, x, t), cpu.engine(x, x, t))


@pytest.mark.parametrize(
    ("shape", "profile"), [((1, 32, 32), 0), ((2, 48, 64), 1), ((3, 128, 128), 1), ((1, 16, 16), 0)]
)
def test_the_profile_is_the_one_made_for_the_nearest_size(
    source: Path, shape: tuple[int, int, int], profile: int
) -> None:
    trt, engine = engine_of(source)
    engine.evaluation(shape, 0)
    assert trt.contexts[-1].profile == profile


def test_a_picture_outside_all_profiles_is_told_what_it_needs(source: Path) -> None:
    _, engine = engine_of(source)
    with pytest.raises(EngineError, match=r"min 1x16x16 .* max 3x128x128, and this picture needs 1x144x16 \(padded\)"):
        Restorer(engine)(picture(130, 10, 3), sampler="mean", steps=2)


def test_half_tensors_are_seen(source: Path) -> None:
    _, engine = engine_of(source, half=True)
    assert engine.io_type == np.float16
    found, expected = (
        Restorer(engine)(picture(20, 20, 3), sampler="ode-2m", steps=3),
        load(source)(picture(20, 20, 3), sampler="ode-2m", steps=3),
    )
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    assert 0 < difference < 0.02


def test_what_is_no_plan_or_another_networks_is_refused(source: Path) -> None:
    with pytest.raises(EngineError, match="cannot load the plan .Serialization assertion failed"):
        engine_of(source, b"something else")
    with pytest.raises(EngineError, match="tensors are x .*, noise .*; expected mu, t, x and eps"):
        engine_of(source, output="noise")


def test_memory_lives_as_long_as_its_evaluation(source: Path) -> None:
    _, engine = engine_of(source)
    before = len(engine.driver._memory)
    evaluation = engine.evaluation((1, 32, 32), 0)
    assert len(engine.driver._memory) == before + 1
    del evaluation
    assert len(engine.driver._memory) == before


def test_compiled_kernels_are_kept_for_the_next_process(source: Path, tmp_path: Path) -> None:
    jit = tmp_path / "a.jit"
    _, engine = engine_of(source, jit=jit)
    Restorer(engine)(picture(20, 20, 3), sampler="mean", steps=2)
    assert jit.read_bytes() == b"kernels of 1 shapes"
    _, again = engine_of(source, jit=jit)
    Restorer(again)(picture(40, 40, 3), sampler="mean", steps=2)
    assert jit.read_bytes() == b"kernels of 2 shapes", "what was known was given back to TensorRT"
