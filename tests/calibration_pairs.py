"""Pictures to calibrate small networks on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def write_pairs(folder: Path, count: int = 3) -> Path:
    """LQ and GT of a few smooth pictures, 28x24."""
    rng = np.random.default_rng(8)
    for name in map(str, range(count)):
        clean = cv2.resize(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8), (28, 24), interpolation=cv2.INTER_CUBIC)
        spoilt = np.clip(clean + rng.normal(0, 30, clean.shape), 0, 255).astype(np.uint8)
        for kind, picture in (("LQ", spoilt), ("GT", clean)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / kind / f"{name}.png"), picture)
    return folder
