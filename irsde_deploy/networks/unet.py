"""ConditionalUNet, the score network of IR-SDE (ICML 2023), in both forms of the reference."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..system.parsing import shown
from .layers import (
    FullAttention,
    LinearAttention,
    PreNormResidual,
    ResBlock,
    SinusoidalEmbedding,
    conv,
    downsample,
    parts,
    upsample,
)

ATTENTIONS: dict[str, type[nn.Module]] = {"linear": LinearAttention, "full": FullAttention}


class ConditionalUNet(nn.Module):
    """U-Net with two residual blocks and one linear attention at each level, conditioned on mu by concatenation.

    Args:
        in_nc: channels of x and of mu.
        out_nc: channels of eps.
        nf: width at full resolution.
        depth: number of levels; the width doubles at each (depth form).
        ch_mult: width at the end of each level as a multiple of nf (ch_mult form); exactly one of the two is given.
        conditional: whether the network sees mu; that of the Denoising-SDE does not.
        mid_attention: the middle block's attention: `linear`, or `full` as in the reference's network for the
            Denoising-SDE.

    Raises:
        ValueError: another attention, or neither or both of depth and ch_mult.
    """

    pad_mode = "reflect"
    global_operators = True

    def __init__(
        self,
        in_nc: int,
        out_nc: int,
        nf: int,
        depth: int | None = None,
        ch_mult: Sequence[int] | None = None,
        conditional: bool = True,
        mid_attention: str = "linear",
    ) -> None:
        super().__init__()
        if mid_attention not in ATTENTIONS:
            raise ValueError(f"mid_attention must be one of {', '.join(ATTENTIONS)}, not {shown(mid_attention)}")
        multipliers = _multipliers(depth, ch_mult)
        self.channels = in_nc
        self.conditional = conditional
        self.multiple_of = 2 ** len(multipliers)  # the reference pads to this, though it halves one time fewer
        time_dim = nf * 4

        seen = in_nc * 2 if conditional else in_nc
        self.init_conv = conv(seen, nf, 7)
        self.time_mlp = nn.Sequential(
            SinusoidalEmbedding(nf), nn.Linear(nf, time_dim), nn.GELU(), nn.Linear(time_dim, time_dim)
        )

        widths = [nf, *(nf * multiplier for multiplier in multipliers)]
        last = len(multipliers) - 1
        self.downs = nn.ModuleList()
        self.ups = nn.ModuleList()
        # The order in which layers are made is part of what a seed means: their first weights are drawn in it.
        for level, (narrow, wide) in enumerate(pairwise(widths)):
            # N levels halve the size N - 1 times: the deepest keeps it on the way down, the first on the way up.
            down = downsample(narrow, wide) if level != last else conv(narrow, wide)
            up = upsample(wide, narrow) if level != 0 else conv(wide, narrow)
            self.downs.append(_level(narrow, narrow, time_dim, down))
            # A block on the way up sees a skip too, which is as wide as the level on the way down.
            self.ups.insert(0, _level(wide + narrow, wide, time_dim, up))

        self.mid_block1 = ResBlock(widths[-1], widths[-1], time_dim)
        self.mid_attn = PreNormResidual(widths[-1], ATTENTIONS[mid_attention](widths[-1]))
        self.mid_block2 = ResBlock(widths[-1], widths[-1], time_dim)
        self.final_res_block = ResBlock(nf * 2, nf, time_dim)
        self.final_conv = nn.Conv2d(nf, out_nc, 3, 1, 1)

    def forward(self, x: Tensor, mu: Tensor, t: Tensor) -> Tensor:
        """Predict the noise: x and mu (B, C, H, W), t (B,) -> eps (B, out_nc, H, W).

        mu is not looked at unless `conditional`.
        """
        time = self.time_mlp(t)
        h = first = self.init_conv(torch.cat([x - mu, mu], dim=1) if self.conditional else x)
        skips: list[Tensor] = []
        for level in self.downs:
            block1, block2, attention, down = parts(level)
            h = block1(h, time)
            skips.append(h)
            h = attention(block2(h, time))
            skips.append(h)
            h = down(h)
        h = self.mid_block2(self.mid_attn(self.mid_block1(h, time)), time)
        for level in self.ups:
            block1, block2, attention, up = parts(level)
            h = block1(torch.cat([h, skips.pop()], dim=1), time)
            h = block2(torch.cat([h, skips.pop()], dim=1), time)
            h = up(attention(h))
        h = self.final_res_block(torch.cat([h, first], dim=1), time)
        out: Tensor = self.final_conv(h)
        return out


def _multipliers(depth: int | None, ch_mult: Sequence[int] | None) -> list[int]:
    """The width at the end of each level as a multiple of the first, from either form of saying it."""
    if (depth is None) == (ch_mult is None):
        raise ValueError("ConditionalUNet takes either depth or ch_mult")
    if ch_mult is not None:
        return list(ch_mult)
    return [2 ** (level + 1) for level in range(depth or 0)]


def _level(dim_in: int, dim: int, time_dim: int, resample: nn.Module) -> nn.ModuleList:
    """Two blocks, attention, and what changes the size, in the order of the reference's keys."""
    block1 = ResBlock(dim_in, dim, time_dim)
    block2 = ResBlock(dim_in, dim, time_dim)
    attention = PreNormResidual(dim, LinearAttention(dim))
    return nn.ModuleList([block1, block2, attention, resample])
