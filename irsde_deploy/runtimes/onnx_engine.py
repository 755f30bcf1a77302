"""ONNX Runtime as an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..card import METADATA_KEY, ModelCard
from ..errors import EngineError, InvalidValueError, MissingPackageError, reason, requires_extra
from .protocol import Float32

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxEngine:
    """An exported graph (x, mu, t) -> eps on ONNX Runtime."""

    def __init__(self, session: Any, card: ModelCard, name: str) -> None:
        self._session = session
        self._inputs = {node.name for node in session.get_inputs()}
        self.card = card
        self.name = name

    @classmethod
    def open(cls, path: Path, device: str = "cpu", card: ModelCard | None = None) -> OnnxEngine:
        """Load a graph; its own card wins over `card`."""
        session = open_session(path, device)
        card = read_card(session, path) or card
        if card is None:
            raise EngineError(f"{path}: there is no model card inside: make it with 'irsde-deploy export'")
        _require_graph(session, card, path)
        return cls(session, card, f"ONNX Runtime {_onnxruntime(device).__version__}, {device}")

    def __call__(self, x: Float32, mu: Float32, t: Float32) -> Float32:
        """See `Engine`."""
        try:
            given = {"x": x, "mu": mu, "t": t}
            (eps,) = self._session.run(["eps"], {name: given[name] for name in self._inputs})
        except Exception as error:  # ONNX Runtime has no common base class for its errors
            raise EngineError(f"ONNX Runtime failed at input size {x.shape}: {reason(error)}") from error
        return eps  # type: ignore[no-any-return]


def open_session(path: Path, device: str = "cpu") -> Any:
    """An ONNX Runtime session on a device, `cpu` or `cuda`, and on no other."""
    onnxruntime = _onnxruntime(device)
    provider = _provider(onnxruntime, device)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions; nothing else belongs on stderr
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # benchmarks/onnxruntime_spinning.py
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # ONNX Runtime has no common base class for its errors
        raise EngineError(
            f"{path}: not an ONNX model that ONNX Runtime can load ({reason(error)}): "
            "make it with 'irsde-deploy export'"
        ) from None
    if session.get_providers()[0] != provider:
        raise MissingPackageError(
            f"ONNX Runtime could not start {provider} (it fell back to {session.get_providers()[0]}): "
            "'irsde-deploy doctor' says what is missing"
        )
    return session


def read_card(session: Any, path: Path) -> ModelCard | None:
    """The model card in a session's metadata, if there is one."""
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        return None
    try:
        return ModelCard.from_json(text)
    except InvalidValueError as error:
        raise EngineError(f"{path}: {error}") from None


def _require_graph(session: Any, card: ModelCard, path: Path) -> None:
    """Raise EngineError unless the graph is (x, mu, t) -> eps, or (x, t) -> eps, float32, with the card's channels."""
    expected = {"x": card.channels, "mu": card.channels, "t": None, "eps": card.channels}
    if not card.conditional:
        del expected["mu"]
    nodes = [*session.get_inputs(), *session.get_outputs()]
    channels = {node.name: node.shape[1] if len(node.shape) == 4 else None for node in nodes}
    if channels != expected or any(node.type != "tensor(float)" for node in nodes):
        found = ", ".join(f"{node.name} {node.type} {node.shape}" for node in nodes)
        raise EngineError(
            f"{path}: the graph must map {', '.join(name for name in expected if name != 'eps')} to eps, float32 with "
            f"{card.channels} channels, and has {found}: "
            "make it with 'irsde-deploy export'"
        )


def _onnxruntime(device: str) -> Any:
    with requires_extra("gpu" if device == "cuda" else "cpu", "running an .onnx engine"):
        import onnxruntime
    return onnxruntime


def _provider(onnxruntime: Any, device: str) -> str:
    if device not in PROVIDERS:
        raise InvalidValueError(f"device must be one of {', '.join(PROVIDERS)}, not {device!r}")
    provider = PROVIDERS[device]
    if provider not in onnxruntime.get_available_providers():
        raise MissingPackageError(
            f"this ONNX Runtime has no {provider}: pip uninstall onnxruntime, then pip install 'irsde-deploy[gpu]'"
        )
    return provider
