"""ONNX graph -> TensorRT plan, by TensorRT 10.13 to 11 or TensorRT-RTX: strongly typed, precision is the graph's.

TensorRT times kernels on the GPU at hand, and needs it. TensorRT-RTX builds ahead of time, without a GPU or driver; its
plans are finished when they are first run. The plan carries a `PlanCard` as its network's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.card import ModelCard
from ...errors import EngineError, InvalidValueError
from ...system.files import file_sha256, require_writable, seen_from, write_atomically
from ..device.drivers.probe import Device, require_device
from .backend import load_backend, make_logger
from .options import BuildOptions
from .plan_card import PlanCard
from .profiles import Profile
from .watching import in_thread, make_monitor

if TYPE_CHECKING:
    import onnx


def build_plan(
    model: onnx.ModelProto,
    card: ModelCard,
    source: Path,
    path: Path,
    options: BuildOptions,
    on_time: Callable[[float, str], None] | None = None,
) -> PlanCard:
    """Build a plan with its card inside, and write it in full or not at all.

    Args:
        model: the graph in its final precision.
        card: the model card of the graph.
        source: the ONNX file that it came from, for the plan's card.
        path: where the plan goes; a file that is there is replaced.
        options: how to build.
        on_time: called several times a second with the elapsed seconds and what TensorRT is doing.

    Returns:
        The plan's card.

    Raises:
        MissingPackageError: the backend, or the GPU that it needs, is not there.
        EngineError: TensorRT cannot build it; the message says at which node, or what ran out.
    """
    trt, device = require_builder(options)
    plan_card = PlanCard(
        model=card,
        build=options,
        version=trt.__version__,
        gpu="" if device is None else device.name,
        compute_capabilities=_capabilities(options, device),
        onnx=seen_from(path.parent, source),
        onnx_sha256=file_sha256(source),
        tool_version=card.tool_version,
    )
    cache: Path | None = None
    if device is not None and options.timing_cache:  # without a GPU at hand nothing is timed
        cache = timing_cache_path(path, trt.__version__, device)
    work = _Work(trt, options, cache)
    plan = in_thread(lambda: work.build(model, plan_card.network_name()), work.monitor, on_time)
    with write_atomically(path) as temporary:
        temporary.write_bytes(plan)
    if cache is not None:
        with write_atomically(cache) as temporary:
            temporary.write_bytes(work.timings)
    return plan_card


def timing_cache_path(plan: Path, version: str, device: Device) -> Path:
    """The file that keeps kernel timings: beside the plan, one for each GPU and TensorRT version."""
    return plan.with_name(f"{plan.stem}.{device.slug}.{version}.timing")


def require_buildable(options: BuildOptions, plan: Path) -> None:
    """Raise before any work where a plan cannot be written or built: no folder, no backend, no GPU that it needs.

    Raises:
        OutputFileError: no file can be written there. MissingPackageError, InvalidValueError: as `require_builder`.
    """
    require_writable(plan)
    require_builder(options)


def require_builder(options: BuildOptions) -> tuple[Any, Device | None]:
    """The backend's module, and the GPU that it builds for; None where it needs none.

    Raises:
        MissingPackageError: one of them is not there.
        InvalidValueError: the backend builds for no such compute capability.
    """
    trt = load_backend(options.backend)
    for text in options.compute_capabilities:
        _capability(trt, text)
    if options.backend == "tensorrt":
        return trt, require_device("building with TensorRT (`backend` tensorrt-rtx builds without one)")
    if "current" in options.compute_capabilities:
        return trt, require_device("`compute_capabilities` current")
    return trt, None


def _capability(trt: Any, text: str) -> Any:
    """TensorRT-RTX's name of a compute capability such as 8.9, or InvalidValueError."""
    known = trt.ComputeCapability.__members__
    name = "CURRENT" if text == "current" else f"SM{text.replace('.', '')}"
    if name not in known:
        # SM89 is 8.9, SM120 is 12.0: the last digit is what stands behind the point.
        listed = [f"{member[2:-1]}.{member[-1]}" for member in known if member.startswith("SM")]
        raise InvalidValueError(f"this TensorRT-RTX builds for {', '.join(listed)}, not for {text}")
    return known[name]


def _capabilities(options: BuildOptions, device: Device | None) -> tuple[str, ...]:
    """The compute capabilities that a plan is for, `current` written out."""
    own = ""
    if device is not None:
        major, minor = device.compute_capability
        own = f"{major}.{minor}"
    if options.backend == "tensorrt":
        return (own,)
    return tuple(own if text == "current" else text for text in options.compute_capabilities)


class _Work:
    """One build by TensorRT, whose errors become EngineErrors.

    Attributes:
        monitor: what the build is doing (`phase`); it stops when `cancelled` is set.
        timings: kernel timings, serialized; empty before the build, and without a timing cache.
    """

    def __init__(self, trt: Any, options: BuildOptions, cache: Path | None) -> None:
        self._trt = trt
        self._name = options.backend
        self._options = options
        self._timing_file = cache
        self.monitor = make_monitor(trt)
        self.timings = b""

    def build(self, model: onnx.ModelProto, name: str) -> bytes:
        """The plan of a graph, with this name for its network."""
        self._logger = make_logger(self._trt)
        self._builder = self._trt.Builder(self._logger)
        network = self._parse(model)
        network.name = name
        config = self._configure(network, self._options)
        timings = self._use_timings(config)
        config.progress_monitor = self.monitor
        plan = self._builder.build_serialized_network(network, config)
        if plan is None:
            raise EngineError(f"{self._name} cannot build the plan: {self._why()}")
        if timings is not None:
            self.timings = bytes(timings.serialize())
        return bytes(plan)

    def _parse(self, model: onnx.ModelProto) -> Any:
        """The graph as a TensorRT network. Parser errors name the ONNX node."""
        trt = self._trt
        network = self._builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, self._logger)
        if not parser.parse(model.SerializeToString()):
            nodes = []
            for number in range(min(parser.num_errors, 3)):  # the others mostly follow from the first
                error = parser.get_error(number)
                nodes.append(f"node {error.node_name()!r} ({error.node_operator()}): {_line(error.desc())}")
            raise EngineError(f"{self._name} cannot take the graph: {'; '.join(nodes) or self._why()}")
        self._parser = parser  # holds the weights until the network is built
        return network

    def _configure(self, network: Any, options: BuildOptions) -> Any:
        """The build's settings, with a shape of every input in every profile."""
        trt = self._trt
        config = self._builder.create_builder_config()
        for profile in options.profiles:
            self._add_profile(config, network, profile)
        if options.workspace is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace << 20)  # MiB to bytes
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
        """Add a profile, (batch, height, width) from min to max, as shapes of the network's inputs."""
        made = self._builder.create_optimization_profile()
        for index in range(network.num_inputs):
            tensor = network.get_input(index)
            shapes: list[tuple[int, ...]] = []
            for batch, height, width in (profile.min, profile.opt, profile.max):
                if len(tensor.shape) == 4:
                    shapes.append((batch, tensor.shape[1], height, width))
                else:  # the timesteps
                    shapes.append((batch,))
            made.set_shape(tensor.name, *shapes)
        if config.add_optimization_profile(made) < 0:
            raise EngineError(f"{self._name} refuses the profile {profile}: {self._why()}")

    def _choose_capabilities(self, config: Any, capabilities: Sequence[str]) -> None:
        config.num_compute_capabilities = len(capabilities)
        for index, text in enumerate(capabilities):
            config.set_compute_capability(_capability(self._trt, text), index)

    def _use_timings(self, config: Any) -> Any:
        """Load the kernel timings of earlier builds; what a file of another GPU or version holds is not used."""
        if self._timing_file is None:
            return None
        known = b""
        if self._timing_file.is_file():
            known = self._timing_file.read_bytes()
        timings = config.create_timing_cache(known)
        if timings is None or not config.set_timing_cache(timings, ignore_mismatch=False):
            self._logger.errors.clear()  # what it says of the old one is no reason for anything
            timings = config.create_timing_cache(b"")
            config.set_timing_cache(timings, ignore_mismatch=False)
        return timings

    def _why(self) -> str:
        """The first thing that the logger heard, and what to do where that is known."""
        if not self._logger.errors:
            return "it gives no reason"
        first = _line(self._logger.errors[0])
        everything = " ".join(self._logger.errors)  # the word that tells may be in a later line
        for sign, advice in _ADVICE.items():
            if sign in everything:
                return f"{first}; {advice}"
        return first


_ADVICE = {
    "OutOfMemory": "allow more with `workspace`, or build for a smaller `max_size`",
    "workspace": "allow more with `workspace`, or build for a smaller `max_size`",
    "Turing": "TensorRT-RTX has no FP32 matrix product there, which the time embedding needs: build for 8.0 and later",
}
"""A word in TensorRT's messages -> what to do about it."""


def _line(text: str) -> str:
    """The first line of a message, without the places in TensorRT's own source that follow it."""
    first = text.strip().partition("\n")[0]
    return re.split(r"; \[|\. In \w+ at |\.; ", first)[0][:300]
