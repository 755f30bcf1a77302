"""LatentUNet, the autoencoder around Refusion's latent diffusion (`UNet` in the reference's options)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from .layers import LinearAttention, PreNormResidual, ResBlock, conv, downsample, parts, upsample


class LatentUNet(nn.Module):
    """U-Net whose bottleneck is a small latent; what the latent loses, the skips (`hidden`) carry.

    Args:
        in_ch: channels of the picture that comes in.
        out_ch: channels of the picture that comes out.
        ch: width at full resolution.
        ch_mult: width at the end of each level as a multiple of ch.
        embed_dim: channels of the latent, whose sides are 2^(levels-1) times smaller.
    """

    pad_mode = "reflect"

    def __init__(self, in_ch: int, out_ch: int, ch: int, ch_mult: Sequence[int], embed_dim: int) -> None:
        super().__init__()
        self.multiple_of = 2 ** len(ch_mult)
        widths = [ch, *(ch * multiplier for multiplier in ch_mult)]
        last = len(ch_mult) - 1
        self.init_conv = conv(in_ch, ch)
        self.encoder = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for level, (narrow, wide) in enumerate(pairwise(widths)):
            # N levels halve the size N - 1 times: the deepest keeps it on the way down, the first on the way up.
            down = downsample(narrow, wide) if level != last else conv(narrow, wide)
            up = upsample(wide, narrow) if level != 0 else conv(wide, narrow)
            attend = level == last
            self.encoder.append(_level(narrow, narrow, attend, down))
            # A block on the way up sees a skip too, which is as wide as the level on the way down.
            self.decoder.insert(0, _level(wide + narrow, wide, attend, up))
        self.latent_conv = conv(widths[-1], embed_dim, 1)
        self.post_latent_conv = conv(embed_dim, widths[-1], 1)
        self.final_conv = nn.Conv2d(ch, out_ch, 3, 1, 1)

    def encode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Encode pictures whose sides are multiples of `multiple_of`.

        Args:
            image: (B, in_ch, H, W).

        Returns:
            The latent (B, embed_dim, h, w), and the skips that `decode` takes.
        """
        h = self.init_conv(image)
        hidden = [h]
        for level in self.encoder:
            block1, block2, attention, down = parts(level)
            h = block1(h)
            hidden.append(h)
            h = attention(block2(h))
            hidden.append(h)
            h = down(h)
        return self.latent_conv(h), hidden

    def decode(self, latent: Tensor, hidden: Sequence[Tensor]) -> Tensor:
        """The picture (B, out_ch, H, W) of a latent and of the skips that `encode` returned with it or with another."""
        h = self.post_latent_conv(latent)
        skips = list(hidden)  # the caller's list stays as it is
        for level in self.decoder:
            block1, block2, attention, up = parts(level)
            h = block1(torch.cat([h, skips.pop()], dim=1))
            h = block2(torch.cat([h, skips.pop()], dim=1))
            h = up(attention(h))
        out: Tensor = self.final_conv(h + skips.pop())
        return out

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_ch, H, W) -> (B, out_ch, H, W)."""
        return self.decode(*self.encode(image))


def _level(dim_in: int, dim: int, attend: bool, resample: nn.Module) -> nn.ModuleList:
    """Two blocks, attention or an identity, and what changes the size, in the order of the reference's keys."""
    block1 = ResBlock(dim_in, dim)
    block2 = ResBlock(dim_in, dim)
    attention: nn.Module = nn.Identity()
    if attend:
        attention = PreNormResidual(dim, LinearAttention(dim))
    return nn.ModuleList([block1, block2, attention, resample])
