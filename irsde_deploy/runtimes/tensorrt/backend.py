"""TensorRT's Python modules, both families: `tensorrt` (10.13 to 11) and `tensorrt_rtx`, under one import."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

from ...errors import InvalidValueError, MissingPackageError, install_command, reason
from ...system.parsing import shown
from .options import BACKENDS

DISTRIBUTIONS = {"tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"), "tensorrt-rtx": ("tensorrt-rtx",)}
"""Backend -> the packages that may have brought it."""

OLDEST = {"tensorrt": (10, 13), "tensorrt-rtx": (1, 3)}
"""Backend -> the oldest version that has all that is called here."""


def load_backend(backend: str) -> Any:
    """Import the Python module of a backend.

    Raises:
        InvalidValueError: there is no such backend.
        MissingPackageError: it is not installed, its libraries cannot be loaded, or it is too old.
    """
    if backend not in BACKENDS:
        raise InvalidValueError(f"a backend must be one of {', '.join(BACKENDS)}, not {shown(backend)}")
    try:
        module = importlib.import_module(BACKENDS[backend])
    except (ImportError, OSError, RuntimeError) as error:  # OSError: a library beside the module is missing
        raise MissingPackageError(f"{backend} cannot be imported ({reason(error)}): {_install(backend)}") from None
    major, minor = module.__version__.split(".")[:2]
    if (int(major), int(minor)) < OLDEST[backend]:
        oldest = ".".join(map(str, OLDEST[backend]))
        raise MissingPackageError(
            f"{backend} {module.__version__} is too old: {oldest} or later is needed: {_install(backend)}"
        )
    return module


def _install(backend: str) -> str:
    """How to get a backend."""
    if backend == "tensorrt-rtx":
        return install_command("rtx")
    return (
        f"{install_command('gpu')} (docs/tensorrt.md says how to reach NVIDIA's package index), or take the backend "
        "tensorrt-rtx"
    )


def installed_version(backend: str) -> str | None:
    """The version of an installed backend, without loading it; None where there is none."""
    for distribution in DISTRIBUTIONS[backend]:
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def make_logger(trt: Any) -> Any:
    """A logger that keeps errors, as `logger.errors`, instead of printing; nothing of TensorRT's belongs on stderr."""
    # Inside the function: its base class exists where TensorRT is installed, and only there.

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

    return Logger()
