"""What a build is told, read back from TensorRT-RTX; and its watcher, without TensorRT. Nothing is built here."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from irsde_deploy.core.card import ModelCard
from irsde_deploy.errors import EngineError, InvalidValueError, MissingPackageError
from irsde_deploy.graphs.onnx_file import read_model
from irsde_deploy.runtimes.device.drivers.probe import Device
from irsde_deploy.runtimes.tensorrt import rebuild as rebuilding
from irsde_deploy.runtimes.tensorrt.backend import load_backend, make_logger
from irsde_deploy.runtimes.tensorrt.builder import _capabilities, _Work, require_builder
from irsde_deploy.runtimes.tensorrt.options import BuildOptions
from irsde_deploy.runtimes.tensorrt.plan_card import PlanCard
from irsde_deploy.runtimes.tensorrt.profiles import Profile
from irsde_deploy.runtimes.tensorrt.rebuild import rebuild
from irsde_deploy.runtimes.tensorrt.watching import in_thread, make_monitor

PROFILES = (Profile((1, 16, 32), (2, 48, 64), (3, 80, 96)), Profile(*[(1, 64, 64)] * 3))


def options(**settings: Any) -> BuildOptions:
    return BuildOptions("tensorrt-rtx", PROFILES, **settings)


def configured(source: Path, chosen: BuildOptions) -> tuple[Any, Any, Any, _Work]:
    """TensorRT-RTX, its network of a graph, its configuration for a build, and what keeps these alive."""
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (extra rtx)")
    work = _Work(trt, chosen, None)
    work._logger = make_logger(trt)
    work._builder = trt.Builder(work._logger)
    network = work._parse(read_model(source)[0])
    config = work._configure(network, chosen)
    return trt, network, config, work


def test_a_build_is_told_what_the_options_say(small_onnx: Path) -> None:
    trt, network, config, _work = configured(small_onnx, options(workspace=512, optimization_level=1, tf32=True))
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 512 * 2**20
    assert config.builder_optimization_level == 1
    assert config.get_flag(trt.BuilderFlag.TF32)
    assert config.num_optimization_profiles == 2
    assert network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED), "precision is the graph's"


def test_a_build_is_told_what_must_be_so_by_itself(small_onnx: Path) -> None:
    """FP32 means FP32; a NaN stays one, since the loop looks for it; memory is ours, or nothing can be captured."""
    trt, _, config, _work = configured(small_onnx, options(compute_capabilities=("8.9", "12.0"), optimization_level=0))
    assert not config.get_flag(trt.BuilderFlag.TF32)
    assert config.get_flag(trt.BuilderFlag.STRICT_NANS)
    assert config.get_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    assert config.builder_optimization_level == 0
    chosen = [config.get_compute_capability(k) for k in range(config.num_compute_capabilities)]
    assert chosen == [trt.ComputeCapability.SM89, trt.ComputeCapability.SM120]


class Profiles:
    """A builder, a configuration and a network of two inputs, in TensorRT's words: remembers the shapes."""

    num_inputs = 2

    def __init__(self) -> None:
        self.shapes: list[dict[str, tuple[tuple[int, ...], ...]]] = []

    def get_input(self, index: int) -> Any:
        return (SimpleNamespace(name="x", shape=(-1, 3, -1, -1)), SimpleNamespace(name="t", shape=(-1,)))[index]

    def create_optimization_profile(self) -> Any:
        self.shapes.append({})
        return SimpleNamespace(set_shape=lambda name, *shapes: self.shapes[-1].update({name: shapes}))

    def add_optimization_profile(self, profile: Any) -> int:
        return len(self.shapes) - 1 if len(self.shapes) < 2 else -1


def test_profiles_are_shapes_of_every_input_from_min_to_max() -> None:
    trt = SimpleNamespace(IProgressMonitor=Monitored)
    work, there = _Work(trt, options(), None), Profiles()
    work._builder, work._logger = there, SimpleNamespace(errors=["too many; [file.cpp::17]"])
    work._add_profile(there, there, PROFILES[0])
    assert there.shapes == [{"x": ((1, 3, 16, 32), (2, 3, 48, 64), (3, 3, 80, 96)), "t": ((1,), (2,), (3,))}]
    with pytest.raises(EngineError, match=r"tensorrt-rtx refuses the profile min 1x64x64 .*: too many$"):
        work._add_profile(there, there, PROFILES[1])


def test_the_gpu_at_hand_is_written_out() -> None:
    assert _capabilities(options(compute_capabilities=("8.6", "current")), Device("G", (12, 0))) == ("8.6", "12.0")
    assert _capabilities(BuildOptions("tensorrt", PROFILES), Device("G", (9, 0))) == ("9.0",)
    assert _capabilities(options(), None) == ()
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (extra rtx)")
    with pytest.raises(InvalidValueError, match=r"builds for 7\.5, .*, 12\.0.*, not for 9\.9"):
        require_builder(options(compute_capabilities=("8.9", "9.9")))


class Monitored:
    """TensorRT's base class of progress monitors."""


def test_an_interrupt_stops_the_build_and_waits_for_its_end() -> None:
    monitor = make_monitor(SimpleNamespace(IProgressMonitor=Monitored))
    ended: list[bool] = []

    def build() -> bytes:
        monitor.phase_start("Timing", None, 3)
        for step in range(2000):
            if not monitor.step_complete("Timing", step):
                break
            time.sleep(0.01)
        ended.append(monitor.cancelled)
        return b"a plan"

    told: list[str] = []

    def interrupt(seconds: float, phase: str) -> None:
        told.append(phase)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_thread(build, monitor, interrupt)
    assert (told, ended) == (["Timing"], [True])
    monitor.cancelled = False
    assert in_thread(lambda: b"a plan", monitor, None) == b"a plan"
    with pytest.raises(EngineError, match="in vain"):
        in_thread(fails, monitor, None)


def fails() -> bytes:
    raise EngineError("in vain")


def test_a_rebuild_is_for_this_gpu_from_the_same_graph_in_the_plans_precision(
    small_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (extra rtx)")
    card = read_model(small_onnx)[1]
    (tmp_path / "models").mkdir()
    source = tmp_path / "models" / "a.onnx"
    source.write_bytes(small_onnx.read_bytes())
    (tmp_path / "plans").mkdir()
    plan = tmp_path / "plans" / "a.plan"
    half = ModelCard.from_dict({**card.to_dict(), "precision": "fp16"})
    built = PlanCard(half, options(compute_capabilities=("8.6",)), "1", "", ("8.6",), "../models/a.onnx", "0" * 64)
    plan.write_text(built.network_name())
    asked: list[Any] = []

    def lower(model: onnx.ModelProto, own: ModelCard, precision: str, file: Path) -> tuple[onnx.ModelProto, ModelCard]:
        asked.append((own, precision, file))
        return model, half

    def build(model: object, own: ModelCard, file: Path, path: Path, chosen: BuildOptions) -> None:
        asked.append((own, file, path, chosen.compute_capabilities, chosen.profiles))

    monkeypatch.setattr(rebuilding, "first_device", lambda: Device("G", (12, 0)))
    rebuild(plan, lower, build)
    assert asked == [(card, "fp16", source), (half, source, plan, ("12.0",), PROFILES)]
    source.unlink()
    with pytest.raises(EngineError, match="must be there, which it was built from"):
        rebuild(plan, lower, build)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("backend", "module", "old", "new"),
    [
        ("tensorrt", "tensorrt", ("10.12.0.36", "9.99.0"), ("10.13.0.35", "11.0.0")),
        ("tensorrt-rtx", "tensorrt_rtx", ("1.2.0.54", "0.9.0"), ("1.3.0.35", "1.10.0.1")),
    ],
)
def test_versions_that_lack_what_is_called_are_refused(
    backend: str, module: str, old: tuple[str, ...], new: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in (*old, *new):
        there = SimpleNamespace(__version__=version)
        monkeypatch.setitem(sys.modules, module, there)  # type: ignore[arg-type]
        if version in new:
            assert load_backend(backend) is there
            continue
        with pytest.raises(MissingPackageError, match=f"{backend} {version} is too old: .* or later is needed"):
            load_backend(backend)


class Logging:
    """TensorRT's base class of loggers."""

    Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2, INFO=3)


def test_errors_of_both_kinds_are_kept_and_nothing_else() -> None:
    logger = make_logger(SimpleNamespace(ILogger=Logging))
    for severity, message in enumerate(("assertion", "out of memory", "slow", "hello")):
        logger.log(severity, message)
    assert logger.errors == ["assertion", "out of memory"]


class Timing:
    """A configuration that knows kernel timings, and takes those of this GPU alone."""

    def __init__(self) -> None:
        self.used: list[tuple[bytes, bool]] = []

    def create_timing_cache(self, content: bytes) -> Any:
        if content == b"garbage":
            return None
        return SimpleNamespace(content=content)

    def set_timing_cache(self, timings: Any, ignore_mismatch: bool) -> bool:
        self.used.append((timings.content, ignore_mismatch))
        return bool(timings.content != b"another GPU")


@pytest.mark.parametrize(
    ("kept", "used"),
    [
        (b"this GPU", [(b"this GPU", False)]), (b"another GPU", [(b"another GPU", False), (b"", False)]),
        (b"garbage", [(b"", False)]), (None, [(b"", False)]),
    ],
)  # fmt: skip
def test_timings_of_another_gpu_are_not_used(kept: bytes | None, used: list[Any], tmp_path: Path) -> None:
    file = tmp_path / "a.timing"
    if kept is not None:
        file.write_bytes(kept)
    work, config = _Work(SimpleNamespace(IProgressMonitor=Monitored), options(), file), Timing()
    work._logger = SimpleNamespace(errors=["the old one does not fit"] if kept else [])
    assert work._use_timings(config).content == used[-1][0]
    assert config.used == used
    assert work._why() == ("the old one does not fit" if kept == b"this GPU" else "it gives no reason")
    assert _Work(SimpleNamespace(IProgressMonitor=Monitored), options(), None)._use_timings(config) is None
