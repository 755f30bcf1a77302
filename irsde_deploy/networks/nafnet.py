"""ConditionalNAFNet, the score network of Refusion (CVPRW 2023), in its pixel and its latent form."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..system.parsing import shown
from .layers import ChannelNorm, SimpleGate, SinusoidalEmbedding, parts

FORMS = ("pixel", "latent")


class NAFBlock(nn.Module):
    """Depth-wise convolution with channel attention, then a gated 1x1 pair; both scaled and shifted by time."""

    def __init__(self, dim: int, time_dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.mlp = nn.Sequential(SimpleGate(time_dim // 2), nn.Linear(time_dim // 2, dim * 4))
        self.conv1 = nn.Conv2d(dim, dim * 2, 1)
        self.conv2 = nn.Conv2d(dim * 2, dim * 2, 3, padding=1, groups=dim * 2)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(dim, dim, 1))
        self.conv3 = nn.Conv2d(dim, dim, 1)
        self.conv4 = nn.Conv2d(dim, dim * 2, 1)
        self.conv5 = nn.Conv2d(dim, dim, 1)
        self.gate = SimpleGate(dim)
        self.norm1 = ChannelNorm(dim)
        self.norm2 = ChannelNorm(dim)
        # Zero at first: a block then passes x on as it is, which lets deep stacks train.
        self.beta = nn.Parameter(torch.zeros(1, dim, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, dim, 1, 1))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (B, dim, H, W) and time (B, time_dim) -> (B, dim, H, W)."""
        shift_att, scale_att, shift_ffn, scale_ffn = torch.split(self.mlp(time)[:, :, None, None], self.dim, dim=1)
        h = self.norm1(x) * (scale_att + 1) + shift_att
        h = self.gate(self.conv2(self.conv1(h)))
        x = x + self.conv3(h * self.sca(h)) * self.beta
        h = self.norm2(x) * (scale_ffn + 1) + shift_ffn
        out: Tensor = x + self.conv5(self.gate(self.conv4(h))) * self.gamma
        return out


class ConditionalNAFNet(nn.Module):
    """U-shaped stack of NAF blocks, conditioned on mu by concatenation.

    Args:
        width: channels at full resolution.
        enc_blk_nums: the number of blocks at each level on the way down.
        middle_blk_num: the number of blocks at the bottom.
        dec_blk_nums: the number of blocks at each level on the way up.
        img_channel: channels of x, mu and eps.
        form: `latent` adds the output of the first convolution before the last one; `pixel` does not. The
            weights look the same in both.
        conditional: whether the network sees mu; that of the Denoising-SDE does not.

    Raises:
        ValueError: another form, or not as many levels up as down.
    """

    pad_mode = "zero"
    global_operators = True

    def __init__(
        self,
        width: int,
        enc_blk_nums: Sequence[int],
        middle_blk_num: int,
        dec_blk_nums: Sequence[int],
        img_channel: int = 3,
        form: str = "pixel",
        conditional: bool = True,
    ) -> None:
        super().__init__()
        if len(enc_blk_nums) != len(dec_blk_nums):
            raise ValueError("ConditionalNAFNet needs as many levels up as down")
        if form not in FORMS:
            raise ValueError(f"form must be one of {FORMS}, not {shown(form)}")
        self.channels = img_channel
        self.multiple_of = 2 ** len(enc_blk_nums)
        self.form = form
        self.conditional = conditional
        time_dim = width * 4

        self.time_mlp = nn.Sequential(
            SinusoidalEmbedding(width),
            nn.Linear(width, time_dim * 2),
            SimpleGate(time_dim),
            nn.Linear(time_dim, time_dim),
        )
        seen = img_channel * 2 if conditional else img_channel
        self.intro = nn.Conv2d(seen, width, 3, padding=1)
        self.ending = nn.Conv2d(width, img_channel, 3, padding=1)

        dim = width
        self.encoders = nn.ModuleList()
        self.downs = nn.ModuleList()
        # The order in which layers are made is part of what a seed means: their first weights are drawn in it.
        for blocks in enc_blk_nums:
            self.encoders.append(_stack(dim, time_dim, blocks))
            self.downs.append(nn.Conv2d(dim, dim * 2, 2, 2))
            dim *= 2
        self.middle_blks = _stack(dim, time_dim, middle_blk_num)
        self.decoders = nn.ModuleList()
        self.ups = nn.ModuleList()
        for blocks in dec_blk_nums:
            self.ups.append(nn.Sequential(nn.Conv2d(dim, dim * 2, 1, bias=False), nn.PixelShuffle(2)))
            dim //= 2
            self.decoders.append(_stack(dim, time_dim, blocks))

    def forward(self, x: Tensor, mu: Tensor, t: Tensor) -> Tensor:
        """Predict the noise: x and mu (B, C, H, W), t (B,) -> eps (B, C, H, W).

        mu is not looked at unless `conditional`.
        """
        time = self.time_mlp(t)
        h = first = self.intro(torch.cat([x - mu, mu], dim=1) if self.conditional else x)
        skips: list[Tensor] = []
        for blocks, down in zip(self.encoders, self.downs, strict=True):
            h = _run(blocks, h, time)
            skips.append(h)
            h = down(h)
        h = _run(self.middle_blks, h, time)
        for blocks, up in zip(self.decoders, self.ups, strict=True):
            h = _run(blocks, up(h) + skips.pop(), time)
        out: Tensor = self.ending(h + first if self.form == "latent" else h)
        return out


def _stack(dim: int, time_dim: int, blocks: int) -> nn.ModuleList:
    """Blocks one behind the other; not a Sequential, since each takes the time too."""
    return nn.ModuleList(NAFBlock(dim, time_dim) for _ in range(blocks))


def _run(blocks: nn.Module, h: Tensor, time: Tensor) -> Tensor:
    for block in parts(blocks):
        h = block(h, time)
    return h
