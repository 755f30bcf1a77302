"""The TensorRT engine around a small network on the stand-in (tests/fake_tensorrt.py): what it keeps, waits for and
refuses.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_tensorrt import FakeTensorRt
from lazy_driver import LazyDriver

from irsde_deploy import Restorer, load
from irsde_deploy.errors import EngineError
from irsde_deploy.runtimes.tensorrt.engine import TensorRtEngine
from irsde_deploy.runtimes.tensorrt.options import BuildOptions
from irsde_deploy.runtimes.tensorrt.plan_card import PlanCard
from irsde_deploy.runtimes.tensorrt.profiles import Profile

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the kernels with")

SMALL = Profile((1, 16, 16), (1, 32, 32), (2, 48, 64))
LARGE = Profile((1, 32, 32), (2, 64, 64), (3, 128, 128))


def engine_of(source: Path, jit: Path | None = None, **fake) -> tuple[FakeTensorRt, TensorRtEngine]:
    driver = LazyDriver()
    driver.activate()
    trt = FakeTensorRt(source, (SMALL, LARGE), driver, rtx=jit is not None, **fake)
    build = BuildOptions("tensorrt-rtx" if jit else "tensorrt", (SMALL, LARGE))
    plan = PlanCard(load(source).card, build, trt.__version__, "a GPU", ("9.0",), "a.onnx", "0" * 64)
    runtime = trt.Runtime(SimpleNamespace(errors=[]))
    return trt, TensorRtEngine(trt, runtime, b"a plan", plan, driver, jit)


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


@pytest.mark.parametrize("capturable", [True, False])
def test_kernels_of_every_size_are_kept_and_only_once(small_onnx: Path, tmp_path: Path, capturable: bool) -> None:
    """Two sizes in one process; what is not capturable is evaluated step by step."""
    jit = tmp_path / "a.jit"
    trt, engine = engine_of(small_onnx, jit, capturable=capturable)
    gpu, cpu = Restorer(engine), load(small_onnx)
    for number, side in enumerate((20, 40), start=1):
        found, expected = (each(picture(side, side, 3), sampler="mean", steps=3) for each in (gpu, cpu))
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
        assert engine.capturable is capturable
        assert jit.read_bytes() == b"kernels of %d shapes" % number
    written = jit.stat().st_mtime_ns
    gpu(picture(20, 20, 3), sampler="mean", steps=3)
    assert jit.stat().st_mtime_ns == written
    assert len(trt.contexts) == 2


def test_a_plan_takes_what_one_of_its_profiles_does(small_onnx: Path) -> None:
    trt, engine = engine_of(small_onnx)
    assert engine.takes((1, 16, 16))
    assert engine.takes((3, 128, 128))
    assert not engine.takes((4, 64, 64))
    assert not engine.takes((1, 16, 128))
    engine.evaluation((1, 40, 40), 0)
    engine.evaluation((2, 48, 56), 0)
    assert [context.profile for context in trt.contexts] == [0, 1], "both take both, and each is nearer to one"


def test_tensors_of_different_types_are_refused(small_onnx: Path) -> None:
    with pytest.raises(EngineError, match="the plan's tensors are x DataType.FLOAT, .* eps DataType.HALF; expected"):
        engine_of(small_onnx, half_output=True)


def test_what_tensorrt_refuses_is_told_with_its_last_words(small_onnx: Path) -> None:
    _trt, engine = engine_of(small_onnx)
    engine._runtime.logger.errors += ["an old story", "no such profile"]
    with pytest.raises(EngineError, match=r"tensorrt refuses the profile \(no such profile\)"):
        engine.require(False, "refuses the profile")
