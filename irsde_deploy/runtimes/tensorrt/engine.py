"""TensorRT as a device engine: plans of TensorRT 10.13 to 11 and of TensorRT-RTX, checked by their card first.

One execution context for each picture size: a CUDA graph belongs to the context it was captured with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import EngineError, InvalidValueError, MissingPackageError, OutOfMemoryError, reason
from ...graphs.metadata import score_inputs
from ...system.cache import cache_folder
from ...system.files import file_sha256, write_atomically
from ..device.drivers import Driver, open_driver
from ..device.drivers.memory import Memory
from ..device.drivers.probe import first_device
from ..device.engine import DeviceEngine, Evaluation, PaddedShape
from .backend import installed_version, load_backend, make_logger
from .plan_card import PlanCard, differences, read_plan_card


class TensorRtEngine(DeviceEngine):
    """A plan (x, mu, t) -> eps on an NVIDIA GPU.

    Args:
        trt: TensorRT's module.
        runtime: TensorRT's Runtime.
        content: the plan's bytes.
        plan: the plan's card.
        driver: the GPU.
        jit_path: the file where TensorRT-RTX keeps the kernels that it compiles here; None for TensorRT.

    Raises:
        EngineError: TensorRT cannot load the plan, or its tensors are not what the card says.
    """

    def __init__(
        self, trt: Any, runtime: Any, content: bytes, plan: PlanCard, driver: Driver, jit_path: Path | None = None
    ) -> None:
        self._trt = trt
        self._runtime = runtime
        self.plan = plan
        self.driver = driver
        self.card = plan.model
        self.name = f"{plan.build.backend} {trt.__version__}, {driver.name}"
        self._engine = runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            errors = getattr(runtime.logger, "errors", [])
            raise EngineError(f"{plan.build.backend} cannot load the plan ({reason(Exception(*errors[:1]))})")
        self.inputs, self.io_type = self._checked_tensors()
        self.jit: _JitCache | None = None
        if jit_path is not None:
            self.jit = _JitCache(jit_path)

    @classmethod
    def open(cls, path: Path, device: str = "cuda", driver: str = "cuda-bindings") -> TensorRtEngine:
        """Load a plan, if its card says that it can run here.

        Raises:
            EngineError: not a plan of this toolkit, or one for another machine; the message says the exact difference
                and the exact command that rebuilds it.
            MissingPackageError: there is no GPU, or the backend is not installed.
        """
        if device != "cuda":
            raise InvalidValueError(f"{path}: a plan runs on a GPU alone: use the device cuda, or the .onnx on the cpu")
        plan = read_plan_card(path)
        require_fitting(plan, path)
        opened = open_driver(driver)  # before TensorRT, so that it finds this context
        trt = load_backend(plan.build.backend)
        runtime = trt.Runtime(make_logger(trt))
        runtime.engine_host_code_allowed = plan.build.version_compatible  # a lean runtime inside
        jit_path: Path | None = None
        if plan.build.backend == "tensorrt-rtx":
            jit_path = _jit_path(path, trt.__version__)
        try:
            return cls(trt, runtime, path.read_bytes(), plan, opened, jit_path)
        except EngineError as error:
            raise EngineError(f"{path}: {error}; to rebuild: {plan.rebuild_command(path)}") from None

    def evaluation(self, shape: PaddedShape, stream: int) -> Evaluation:
        """See `DeviceEngine`. Activations take what this shape needs, not what the largest of all profiles would."""
        context = self._new_context()
        if context is None:
            raise OutOfMemoryError(f"{self.plan.build.backend} has no memory for another execution context")
        self.require(context.set_optimization_profile_async(self._profile_for(shape), stream), "refuses the profile")
        self.driver.synchronize(stream)  # shapes may be set once the profile is
        batch, height, width = shape
        picture = (batch, self.card.channels, height, width)
        for name in self.inputs:
            sizes = (batch,) if name == "t" else picture
            self.require(context.set_input_shape(name, sizes), f"refuses the shape {sizes} of {name}")
        memory = Memory(self.driver, context.update_device_memory_size_for_shapes())
        context.set_device_memory(memory.pointer, memory.size)
        capturable = getattr(context, "is_stream_capturable", None)  # TensorRT-RTX has it, TensorRT always can
        self.capturable = capturable is None or bool(capturable(stream))
        return _ContextEvaluation(self, context, memory, shape)

    def takes(self, shape: PaddedShape) -> bool:
        """See `DeviceEngine`."""
        return any(profile.takes(shape) for profile in self.plan.build.profiles)

    def _new_context(self) -> Any:
        """A new execution context, which gets its memory from us.

        TensorRT-RTX compiles kernels for the shape at hand at once, not in the background: a graph would hold on to the
        provisional ones.
        """
        trt = self._trt
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if self.jit is not None:
            config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
            self.jit.use(config)
        return self._engine.create_execution_context(config)

    def require(self, done: bool, what: str) -> None:
        """Raise EngineError unless TensorRT did what it was asked for."""
        if not done:
            why = ""
            errors = getattr(self._runtime.logger, "errors", [])
            if errors:  # the last is about this call; those before may be about others
                why = f" ({reason(Exception(errors[-1]))})"
            raise EngineError(f"{self.plan.build.backend} {what}{why}")

    def _profile_for(self, shape: PaddedShape) -> int:
        """The number of the profile that takes a shape and was optimised for the nearest size."""
        profiles = self.plan.build.profiles
        taking = [number for number, profile in enumerate(profiles) if profile.takes(shape)]
        if not taking:
            ranges = "; ".join(map(str, profiles))
            raise EngineError(
                f"the plan takes batch x height x width of {ranges}, and this picture needs "
                f"{shape[0]}x{shape[1]}x{shape[2]} ({self._seen}): build a plan that takes it, with `max_size` or "
                "another profile"
            )
        return min(taking, key=lambda number: profiles[number].distance(shape))

    @property
    def _seen(self) -> str:
        """What the network sees of a picture, in words."""
        return f"with its margin of {self.card.margin}, padded" if self.card.margin else "padded"

    def _checked_tensors(self) -> tuple[set[str], npt.DTypeLike]:
        """The names of the inputs, and the type of x, mu and eps, once they are known to be what the card says."""
        inputs: set[str] = set()
        outputs: set[str] = set()
        types = {}
        for number in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(number)
            types[name] = self._engine.get_tensor_dtype(name)
            is_input = self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT
            (inputs if is_input else outputs).add(name)
        expected = set(score_inputs(self.card))
        io_type = self._common_type({dtype for name, dtype in types.items() if name != "t"})
        if inputs != expected or outputs != {"eps"} or io_type is None:
            found = ", ".join(f"{name} {dtype}" for name, dtype in types.items())
            raise EngineError(f"the plan's tensors are {found}; expected {', '.join(sorted(expected))} and eps")
        return inputs, io_type

    def _common_type(self, types: set[Any]) -> npt.DTypeLike | None:
        """The one type of all picture tensors, as NumPy names it; None if they differ, or kernels do not read it."""
        known = {self._trt.DataType.FLOAT: np.float32, self._trt.DataType.HALF: np.float16}
        if len(types) != 1:
            return None
        return known.get(types.pop())


class _ContextEvaluation:
    """An `Evaluation` by an execution context whose shapes are set; it holds the memory for the activations."""

    def __init__(self, engine: TensorRtEngine, context: Any, memory: Memory, shape: PaddedShape) -> None:
        self._engine = engine
        self._context = context
        self._memory = memory
        self._shape = shape

    def __call__(self, x: int, mu: int, t: int, eps: int, stream: int) -> None:
        """See `Evaluation`."""
        engine, context = self._engine, self._context
        for name, pointer in (("x", x), ("mu", mu), ("t", t), ("eps", eps)):
            if name == "eps" or name in engine.inputs:  # the network of a Denoising-SDE has no mu
                engine.require(context.set_tensor_address(name, pointer), f"refuses the address of {name}")
        engine.require(context.execute_async_v3(stream), f"failed at batch x height x width {self._shape}")
        if engine.jit is not None:
            engine.jit.save()


class _JitCache:
    """Kernels that TensorRT-RTX has compiled for this GPU, kept in the user's cache folder for the next process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = b""
        if path.is_file():
            self._known = path.read_bytes()
        self._cache: Any = None
        self._saved = False

    def use(self, config: Any) -> None:
        """Give a new context's configuration the kernels that are known, and a place for those that it compiles."""
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            if self._known:
                self._cache.deserialize(self._known)
        config.set_runtime_cache(self._cache)
        self._saved = False

    def save(self) -> None:
        """Keep what the first evaluation of a context has compiled."""
        if self._saved:  # a context compiles at its first evaluation alone
            return
        self._saved = True
        kernels = bytes(self._cache.serialize())
        if kernels != self._known:
            self._known = kernels
            with write_atomically(self._path) as temporary:
                temporary.write_bytes(kernels)


def _jit_path(plan: Path, version: str) -> Path:
    """The file for the kernels of a plan: one for each plan, GPU and TensorRT-RTX version."""
    folder = cache_folder() / "tensorrt-rtx"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # kernels are code: nobody else may put some there
    device = first_device()
    gpu = "none" if device is None else device.slug
    return folder / f"{file_sha256(plan)[:32]}.{gpu}.{version}.jit"


def require_fitting(plan: PlanCard, path: Path) -> None:
    """Raise unless the plan can run on this machine; the message says the differences, and how to rebuild the plan.

    Raises:
        MissingPackageError: there is no GPU, or the backend is not installed.
        EngineError: the plan is for another machine.
    """
    reasons = unfit(plan, path)
    if not reasons:
        return
    device = first_device()
    kind: type[EngineError | MissingPackageError] = EngineError
    if device is None or installed_version(plan.build.backend) is None:
        kind = MissingPackageError
    advice = ""
    if device is not None:  # without a GPU it cannot be rebuilt here either
        advice = f"; to rebuild: {plan.rebuild_command(path, device)}"
    raise kind(f"{path}: this plan cannot run here: {'; '.join(reasons)}{advice}")


def unfit(plan: PlanCard, path: Path) -> list[str]:
    """The reasons why a plan cannot run on this machine, in words; none where it can."""
    source = plan.source(path)
    sha256: str | None = None  # whether the ONNX file has changed is asked only where it is still there
    if source.is_file():
        sha256 = file_sha256(source)
    return differences(plan, installed_version(plan.build.backend), first_device(), onnx_sha256=sha256)
