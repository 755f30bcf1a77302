"""ONNX Runtime as an engine: a function of arrays on the CPU, and, by I/O binding, on a device's own memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...core.arrays import Float32
from ...core.card import ModelCard
from ...errors import evaluation_failure
from ...graphs.cpu_rewrites import REWRITES, Rewrite
from ..device.drivers import Driver
from ..device.engine import DeviceEngine, Evaluation, PaddedShape
from .onnx_session import onnxruntime_for, open_session, session_card


class OnnxEngine:
    """An exported graph (x, mu, t) -> eps on the CPU."""

    def __init__(self, session: Any, card: ModelCard) -> None:
        self._session = session
        self._inputs = _input_names(session)
        self.card = card
        self.name = _name("cpu")

    @classmethod
    def open(cls, path: Path, card: ModelCard | None = None) -> OnnxEngine:
        """Load a graph. Its own card is used where it has one, else `card`."""
        session = open_session(path, rewrites=REWRITES["onnxruntime"])
        return cls(session, session_card(session, path, card))

    @classmethod
    def from_bytes(cls, model: bytes, card: ModelCard) -> OnnxEngine:
        """Load a serialized graph that is in memory, just as it is: without the rewrites that files get."""
        return cls(open_session(model), card)

    def __call__(self, x: Float32, mu: Float32, t: Float32) -> Float32:
        """See `Engine`."""
        inputs = {"x": x, "mu": mu, "t": t}
        for name in inputs.keys() - self._inputs:  # the network of a Denoising-SDE has no mu
            del inputs[name]
        (eps,) = _running(lambda: self._session.run(["eps"], inputs), x.shape)
        return eps  # type: ignore[no-any-return]


class OnnxDeviceEngine(DeviceEngine):
    """An exported graph on a GPU (CUDA or TensorRT provider) or, for the host driver, on the CPU.

    On a GPU, ONNX Runtime works on a stream of its own: what is on the loop's stream is waited for, and an evaluation
    is done when it returns. It cannot be recorded into a graph there.
    """

    def __init__(self, session: Any, card: ModelCard, driver: Driver, provider: str) -> None:
        self._session = session
        self._inputs = _input_names(session)
        self.card = card
        self.driver = driver
        self.name = _name(provider)
        self.capturable = self.host is not None

    @classmethod
    def open(cls, path: Path, driver: Driver, provider: str, card: ModelCard | None = None) -> OnnxDeviceEngine:
        """Load a graph onto a driver's device; `provider` is `cpu` for the host driver, else `cuda` or `tensorrt`."""
        rewrites: tuple[Rewrite, ...] = ()
        if provider == "cpu":  # the rewrites make graphs faster on CPUs; a GPU's providers fuse nodes themselves
            rewrites = REWRITES["onnxruntime"]
        session = open_session(path, provider, rewrites)
        return cls(session, session_card(session, path, card), driver, provider)

    def evaluation(self, shape: PaddedShape, stream: int) -> Evaluation:
        """See `DeviceEngine`."""
        batch, height, width = shape
        picture = (batch, self.card.channels, height, width)
        memory = "cuda" if self.host is None else "cpu"
        place = (memory, 0, np.float32)

        def run(x: int, mu: int, t: int, eps: int) -> None:
            # A binding for each evaluation: the loop's buffers may have moved since the last one.
            binding = self._session.io_binding()
            for name, pointer, sizes in (("x", x, picture), ("mu", mu, picture), ("t", t, (batch,))):
                if name in self._inputs:
                    binding.bind_input(name, *place, sizes, pointer)
            binding.bind_output("eps", *place, picture, eps)
            _running(lambda: self._session.run_with_iobinding(binding), picture)

        def enqueue(x: int, mu: int, t: int, eps: int, stream: int) -> None:
            if self.host is not None:
                self.host.submit(lambda: run(x, mu, t, eps))
            else:
                self.driver.synchronize(stream)
                run(x, mu, t, eps)

        return enqueue


def _input_names(session: Any) -> set[str]:
    return {node.name for node in session.get_inputs()}


def _name(provider: str) -> str:
    return f"ONNX Runtime {onnxruntime_for(provider).__version__}, {provider}"


def _running(run: Callable[[], Any], shape: tuple[int, ...]) -> Any:
    """What `run` returns; its error becomes an EngineError that names the shape of x."""
    try:
        return run()
    except Exception as error:  # ONNX Runtime has no common base class for its errors
        raise evaluation_failure("ONNX Runtime", tuple(shape), error) from error
