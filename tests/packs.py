"""Packs of small networks for tests."""

from __future__ import annotations

from irsde_deploy.embedding.pack import PackOptions

UNET_OPTIONS = PackOptions(sampler="sde-2m", steps=4, seed=5, size=(21, 35))
"""What the fixture `unet_pack` is made with."""
