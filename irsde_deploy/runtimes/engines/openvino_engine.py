"""OpenVINO as an engine on the CPU: the exported graph, compiled for each input size.

A fixed size gives OpenVINO's convolutions room that a free one does not (benchmarks/engines.py); compiling takes a
second or so a size, and a few sizes are kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...core.arrays import Float32
from ...core.card import METADATA_KEY, ModelCard
from ...errors import EngineError, IrsdeError, evaluation_failure, reason, require_memory, requires_extra
from ...graphs.cpu_rewrites import REWRITES, for_cpu
from ...graphs.metadata import checked_card, parse_card
from ...system.files import require_readable
from ...system.libraries import import_openvino, openvino_core
from ...system.threads import wanted_threads

MAX_SIZES, MAX_BYTES = 4, 2**29
"""How many compiled sizes are kept, and how many bytes of weights in them, since each has its own. The one unused for
longest goes first; the last one stays whatever it takes."""


class OpenVinoEngine:
    """An exported graph (x, mu, t) -> eps on the CPU.

    Threads take turns: a compiled size does one evaluation at a time.

    Args:
        core, graph: OpenVINO's Core, and the graph as it read it.
        card: the model card.
        version: OpenVINO's.
        size: bytes of the graph's weights; 0 where nobody knows.
    """

    def __init__(self, core: Any, graph: Any, card: ModelCard, version: str, size: int = 0) -> None:
        self._core, self._graph, self.card = core, graph, card
        self._lock = threading.Lock()
        self._kept = max(1, min(MAX_SIZES, MAX_BYTES // max(size, 1)))
        self._requests: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self._inputs = _input_names(graph)
        self.name = f"OpenVINO {version}, cpu"

    @classmethod
    def open(cls, path: Path, card: ModelCard | None = None) -> OpenVinoEngine:
        """Load a graph. Its own card is used where it has one, else `card`.

        Raises:
            MissingPackageError: OpenVINO is not installed.
            EngineError: not a graph that it can read, no card, or a graph that is not what its card says.
        """
        with requires_extra("openvino", "running an .onnx engine on OpenVINO"):
            openvino = import_openvino()
        require_readable(path)
        try:
            core = openvino_core()
        except Exception as error:  # OpenVINO's errors are RuntimeErrors of several kinds
            raise EngineError(f"OpenVINO cannot start ({reason(error)}): install it again") from None
        try:
            graph = core.read_model(for_cpu(path, REWRITES["openvino"], strict=True))
        except IrsdeError:
            raise
        except Exception as error:  # as above
            require_memory("OpenVINO", str(path), error)
            raise EngineError(
                f"{path}: not an ONNX model that OpenVINO can load ({reason(error)}): "
                "make it with 'irsde-deploy export'"
            ) from None
        tensors = [_described(node) for node in (*graph.inputs, *graph.outputs)]
        card = checked_card(_own_card(graph, path) or card, tensors, path)
        version = openvino.__version__.partition("-")[0]  # what follows is a build number
        return cls(core, graph, card, version, path.stat().st_size)

    def __call__(self, x: Float32, mu: Float32, t: Float32) -> Float32:
        """See `Engine`."""
        inputs = {"x": x, "mu": mu, "t": t}
        for name in inputs.keys() - self._inputs:  # the network of a Denoising-SDE has no mu
            del inputs[name]
        try:
            with self._lock:
                answer = self._request(x.shape).infer(inputs, share_inputs=True)
                return np.array(answer[0])  # a copy: the next evaluation writes over the answer
        except Exception as error:  # as in `open`
            raise evaluation_failure("OpenVINO", x.shape, error) from error

    def forget(self, shape: tuple[int, ...]) -> None:
        """Give back what was compiled for a shape that will not come again."""
        with self._lock:
            self._requests.pop(shape, None)

    def _request(self, shape: tuple[int, ...]) -> Any:
        """The graph compiled for x and mu of this shape."""
        if shape not in self._requests:
            if len(self._requests) >= self._kept:
                self._requests.popitem(last=False)  # before the new one: there may be no room for both
            shapes = {"x": shape, "mu": shape, "t": shape[:1]}
            self._requests[shape] = compiled(self._core, self._graph, shapes)
        self._requests.move_to_end(shape)
        return self._requests[shape]


def compiled(core: Any, graph: Any, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """Compile a graph for inputs of these shapes; the graph itself stays as it is.

    Args:
        core, graph: OpenVINO's Core and a graph.
        shapes: name -> shape, of all inputs that the graph has, and perhaps of others.

    Returns:
        OpenVINO's inference request.
    """
    graph = graph.clone()
    graph.reshape({name: shapes[name] for name in _input_names(graph)})
    return core.compile_model(graph, "CPU", _settings()).create_infer_request()


def _input_names(graph: Any) -> list[str]:
    return [node.any_name for node in graph.inputs]


def _described(node: Any) -> tuple[str, bool, list[Any]]:
    """An input's or output's name ("" where it has none), whether it is float32, and its shape; a free side is "?"."""
    name = node.any_name if node.names else ""
    shape = [side.get_length() if side.is_static else "?" for side in node.partial_shape]
    return name, node.element_type.get_type_name() == "f32", shape


def _settings() -> dict[str, Any]:
    """What OpenVINO is told when it compiles a graph."""
    # Without the hint, processors with bfloat16 would compute in it: FP32 means FP32.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    threads = wanted_threads()
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    return settings


def _own_card(graph: Any, path: Path) -> ModelCard | None:
    """The model card inside a graph; None where there is none."""
    where = ["framework", METADATA_KEY]  # that is where OpenVINO's ONNX reader puts metadata_props
    if not graph.has_rt_info(where):
        return None
    return parse_card(graph.get_rt_info(where).astype(str), path)
