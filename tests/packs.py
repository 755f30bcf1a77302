"""Packs of small networks for tests."""

from __future__ import annotations

from irsde_deploy.core.sampling import Sampling

UNET_SAMPLING, UNET_SIZE = Sampling(sampler="sde-2m", steps=4, seed=5), (21, 35)
"""What the fixture `unet_pack` is made with: its settings, and the size of its reference."""
