"""Packs of small networks for tests."""

from __future__ import annotations

from irsde_deploy.core.sampling import Sampling

PACK_SAMPLING, PACK_SIZE = Sampling(sampler="sde-2m", steps=4, seed=5), (21, 35)
"""What the fixture `whole_pack` is made with: its settings, and the size of its reference."""
