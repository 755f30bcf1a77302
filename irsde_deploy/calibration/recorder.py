"""What a graph computes on the way: its intermediate tensors, read state by state."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx

from ..core.arrays import Float32
from ..errors import evaluation_failure
from ..runtimes.engines.onnx_session import open_session
from .states import State


class Recorder:
    """An FP32 graph whose intermediate tensors can be read.

    Args:
        model: the graph.
        tensors: names of the tensors to read: float ones that its nodes make, or its inputs.
    """

    def __init__(self, model: onnx.ModelProto, tensors: Iterable[str]) -> None:
        self.tensors = tuple(dict.fromkeys(tensors))  # each once, in order: layers that follow one read the same tensor
        shown = onnx.ModelProto()
        shown.CopyFrom(model)
        for name in self.tensors:
            # Without a shape: it depends on the state, and ONNX Runtime finds it by itself.
            shown.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
        self._session = open_session(shown.SerializeToString())
        self._inputs = {node.name for node in self._session.get_inputs()}

    def __call__(self, state: State) -> dict[str, Float32]:
        """Run the graph on a state and return each tensor's values by name; raises EngineError where it fails."""
        given = {"x": state.x, "mu": state.mu, "t": np.full(len(state.x), state.t, np.float32)}
        inputs = {name: given[name] for name in self._inputs}  # a Denoising-SDE's graph has no mu
        try:
            values = self._session.run(list(self.tensors), inputs)
        except Exception as error:  # ONNX Runtime has no common base class for its errors
            raise evaluation_failure("ONNX Runtime", state.x.shape, error) from error
        return dict(zip(self.tensors, values, strict=True))
