"""PyTorch as an engine: the reference that every other engine is compared with. Needs the extra `export`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.arrays import Float32
from ...core.card import ModelCard
from ...errors import EngineError, InvalidValueError, MissingPackageError, evaluation_failure, requires_extra
from ...system.parsing import shown

if TYPE_CHECKING:
    from torch import nn


def require_torch_device(device: str) -> None:
    """Raise MissingPackageError unless PyTorch is there and sees the device, `cpu` or `cuda`."""
    with requires_extra("export", "running a PyTorch checkpoint"):
        import torch
    if device not in ("cpu", "cuda"):
        raise InvalidValueError(f"device must be cpu or cuda, not {shown(device)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise MissingPackageError("PyTorch sees no CUDA device: use the device cpu, or see 'irsde-deploy doctor'")


class TorchEngine:
    """A network module (x, mu, t) -> eps in eager PyTorch."""

    def __init__(self, model: nn.Module, card: ModelCard, device: str = "cpu") -> None:
        import torch

        require_torch_device(device)
        self.torch = torch
        self._device = device
        self.model = model.eval().to(device)
        self.card = card
        self.name = f"PyTorch {torch.__version__}, {device}"

    @classmethod
    def open(cls, path: Path, device: str = "cpu", card: ModelCard | None = None) -> TorchEngine:
        """Load a checkpoint. Its own card is used where it has one, else `card`; one of the two must be there."""
        with requires_extra("export", "running a PyTorch checkpoint"):
            from ...networks.checkpoints import read_checkpoint
            from ...networks.detection import build_network
        checkpoint = read_checkpoint(path)
        card = checkpoint.card or card
        if card is None:
            raise EngineError(
                f"{path}: a plain checkpoint does not say which SDE it was trained with: "
                "export it first ('irsde-deploy export' takes `opt`, `recipe` or single settings), or pass a ModelCard"
            )
        card = replace(card, checkpoint_sha256=checkpoint.sha256)  # as an engine exported from this file has it
        return cls(build_network(card.network, card.settings, checkpoint.weights), card, device)

    def __call__(self, x: Float32, mu: Float32, t: Float32) -> Float32:
        """See `Engine`."""
        inputs = (self._tensor(x), self._tensor(mu), self._tensor(t))
        try:
            with self.torch.inference_mode():
                eps: Any = self.model(*inputs).cpu().numpy()
        except RuntimeError as error:
            raise evaluation_failure("PyTorch", x.shape, error) from error
        return eps  # type: ignore[no-any-return]

    def _tensor(self, array: Float32) -> Any:
        return self.torch.from_numpy(array).to(self._device)
