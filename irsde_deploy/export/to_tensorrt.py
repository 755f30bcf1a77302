"""ONNX graph -> TensorRT plan, by TensorRT 10.13 to 11 or TensorRT-RTX: strongly typed, precision is the graph's.

TensorRT times kernels on the GPU at hand, and needs it. TensorRT-RTX builds ahead of time, without a GPU or driver; its
plans are finished when they are first run. The plan carries a `PlanCard` as its network's name.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx

from ..card import ModelCard
from ..errors import EngineError, InvalidValueError
from ..files import file_sha256, write_atomically
from ..runtimes.build_options import BuildOptions
from ..runtimes.drivers.probe import Device, require_device
from ..runtimes.plan_card import PlanCard
from ..runtimes.profiles import Profile
from ..runtimes.tensorrt_backend import load_backend, make_logger


def build_plan(
    model: onnx.ModelProto,
    card: ModelCard,
    source: Path,
    path: Path,
    options: BuildOptions,
    on_time: Callable[[float, str], None] | None = None,
) -> PlanCard:
    """Build a plan and write it with its card inside; there in full or not at all.

    Args:
        model: the graph in its final precision, and its card.
        source: the ONNX file that it came from, for the card.
        path: of the plan, replaced if there.
        options: how to build.
        on_time: called several times a second with the elapsed seconds and what TensorRT is doing.

    Raises:
        MissingPackageError: the backend, or the GPU that it needs, is not there.
        EngineError: TensorRT cannot build it; says at which node, or what ran out.
    """
    trt, device = require_builder(options)
    plan_card = PlanCard(
        model=card,
        build=options,
        version=trt.__version__,
        gpu=device.name if device else "",
        compute_capabilities=_capabilities(options, device),
        onnx=_seen_from(path.parent, source),
        onnx_sha256=file_sha256(source),
        tool_version=card.tool_version,
    )
    builder = _Builder(trt, options)
    network = builder.parse(model)
    network.name = plan_card.network_name()
    config = builder.configure(network, options)
    cache = timing_cache_path(path, trt.__version__, device) if device and options.timing_cache else None
    timings = builder.use_timings(config, cache)
    plan = builder.build(network, config, on_time)
    with write_atomically(path) as temporary:
        temporary.write_bytes(plan)
    if cache is not None:
        with write_atomically(cache) as temporary:
            temporary.write_bytes(bytes(timings.serialize()))
    return plan_card


def timing_cache_path(plan: Path, version: str, device: Device) -> Path:
    """Where timings are kept: beside the plan, one file a GPU and TensorRT version."""
    gpu = re.sub(r"\W+", "-", device.name).strip("-").lower()
    return plan.with_name(f"{plan.stem}.{gpu}.{version}.timing")


def require_builder(options: BuildOptions) -> tuple[Any, Device | None]:
    """The backend's module, and the GPU that it builds for, None where it needs none.

    Raises:
        MissingPackageError: one of them is not there.
    """
    trt = load_backend(options.backend)
    if options.backend == "tensorrt" or "current" in options.compute_capabilities:
        return trt, require_device("building with TensorRT (tensorrt-rtx builds without one)")
    return trt, None


def _seen_from(folder: Path, file: Path) -> str:
    """A file's path from a folder; from nowhere in particular where the two share none (drives of Windows)."""
    try:
        return Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix()
    except ValueError:
        return file.resolve().as_posix()


def _capabilities(options: BuildOptions, device: Device | None) -> tuple[str, ...]:
    own = ".".join(map(str, device.compute_capability)) if device else ""
    if options.backend == "tensorrt":
        return (own,)
    return tuple(own if text == "current" else text for text in options.compute_capabilities)


class _Builder:
    """TensorRT's builder, with its errors as EngineError."""

    def __init__(self, trt: Any, options: BuildOptions) -> None:
        self._trt, self._name = trt, options.backend
        self._logger = make_logger(trt)
        self._builder = trt.Builder(self._logger)

    def parse(self, model: onnx.ModelProto) -> Any:
        """The graph as a TensorRT network. Parser errors name the ONNX node."""
        trt = self._trt
        network = self._builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, self._logger)
        if not parser.parse(model.SerializeToString()):
            errors = [parser.get_error(i) for i in range(parser.num_errors)]
            nodes = "; ".join(f"node {e.node_name()!r} ({e.node_operator()}): {_line(e.desc())}" for e in errors[:3])
            raise EngineError(f"{self._name} cannot take the graph: {nodes or self._why()}")
        self._parser = parser  # holds the weights until the network is built
        return network

    def configure(self, network: Any, options: BuildOptions) -> Any:
        """The build's settings, with a shape of every input in every profile."""
        trt = self._trt
        config = self._builder.create_builder_config()
        for profile in options.profiles:
            self._add_profile(config, network, profile)
        if options.workspace is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace << 20)
        if options.optimization_level is not None:
            config.builder_optimization_level = options.optimization_level
        if options.hardware_compatible:
            config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
        if options.version_compatible:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        config.set_flag(trt.BuilderFlag.STRICT_NANS)  # a NaN must stay one: the loop looks for it
        if options.backend == "tensorrt-rtx":
            config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)  # else its plans cannot be captured in a graph
        if not options.tf32:
            config.clear_flag(trt.BuilderFlag.TF32)
        if options.compute_capabilities:
            self._choose_capabilities(config, options.compute_capabilities)
        return config

    def _add_profile(self, config: Any, network: Any, profile: Profile) -> None:
        made = self._builder.create_optimization_profile()
        for index in range(network.num_inputs):
            tensor = network.get_input(index)
            channels = tensor.shape[1] if len(tensor.shape) == 4 else None
            shapes = [(b, channels, h, w) if channels else (b,) for b, h, w in (profile.min, profile.opt, profile.max)]
            made.set_shape(tensor.name, *shapes)
        if config.add_optimization_profile(made) < 0:
            raise EngineError(f"{self._name} refuses the profile {profile}: {self._why()}")

    def _choose_capabilities(self, config: Any, capabilities: Sequence[str]) -> None:
        kinds = self._trt.ComputeCapability
        names = ["CURRENT" if text == "current" else f"SM{text.replace('.', '')}" for text in capabilities]
        config.num_compute_capabilities = len(names)
        for index, (text, name) in enumerate(zip(capabilities, names, strict=True)):
            if name not in kinds.__members__:
                known = ", ".join(f"{n[2:-1]}.{n[-1]}" for n in kinds.__members__ if n.startswith("SM"))
                raise InvalidValueError(f"this TensorRT-RTX builds for {known}, not for {text}")
            config.set_compute_capability(kinds.__members__[name], index)

    def use_timings(self, config: Any, path: Path | None) -> Any:
        """Load kernel timings of earlier builds; what a cache of another GPU or version holds is not used."""
        if path is None:
            return None
        known = path.read_bytes() if path.is_file() else b""
        timings = config.create_timing_cache(known)
        if timings is None or not config.set_timing_cache(timings, ignore_mismatch=False):
            self._logger.errors.clear()  # what it says of the old one is no reason for anything
            timings = config.create_timing_cache(b"")
            config.set_timing_cache(timings, ignore_mismatch=False)
        return timings

    def build(self, network: Any, config: Any, on_time: Callable[[float, str], None] | None) -> bytes:
        """Build in a thread of its own, so that time can be shown and an interrupt heard."""
        monitor = _monitor(self._trt)
        config.progress_monitor = monitor
        built: list[Any] = []
        thread = threading.Thread(
            target=lambda: built.append(self._builder.build_serialized_network(network, config)), daemon=True
        )
        started = time.monotonic()
        thread.start()
        try:
            while thread.is_alive():
                thread.join(0.2)
                if on_time is not None:
                    on_time(time.monotonic() - started, monitor.phase)
        except BaseException:
            monitor.cancelled = True
            thread.join()
            raise
        if not built or built[0] is None:
            raise EngineError(f"{self._name} cannot build the plan: {self._why()}")
        return bytes(built[0])

    def _why(self) -> str:
        """The first thing that the logger heard, and what to do about what is known."""
        first = _line(self._logger.errors[0]) if self._logger.errors else "it gives no reason"
        if any("OutOfMemory" in message for message in self._logger.errors):
            return f"{first}; allow more with --workspace, or build for a smaller --max"
        return first


def _monitor(trt: Any) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """What the build is doing; stops it when cancelled."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.phase, self.cancelled = "", False

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.phase = phase_name

        def step_complete(self, phase_name: str, step: int) -> bool:
            return not self.cancelled

        def phase_finish(self, phase_name: str) -> None:
            pass

    return Monitor()


def _line(text: str) -> str:
    return text.strip().splitlines()[0][:240] if text.strip() else ""
