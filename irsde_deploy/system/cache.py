"""Where what took long to make is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where compiled kernels are kept: $IRSDE_CACHE, or irsde-deploy in the user's cache folder."""
    stated = Path(os.environ.get("XDG_CACHE_HOME", ""))  # relative ones are invalid by the standard
    default = (stated if stated.is_absolute() else Path.home() / ".cache") / "irsde-deploy"
    return Path(os.environ.get("IRSDE_CACHE") or default)
