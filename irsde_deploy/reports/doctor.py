"""What is installed, which providers and devices work, and the command that installs what is missing."""

from __future__ import annotations

import base64
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import install_command, reason
from ..runtimes.device.drivers.probe import devices
from ..system.libraries import import_onnxruntime

PACKAGES: dict[str, tuple[tuple[str, str], ...]] = {
    "base": (
        ("numpy", "numpy"),
        ("cv2", "opencv-python-headless"),
        ("PIL", "pillow"),
        ("click", "click"),
        ("cloup", "cloup"),
        ("msgspec", "msgspec"),
        ("filelock", "filelock"),
        ("platformdirs", "platformdirs"),
    ),
    "cpu": (("onnxruntime", "onnxruntime"), ("onnx", "onnx")),
    "openvino": (("openvino", "openvino"),),
    "gpu": (
        ("onnxruntime", "onnxruntime-gpu"),
        ("tensorrt", "tensorrt"),
        ("cuda.bindings", "cuda-bindings"),
        ("nvidia", "nvidia-cuda-nvrtc"),
    ),
    "rtx": (("tensorrt_rtx", "tensorrt-rtx"),),
    "pycuda": (("pycuda", "pycuda"),),
    "export": (
        ("torch", "torch"),
        ("onnx", "onnx"),
        ("onnxscript", "onnxscript"),
        ("safetensors", "safetensors"),
        ("yaml", "pyyaml"),
        ("matplotlib", "matplotlib"),
    ),
    "train": (("tensorboard", "tensorboard"), ("lion_pytorch", "lion-pytorch")),
    "evaluate": (("skimage", "scikit-image"), ("pywt", "PyWavelets"), ("torchmetrics", "torchmetrics")),
    "video": (("av", "av"),),
    "vapoursynth": (("vapoursynth", "vapoursynth"),),
}
"""Extra of irsde-deploy -> (module, distribution) of each package in it."""

_IDENTITY = "CAg6NwoQCgF4EgF5IghJZGVudGl0eRIBZ1oPCgF4EgoKCAgBEgQKAggBYg8KAXkSCgoICAESBAoCCAFCBAoAEBI="
"""An ONNX model of one node (y = x, one float), in base64: to see whether a provider really starts."""


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        what: a package, a provider or a driver.
        found: whether it is there and works.
        detail: its version, or what to do about it.
    """

    what: str
    found: bool
    detail: str


def examine() -> Iterator[Finding]:
    """All findings, cheapest first. Nothing here changes the machine."""
    yield Finding("Python", True, f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for extra, packages in PACKAGES.items():
        for module, distribution in packages:
            yield _package(extra, module, distribution)
    yield from _providers()
    yield _gstreamer()
    yield _cuda_driver()


def _package(extra: str, module: str, distribution: str) -> Finding:
    """Whether a package is there, and the command that installs it where it is not."""
    label = f"{distribution} ({extra})"
    install = install_command(None if extra == "base" else extra)
    if distribution == "onnxruntime-gpu" and _installed("onnxruntime"):
        install = f"pip uninstall onnxruntime, then {install}"  # both provide one module
    if extra == "vapoursynth" and sys.version_info < (3, 12):
        install = "its wheels need Python 3.12 or later"
    try:
        version = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        # Several distributions bring the same module, and any of them will do.
        if distribution.startswith("opencv") and importlib.util.find_spec(module):
            return Finding(label, True, "another distribution of OpenCV provides it")
        if distribution == "onnxruntime" and _installed("onnxruntime-gpu"):
            return Finding(label, True, "onnxruntime-gpu provides it")
        return Finding(label, False, f"missing: {install}")
    if importlib.util.find_spec(module) is None:  # as where of two distributions with one module one was uninstalled
        return Finding(
            label, False, f"{version} is installed but {module} cannot be found: {install} --force-reinstall"
        )
    return Finding(label, True, version)


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _providers() -> Iterator[Finding]:
    """Start each ONNX Runtime provider on a tiny model; a provider that is listed may still not work."""
    try:
        onnxruntime = import_onnxruntime()
    except ImportError:
        yield Finding("ONNX Runtime providers", False, f"none: {install_command('cpu')}")
        return
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions; nothing else belongs on stderr
    for provider in onnxruntime.get_available_providers():
        try:
            session = onnxruntime.InferenceSession(base64.b64decode(_IDENTITY), options, providers=[provider])
        except Exception as error:  # ONNX Runtime has no common base class for its errors
            yield Finding(provider, False, f"does not start: {reason(error)}")
            continue
        if session.get_providers()[0] == provider:
            yield Finding(provider, True, "works")
        else:  # it fell back to another
            yield Finding(provider, False, "is listed but does not start")


def _gstreamer() -> Finding:
    """Whether GStreamer's tools are there, and whether they are told where the element irsde is."""
    tool = shutil.which("gst-inspect-1.0")
    if tool is None:
        return Finding("GStreamer (by hand)", False, "missing: docs/plugins.md has the system's packages it takes")
    quiet = {**os.environ, "GST_REGISTRY_DISABLE": "yes"}  # else it writes a list of plug-ins into ~/.cache
    said = subprocess.run([tool, "--version"], capture_output=True, text=True, timeout=60, check=False, env=quiet)
    version = re.search(r"version (\d[\d.]*)", said.stdout)
    folder = element_folder()
    told = str(folder) in os.environ.get("GST_PLUGIN_PATH", "").split(os.pathsep)
    where = "GST_PLUGIN_PATH has its element irsde" if told else f"for its element irsde, GST_PLUGIN_PATH={folder}"
    return Finding("GStreamer (by hand)", version is not None, f"{version[1] if version else said.stderr}; {where}")


def element_folder() -> Path:
    """The folder of GStreamer's element: in an installed package, or in the source tree that this package is in."""
    package = Path(__file__).parent.parent
    installed = package / "plugins" / "gstreamer"
    return installed if installed.is_dir() else package.parent / "runtimes" / "gstreamer"


def _cuda_driver() -> Finding:
    """Ask the driver itself which devices there are; no library above it may be asked without one."""
    found = devices()
    if found is None:
        return Finding("NVIDIA driver", False, "not found: engines run on the CPU; for a GPU install NVIDIA's driver")
    if not found:
        return Finding("NVIDIA driver", False, "installed, but it sees no device: check nvidia-smi")
    return Finding("NVIDIA driver", True, ", ".join(map(str, found)))
