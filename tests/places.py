"""Where the tests find what is not theirs alone."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
ASSETS = ROOT / "assets"
DATA = TESTS / "data"
