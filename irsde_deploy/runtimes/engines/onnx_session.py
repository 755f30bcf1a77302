"""ONNX Runtime sessions: on the provider that was asked for, or not at all; and the card inside their graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core.card import METADATA_KEY, ModelCard
from ...errors import (
    EngineError,
    InvalidValueError,
    MissingPackageError,
    install_command,
    reason,
    require_memory,
    requires_extra,
)
from ...graphs.cpu_rewrites import Rewrite, for_cpu
from ...graphs.metadata import checked_card, parse_card
from ...system.cache import cache_folder
from ...system.decoding import inside
from ...system.files import require_readable
from ...system.libraries import import_onnxruntime
from ...system.parsing import parse_json, shown
from ...system.threads import wanted_threads

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
"""Our name of a provider -> ONNX Runtime's."""

MAX_DESCRIPTION = 16_000_000
"""Characters of what a graph says of itself: of INT8 every layer by name, of a whole loop its table."""


def onnxruntime_for(provider: str) -> Any:
    """Import the module onnxruntime, and check that it has a provider of `PROVIDERS`.

    Raises:
        MissingPackageError: it is not installed, or was built without that provider.
    """
    if provider not in PROVIDERS:
        raise InvalidValueError(f"a provider must be one of {', '.join(PROVIDERS)}, not {shown(provider)}")
    extra = "cpu" if provider == "cpu" else "gpu"
    with requires_extra(extra, "running an .onnx engine"):
        onnxruntime = import_onnxruntime()
    if PROVIDERS[provider] not in onnxruntime.get_available_providers():
        raise MissingPackageError(
            f"this ONNX Runtime has no {PROVIDERS[provider]}: pip uninstall onnxruntime, then {install_command('gpu')}"
        )
    return onnxruntime


def open_session(model: Path | bytes, provider: str = "cpu", rewrites: Sequence[Rewrite] = ()) -> Any:
    """Open an ONNX Runtime session that really has the provider, never another one.

    On the CPU threads are as many as OMP_NUM_THREADS says. TensorRT's provider keeps its engines in the user's cache
    folder, and leaves to CUDA's what it cannot take.

    Args:
        model: an ONNX file, or a serialized graph.
        provider: one of `PROVIDERS`.
        rewrites: what to make of a file's graph first (`graphs.cpu_rewrites`); a serialized graph stays as it is.

    Raises:
        EngineError: it is not a model.
        MissingPackageError: the provider is not there, or does not start.
    """
    onnxruntime = onnxruntime_for(provider)
    source: str | bytes
    if isinstance(model, Path):
        name = str(model)
        require_readable(model)
        source = _rewritten(model, rewrites)
    else:
        name = "the graph"
        source = model
    try:
        session = onnxruntime.InferenceSession(
            source,
            _session_options(onnxruntime, provider),
            providers=_with_options(provider),
            enable_fallback=provider != "cpu",  # from the CPU to the CPU: it would print the error, and try again
        )
    except Exception as error:  # ONNX Runtime has no common base class for its errors
        require_memory("ONNX Runtime", name, error)
        raise EngineError(
            f"{name}: not an ONNX model that ONNX Runtime can load ({reason(error)}): "
            "make it with 'irsde-deploy export'"
        ) from None
    require_provider(session.get_providers(), provider)
    _require_texts(session, name)
    return session


def _require_texts(session: Any, name: str) -> None:
    """Raise EngineError where what a graph says of itself is no text: nothing after this need be afraid of it."""
    try:
        _ = session.get_modelmeta().custom_metadata_map
        for node in (*session.get_inputs(), *session.get_outputs()):
            _ = node.name, node.type, node.shape
    except UnicodeDecodeError:
        raise EngineError(f"{name}: a name or text in it is not UTF-8: make it with 'irsde-deploy export'") from None


def _rewritten(model: Path, rewrites: Sequence[Rewrite]) -> str | bytes:
    """What to open in place of a file: its name, or the graph that the rewrites made of it."""
    if not rewrites:
        return str(model)
    rewritten = for_cpu(model, rewrites)
    if isinstance(rewritten, bytes):
        return rewritten
    return str(rewritten)


def _session_options(onnxruntime: Any, provider: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions; nothing else belongs on stderr
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # benchmarks/onnxruntime_spinning.py
    if provider == "cpu":
        options.intra_op_num_threads = wanted_threads()  # 0: as many as there are cores
    return options


def require_provider(started: list[str], provider: str) -> None:
    """Raise MissingPackageError unless the first provider that a session started is the one asked for."""
    if started[0] != PROVIDERS[provider]:
        raise MissingPackageError(
            f"ONNX Runtime could not start {PROVIDERS[provider]} (it fell back to {started[0]}): "
            "'irsde-deploy doctor' says what is missing; `device` auto would take the CPU instead"
        )


def _with_options(provider: str) -> list[Any]:
    """The providers of a session, as ONNX Runtime wants them named, and what each is told."""
    if provider == "cpu":
        return [PROVIDERS["cpu"]]
    cuda = (PROVIDERS["cuda"], {"use_tf32": "0"})  # FP32 means FP32, and TF32 keeps 10 of its 23 bits
    if provider == "cuda":
        return [cuda]
    cache = cache_folder() / "onnxruntime-tensorrt"
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)  # engines are code: nobody else may put one there
    settings = {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(cache), "trt_timing_cache_enable": True}
    return [(PROVIDERS["tensorrt"], settings), cuda]


def read_card(session: Any, path: Path) -> ModelCard | None:
    """The model card in a session's metadata; None where there is none."""
    return parse_card(session.get_modelmeta().custom_metadata_map.get(METADATA_KEY), path)


def read_description(session: Any, path: Path, key: str) -> dict[str, Any] | None:
    """What a session's graph says of itself under a key of its metadata, in plain JSON types.

    Args:
        session: of ONNX Runtime.
        path: of the file, for messages.
        key: `LOOP_KEY` or `INT8_KEY` of `graphs.metadata`.

    Returns:
        The description; None where the graph has no such key.
    """
    text = session.get_modelmeta().custom_metadata_map.get(key)
    if text is None:
        return None
    with inside(path, EngineError):
        description = parse_json(text, f"its metadata {key}", MAX_DESCRIPTION)
    if not isinstance(description, dict):  # somebody else's: the key is there, and that is all that it says
        return {}
    return description


def session_card(session: Any, path: Path, card: ModelCard | None) -> ModelCard:
    """The card inside a session's graph, else `card`, once the graph is known to be what it says (`checked_card`)."""
    tensors = []
    for node in (*session.get_inputs(), *session.get_outputs()):
        tensors.append((node.name, node.type == "tensor(float)", node.shape))
    return checked_card(read_card(session, path) or card, tensors, path)
