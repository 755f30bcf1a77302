"""The score networks of IR-SDE and Refusion, with the state-dict keys of the reference's checkpoints.

Every conditional network maps (x, mu, t) to eps, (B, C, H, W) float32 with t (B,), and neither pads nor crops: x and
mu come with sides that are multiples of `multiple_of`, padded in `pad_mode`. The runtime does that, afresh for each
evaluation.
"""

from __future__ import annotations

from ..system.libraries import keep_compiler_in_cache

keep_compiler_in_cache()  # PyTorch's compiler makes its folder while it is imported, by whatever uses our networks

from .latent_unet import LatentUNet  # noqa: E402
from .nafnet import ConditionalNAFNet  # noqa: E402
from .unet import ConditionalUNet  # noqa: E402

__all__ = ["ConditionalNAFNet", "ConditionalUNet", "LatentUNet"]
