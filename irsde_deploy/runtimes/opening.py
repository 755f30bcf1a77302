"""From an engine file to an engine: `open_engine` picks the opener by the file's suffix from a plain dict.

Each opener imports the library that it needs when it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..core.card import ModelCard
from ..errors import EngineError, InputFileError, InvalidValueError, MissingPackageError
from ..system.files import require_readable, require_there
from ..system.parsing import shown
from .device.drivers import DRIVERS
from .protocol import DEVICES, Engine

__all__ = ["DEVICES", "ENGINES", "Engine", "OpenOptions", "open_engine"]


@dataclass(frozen=True)
class OpenOptions:
    """How to open an engine.

    Attributes:
        device: `cpu` or `cuda`.
        card: the model card for files without one of their own.
        driver: what drives the GPU: `cuda-bindings` or `pycuda`.
        provider: the library that runs an `.onnx`; one of `PROVIDERS_OF[device]`.
    """

    device: str = "cpu"
    card: ModelCard | None = None
    driver: str = "cuda-bindings"
    provider: str = "onnxruntime"


def _onnxruntime(path: Path, options: OpenOptions) -> Engine:
    from .engines.onnx_engine import OnnxEngine

    return OnnxEngine.open(path, options.card)


def _openvino(path: Path, options: OpenOptions) -> Engine:
    from .engines.openvino_engine import OpenVinoEngine

    return OpenVinoEngine.open(path, options.card)


def _faster(path: Path, options: OpenOptions) -> Engine:
    from .engines.auto_engine import AutoEngine

    other = _openvino(path, options)  # first: where it is missing, nothing else is opened
    return AutoEngine.of([_onnxruntime(path, options), other], path)


ON_CPU: dict[str, Callable[[Path, OpenOptions], Engine]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "auto": _faster,
}
"""What can run an `.onnx` on the CPU -> the function that opens it so; `auto` is the faster of the two for each input
size."""

PROVIDERS_OF = {"cpu": tuple(ON_CPU), "cuda": ("cuda", "tensorrt")}
"""Device -> what can run an `.onnx` there, the default first. On a GPU that is ONNX Runtime with its CUDA or its
TensorRT provider."""


def _onnx(path: Path, options: OpenOptions) -> Engine:
    if options.device == "cpu":
        return ON_CPU[options.provider](path, options)
    from .device.drivers import open_driver
    from .engines.onnx_engine import OnnxDeviceEngine
    from .engines.onnx_session import onnxruntime_for

    # Before the driver: without the package, that is what is missing, and not the GPU.
    onnxruntime_for(options.provider)
    return OnnxDeviceEngine.open(path, open_driver(options.driver), options.provider, options.card)


def _torch(path: Path, options: OpenOptions) -> Engine:
    from .engines.torch_engine import TorchEngine, require_torch_device

    require_torch_device(options.device)
    if options.device == "cpu":
        return TorchEngine.open(path, "cpu", options.card)
    from .device.drivers import open_driver
    from .engines.torch_device_engine import TorchDeviceEngine

    return TorchDeviceEngine.open(path, open_driver(options.driver), options.card)


def _plan(path: Path, options: OpenOptions) -> Engine:
    from .tensorrt.engine import TensorRtEngine

    return TensorRtEngine.open(path, options.device, options.driver)


ENGINES: dict[str, Callable[[Path, OpenOptions], Engine]] = {
    ".onnx": _onnx,
    ".plan": _plan,
    ".pt": _torch,
    ".pth": _torch,
    ".safetensors": _torch,
}
"""File suffix -> the function that opens such a file."""


def open_engine(
    path: str | Path,
    device: str | None = None,
    card: ModelCard | None = None,
    driver: str = "cuda-bindings",
    provider: str | None = None,
) -> Engine:
    """Open an engine file on a device.

    Args:
        path: `.onnx` for ONNX Runtime; `.plan` for TensorRT; `.pt`, `.pth` or `.safetensors` for the PyTorch reference.
        device: `cpu` or `cuda`, and then no other: a device that is not there is an error. `auto` takes the GPU where
            it can be used and the CPU elsewhere; the engine's name says which. By default `cuda` for plans, else `cpu`.
        card: the model card for checkpoints without one of their own.
        driver: what drives the GPU: `cuda-bindings` or `pycuda`.
        provider: what runs an `.onnx`: one of `PROVIDERS_OF` for the device, by default the first of them; `auto` is
            the faster of ONNX Runtime and OpenVINO for each input size.

    Raises:
        InputFileError: no such file, an empty one, or a suffix that no engine reads.
        InvalidValueError: a device, driver or provider that there is not.
        EngineError, CheckpointError: the file is not what its name promises.
        MissingPackageError: the package that reads it, or the device, is not there.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    require_there(path)
    if suffix not in ENGINES:
        raise InputFileError(
            f"{path}: no engine of this version reads {path.suffix or 'files without a suffix'}: "
            f"give one of {', '.join(ENGINES)} ('irsde-deploy export' makes .onnx)"
        )
    if card is not None and not isinstance(card, ModelCard):
        raise InvalidValueError(f"card must be a ModelCard, not {shown(card)}: ModelCard.from_json reads one")
    device = device or ("cuda" if suffix == ".plan" else "cpu")
    _require_known(device, driver, provider)
    require_readable(path)
    if device == "auto":
        return _open_where_possible(path, card, driver, provider)
    return ENGINES[suffix](path, _options(device, card, driver, provider))


def _require_known(device: str, driver: str, provider: str | None) -> None:
    """Raise InvalidValueError for a name that is not one of the known."""
    if device not in DEVICES:
        if device.lower().partition(":")[0] in ("gpu", "nvidia", "cuda"):
            raise InvalidValueError(f"device {shown(device)} is called 'cuda' here: the first GPU that is there")
        raise InvalidValueError(f"device must be one of {', '.join(DEVICES)}, not {shown(device)}")
    if driver not in DRIVERS:
        raise InvalidValueError(f"a driver must be one of {', '.join(DRIVERS)}, not {shown(driver)}")
    known = PROVIDERS_OF.get(device)
    if known is None:  # with `auto`, which device's providers count is not known yet
        known = (*PROVIDERS_OF["cpu"], *PROVIDERS_OF["cuda"])
    if provider is not None and provider not in known:
        raise InvalidValueError(f"a provider on {device} must be one of {', '.join(known)}, not {shown(provider)}")


def _open_where_possible(path: Path, card: ModelCard | None, driver: str, provider: str | None) -> Engine:
    """Open a file on the GPU if that can be, else on the CPU."""
    suffix = path.suffix.lower()
    try:
        return ENGINES[suffix](path, _options("cuda", card, driver, provider))
    except (MissingPackageError, EngineError):
        if suffix == ".plan":  # nothing on a CPU reads it
            raise
        # Where the file itself is at fault, the CPU says so too.
        return ENGINES[suffix](path, _options("cpu", card, driver, provider))


def _options(device: str, card: ModelCard | None, driver: str, provider: str | None) -> OpenOptions:
    """The options on a device, with its default provider in place of none or of one for another device."""
    known = PROVIDERS_OF[device]
    if provider is None or provider not in known:
        provider = known[0]
    return OpenOptions(device, card, driver, provider)
