"""PyTorch as a device engine: the reference beside which TensorRT engines are put, on the device loop's own buffers."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.card import ModelCard
from ...errors import evaluation_failure
from ..device.arrays import DeviceArray
from ..device.drivers import Driver
from ..device.engine import DeviceEngine, Evaluation, PaddedShape
from .torch_engine import TorchEngine

if TYPE_CHECKING:
    from torch import nn


class TorchDeviceEngine(DeviceEngine):
    """A network module in eager PyTorch, on a GPU or, for the host driver, on the CPU.

    PyTorch allocates as it goes, so an evaluation on a GPU is not recorded into a graph.
    """

    def __init__(self, model: nn.Module, card: ModelCard, driver: Driver) -> None:
        self.card = card
        self.driver = driver
        engine = TorchEngine(model, card, "cuda" if self.host is None else "cpu")
        self._torch = engine.torch
        self._model = engine.model
        self.name = engine.name
        self.capturable = self.host is not None

    @classmethod
    def open(cls, path: Path, driver: Driver, card: ModelCard | None = None) -> TorchDeviceEngine:
        """Load a checkpoint. Its own card is used where it has one, else `card`; one of the two must be there."""
        engine = TorchEngine.open(path, "cpu", card)  # the constructor moves it to the GPU
        return cls(engine.model, engine.card, driver)

    def evaluation(self, shape: PaddedShape, stream: int) -> Evaluation:
        """See `DeviceEngine`."""
        batch, height, width = shape
        picture = (batch, self.card.channels, height, width)

        def run(x: int, mu: int, t: int, eps: int) -> None:
            inputs = (self._tensor(x, picture), self._tensor(mu, picture), self._tensor(t, (batch,)))
            output = self._tensor(eps, picture)
            try:
                # FP32 as the CPU has it: no TF32 in convolutions
                with self._torch.inference_mode(), self._torch.backends.cudnn.flags(allow_tf32=False):
                    output.copy_(self._model(*inputs))
            except RuntimeError as error:
                raise evaluation_failure("PyTorch", picture, error) from error

        def enqueue(x: int, mu: int, t: int, eps: int, stream: int) -> None:
            if self.host is not None:
                self.host.submit(lambda: run(x, mu, t, eps))
            else:
                # PyTorch takes the stream for the thread's current one, and so the order of the loop's work is kept.
                with self._torch.cuda.stream(self._torch.cuda.ExternalStream(stream)):
                    run(x, mu, t, eps)

        return enqueue

    def _tensor(self, pointer: int, shape: tuple[int, ...]) -> Any:
        """Device memory as a tensor, not copied."""
        if self.host is not None:
            memory = (ctypes.c_float * int(np.prod(shape))).from_address(pointer)
            return self._torch.from_numpy(np.ctypeslib.as_array(memory).reshape(shape))
        strides = DeviceArray.contiguous_strides(shape, np.dtype(np.float32))
        array = DeviceArray(pointer, shape, np.dtype(np.float32), strides, "cuda")
        return self._torch.as_tensor(array, device="cuda")
