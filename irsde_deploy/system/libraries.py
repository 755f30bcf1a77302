"""Libraries that would report their use or write into the home folder, imported so that they do neither.

| library | what it would do | how it is kept from that |
|---|---|---|
| OpenVINO | post to a public analytics host, keep an identifier in ~/intel | its telemetry package is hidden from it |
| ONNX Runtime | keep an identifier and a database in ~/.cache/Microsoft | ORT_DISABLE_TELEMETRY |
| Matplotlib | keep a list of fonts in ~/.cache/matplotlib, and make ~/.config/matplotlib | they go into our cache |
| PyTorch's compiler | make a folder beside other users' in /tmp | it goes into our cache |

Whatever the user has set in the environment stays as it is, and so does a library that was imported before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from ..errors import OutputFileError
from .cache import cache_folder

_TELEMETRY = "openvino_telemetry"


def import_openvino() -> Any:
    """The module `openvino`, which sends nothing; raises ImportError where it is not installed."""
    with _not_importable(_TELEMETRY):
        import openvino
    return openvino


@cache
def openvino_core() -> Any:
    """OpenVINO's `Core`: one for all graphs, which lives as long as the process.

    Its plug-in for processors gives the thread that loads it a stack for signals, and unmaps that stack in whichever
    thread lets the plug-in go. If it went with the last graph, in another thread, the next signal of the first one
    (Ctrl-C) would end the process with a segmentation fault.
    """
    return import_openvino().Core()


def import_onnxruntime() -> Any:
    """The module `onnxruntime`, which keeps no identifier; raises ImportError where it is not installed."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def import_matplotlib() -> None:
    """Import what figures need, with the list of fonts in our cache; raises ImportError where it is not installed.

    The user's own matplotlibrc is not read: a figure of ours looks the same everywhere.
    """
    with _environment(MPLCONFIGDIR=_in_cache("matplotlib")):
        import matplotlib.figure
        import matplotlib.font_manager  # noqa: F401 (it looks for fonts while it is imported)


def keep_compiler_in_cache() -> None:
    """Let PyTorch's compiler keep its folder in our cache; to be called before it is imported."""
    folder = _in_cache("torchinductor")
    if folder is not None:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", folder)


def _in_cache(name: str) -> str | None:
    """A folder of our cache; None where this user has none, and the library is to find a place by itself."""
    try:
        return str(cache_folder() / name)
    except OutputFileError:
        return None


@contextmanager
def _not_importable(name: str) -> Iterator[None]:
    """Let the import of a module fail inside the block, as if it were not installed."""
    absent = object()
    before = sys.modules.get(name, absent)
    sys.modules[name] = None  # type: ignore[assignment]  # Python's own way to say so
    try:
        yield
    finally:
        if before is absent:
            del sys.modules[name]
        else:
            sys.modules[name] = before  # type: ignore[assignment]


@contextmanager
def _environment(**variables: str | None) -> Iterator[None]:
    """Set environment variables inside the block: those that have a value here, and none from the user."""
    added = []
    for name, value in variables.items():
        if value is not None and name not in os.environ:
            os.environ[name] = value
            added.append(name)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
