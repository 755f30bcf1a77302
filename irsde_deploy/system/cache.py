"""Where what took long to make is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import OutputFileError


def cache_folder() -> Path:
    """The folder for compiled kernels and for the choice of the faster engine; it need not be there yet.

    It is $IRSDE_CACHE, else irsde-deploy in an absolute $XDG_CACHE_HOME, else in the user's cache folder, which is
    ~/.cache on Linux.

    Raises:
        OutputFileError: IRSDE_CACHE is not set, and this user has no home folder.
    """
    if stated := os.environ.get("IRSDE_CACHE"):
        return Path(stated)
    from platformdirs import user_cache_path

    try:
        return user_cache_path("irsde-deploy", appauthor=False)
    except RuntimeError:  # containers run as users that have no home
        raise OutputFileError("this user has no home folder to keep a cache in: set IRSDE_CACHE to a folder") from None
