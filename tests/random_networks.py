"""Small random networks: those of `CASES` do not see mu."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

CASES = {
    "ConditionalNAFNet": {
        "width": 8,
        "enc_blk_nums": [1, 1],
        "middle_blk_num": 1,
        "dec_blk_nums": [1, 1],
        "img_channel": 3,
        "conditional": False,
    },
    "ConditionalUNet": {
        "in_nc": 3,
        "out_nc": 3,
        "nf": 8,
        "depth": 2,
        "mid_attention": "full",
        "conditional": False,
    },
}


def random_network(name: str, **settings: Any) -> torch.nn.Module:
    """A network of `CASES`, of which some settings may be others."""
    import torch

    from irsde_deploy.networks.detection import NETWORKS

    torch.manual_seed(0)
    network = NETWORKS[name](**CASES[name] | settings)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.15 * torch.randn_like(parameter))
    return network.eval()


def write_random_nafnet(folder: Path, conditional: bool, **flagged: Any) -> tuple[Path, Path]:
    """A checkpoint and its graph, which is not compared with it: `nafnet.pt` and `nafnet.onnx` in a folder.

    Args:
        folder: where they go.
        conditional: whether the network sees mu.
        flagged: what a user says of the SDE (`irsde_deploy.export.description.flags`).
    """
    from irsde_deploy.export.description import describe, flags
    from irsde_deploy.export.to_onnx import write_onnx
    from irsde_deploy.networks.checkpoints import Checkpoint, read_checkpoint, save_checkpoint

    network = random_network("ConditionalNAFNet", conditional=conditional)
    checkpoint, graph = folder / "nafnet.pt", folder / "nafnet.onnx"
    card = describe(Checkpoint(checkpoint, network.state_dict(), None, ""), [flags(**flagged)]).card
    save_checkpoint(checkpoint, network.state_dict(), card)
    write_onnx(network, describe(read_checkpoint(checkpoint), []).card, graph)
    return checkpoint, graph
