"""Fixtures of the tests of pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """photos/a.png, photos/b.jpg, photos/deep/er/c.PNG, and things that are no pictures."""
    folder = tmp_path / "photos"
    (folder / "deep" / "er").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in (("a.png", 16), ("b.jpg", 16), ("deep/er/c.png", 24)):
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (size, 20, 3), dtype=np.uint8))
    (folder / "deep" / "er" / "c.png").rename(folder / "deep" / "er" / "c.PNG")
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"")
    return folder
