"""Random networks that do not see mu."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def random_network(name: str) -> torch.nn.Module:
    import torch

    from irsde_deploy.networks.detection import NETWORKS

    torch.manual_seed(0)
    network = NETWORKS[name](**CASES[name])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.15 * torch.randn_like(parameter))
    return network.eval()
