"""The cache folder: $IRSDE_CACHE, then an absolute $XDG_CACHE_HOME, then the user's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from irsde_deploy.system.cache import cache_folder


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other folders")
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"IRSDE_CACHE": "/ours", "XDG_CACHE_HOME": "/theirs"}, "/ours"),
        ({"IRSDE_CACHE": "here", "XDG_CACHE_HOME": "/theirs"}, "here"),
        ({"XDG_CACHE_HOME": "/theirs"}, "/theirs/irsde-deploy"),
        ({"IRSDE_CACHE": "", "XDG_CACHE_HOME": "/theirs"}, "/theirs/irsde-deploy"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/irsde-deploy"),
        ({"XDG_CACHE_HOME": ""}, "/home/me/.cache/irsde-deploy"),
        ({}, "/home/me/.cache/irsde-deploy"),
    ],
)
def test_the_folder_by_environment(environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IRSDE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **environment}.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root can become a user without a home")
def test_a_user_without_a_home_is_told_what_to_set() -> None:
    code = (
        "import os; from irsde_deploy.system.cache import cache_folder; import platformdirs.unix, pwd; "
        "os.environ.clear(); os.setuid(54321)\n"
        "try: cache_folder()\n"
        "except OSError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    expected = "this user has no home folder to keep a cache in: set IRSDE_CACHE to a folder\n"
    assert result.stdout == expected, result.stderr
