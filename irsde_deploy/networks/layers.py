"""Layers that the networks share. The names of their attributes are those of the reference's state dicts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SinusoidalEmbedding(nn.Module):
    """Sines and cosines of the raw timestep: (B,) -> (B, dim), frequencies from 1 down to 1/10000."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim < 4 or dim % 2:
            raise ValueError(f"the time embedding needs an even width of at least 4, not {dim}")
        half = dim // 2
        frequencies = torch.empty(half)
        if not frequencies.is_meta:  # there, PyTorch would import its compiler, for a second, to compute nothing
            frequencies = torch.exp(torch.arange(half) * (-math.log(10000) / (half - 1)))
        self.register_buffer("frequencies", frequencies, persistent=False)  # the reference's checkpoints have none
        self.frequencies: Tensor

    def forward(self, t: Tensor) -> Tensor:
        """(B,) timesteps -> (B, dim)."""
        angle = t[:, None] * self.frequencies[None, :]
        return torch.cat((angle.sin(), angle.cos()), dim=-1)


class SimpleGate(nn.Module):
    """The first half of the channels times the second."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2 dim, ...) -> (B, dim, ...)."""
        first, second = torch.split(x, self.dim, dim=1)
        return first * second


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel, gain only; eps 1e-5."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, dim, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        # Written out: F.layer_norm wants the channels last, and would have them moved there and back.
        centred = x - x.mean(dim=1, keepdim=True)
        variance = (centred * centred).mean(dim=1, keepdim=True)
        return centred * torch.rsqrt(variance + 1e-5) * self.g


class ConvBlock(nn.Module):
    """3x3 convolution, optional scale and shift, SiLU."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.proj = conv(dim_in, dim_out)

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """(B, dim_in, H, W) -> (B, dim_out, H, W)."""
        x = self.proj(x)
        if scale is not None and shift is not None:
            x = x * (scale + 1) + shift
        return F.silu(x)


class ResBlock(nn.Module):
    """Two convolution blocks with a residual; the first is scaled and shifted by the time embedding, if any."""

    def __init__(self, dim_in: int, dim_out: int, time_dim: int | None = None) -> None:
        super().__init__()
        self.dim_out = dim_out
        self.mlp: nn.Sequential | None = None
        if time_dim:
            self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(time_dim, dim_out * 2))
        self.block1 = ConvBlock(dim_in, dim_out)
        self.block2 = ConvBlock(dim_out, dim_out)
        self.res_conv = conv(dim_in, dim_out, 1) if dim_in != dim_out else nn.Identity()

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """(B, dim_in, H, W), (B, time_dim) -> (B, dim_out, H, W)."""
        if self.mlp is not None and time is not None:
            scale, shift = torch.split(self.mlp(time)[:, :, None, None], self.dim_out, dim=1)
            h = self.block1(x, scale, shift)
        else:
            h = self.block1(x)
        out: Tensor = self.block2(h) + self.res_conv(x)
        return out


class LinearAttention(nn.Module):
    """Attention over all positions at linear cost, by a (dim_head x dim_head) context per head."""

    def __init__(self, dim: int, heads: int = 4, dim_head: int = 32) -> None:
        super().__init__()
        self.heads, self.dim_head = heads, dim_head
        self.scale = dim_head**-0.5
        self.to_qkv = nn.Conv2d(dim, heads * dim_head * 3, 1, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(heads * dim_head, dim, 1), ChannelNorm(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        batch, channels, height, width = x.shape
        per_head = (batch, self.heads, self.dim_head, height * width)
        q, k, v = _split(self.to_qkv(x), per_head)
        q, k = q.softmax(dim=-2), k.softmax(dim=-1)
        project, norm = self.to_out
        # The projection meets the small context, not every position: W (v k^T) q = (W v k^T) q, head by head.
        weight = cast(Tensor, project.weight).reshape(-1, self.heads, self.dim_head).transpose(0, 1)
        context = (weight @ (v @ k.transpose(-1, -2))).transpose(1, 2).reshape(batch, channels, -1)
        projected = (context @ q.reshape(batch, -1, height * width)).reshape(x.shape)
        # Scaled last, beside the norm: 1 / (height * width) on a smaller factor would vanish in half precision.
        out: Tensor = norm(projected * (self.scale / (height * width)) + cast(Tensor, project.bias)[:, None, None])
        return out


class FullAttention(nn.Module):
    """Attention of every position to every other, at quadratic cost."""

    def __init__(self, dim: int, heads: int = 4, dim_head: int = 32) -> None:
        super().__init__()
        self.heads, self.dim_head = heads, dim_head
        self.to_qkv = nn.Conv2d(dim, heads * dim_head * 3, 1, bias=False)
        self.to_out = nn.Conv2d(heads * dim_head, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        batch, _, height, width = x.shape
        per_head = (batch, self.heads, self.dim_head, height * width)
        q, k, v = _split(self.to_qkv(x), per_head)
        weights = (q.transpose(-1, -2) * self.dim_head**-0.5 @ k).softmax(dim=-1)
        out: Tensor = self.to_out((v @ weights.transpose(-1, -2)).reshape(batch, -1, height, width))
        return out


def _split(qkv: Tensor, per_head: tuple[int, int, int, int]) -> list[Tensor]:
    """q, k and v out of the channels that hold all three, each in the shape (B, heads, dim_head, H W)."""
    _, heads, dim_head, _ = per_head
    return [part.reshape(per_head) for part in torch.split(qkv, heads * dim_head, dim=1)]


class PreNormResidual(nn.Module):
    """x + f(norm(x)), nested as the reference's keys are: `fn.norm`, `fn.fn`."""

    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.fn = nn.ModuleDict({"norm": ChannelNorm(dim), "fn": fn})

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        out: Tensor = x + self.fn["fn"](self.fn["norm"](x))
        return out


def parts(level: nn.Module) -> list[Callable[..., Tensor]]:
    """The layers of one level of a U-Net, to unpack by name."""
    return list(cast(nn.ModuleList, level))


def conv(dim_in: int, dim_out: int, kernel: int = 3) -> nn.Conv2d:
    """A convolution that keeps the size, without bias."""
    return nn.Conv2d(dim_in, dim_out, kernel, padding=kernel // 2, bias=False)


def downsample(dim_in: int, dim_out: int) -> nn.Conv2d:
    """What halves the size: a 4x4 convolution of stride 2."""
    return nn.Conv2d(dim_in, dim_out, 4, 2, 1)


def upsample(dim_in: int, dim_out: int) -> nn.Sequential:
    """What doubles the size: nearest neighbours, then a 3x3 convolution."""
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(dim_in, dim_out, 3, 1, 1))
