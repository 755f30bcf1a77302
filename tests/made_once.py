"""What many tests need and takes long to make, kept in `.test_cache` for as long as nothing changes that makes it.

Two processes that need the same thing at once make it once. Deleting the folder is always safe.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from filelock import FileLock
from places import ROOT

CACHE = Path(os.environ.get("IRSDE_TEST_CACHE") or ROOT / ".test_cache")
KEPT = 3  # entries of one name: of this state of the sources, and of the last ones that were tried
IN_USE = 24 * 3600  # seconds since an entry was asked for, within which a process may still read it
PACKAGE = ROOT / "irsde_deploy"
ABOVE_EXPORT = ("__main__.py", "cli", "vapoursynth.py", "plugins", "embedding", "reports", "training", "calibration")


def made_once(name: str, make: Callable[[Path], object], *parts: Path | str) -> Path:
    """The folder that `make` has filled, now or in an earlier run. Read it only: others do, too.

    Args:
        name: what it is; entries of one name are in one folder.
        make: fills an empty folder, whose path it is given.
        parts: all that the result depends on beside the interpreter and the file that `make` stands in: files and
            folders, whose bytes count, and texts, such as `versions(...)`.
    """
    entries = CACHE / name
    entries.mkdir(parents=True, exist_ok=True)
    entry = entries / _digest(sys.version, Path(inspect.getfile(make)), *parts)
    whole = entry.with_suffix(".whole")
    with FileLock(entries / "lock"):
        if not whole.exists():
            shutil.rmtree(entry, ignore_errors=True)  # of a run that was ended meanwhile
            entry.mkdir()
            make(entry)
        whole.touch()
        _drop_old(entries)
    return entry


def versions(*packages: str) -> str:
    """The installed versions of packages, without importing them."""
    return ", ".join(f"{package} {_version(package)}" for package in packages)


def up_to_export() -> Iterator[Path]:
    """What an export can depend on: the rooms of the package but those above `export`, which it may not import."""
    return (path for path in sorted(PACKAGE.iterdir()) if path.name not in (*ABOVE_EXPORT, "__pycache__"))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "is not installed"


def _digest(*parts: Path | str) -> str:
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            total.update(b"text" + hashlib.sha256(part.encode()).digest())
            continue
        for file in sorted(part.rglob("*")) if part.is_dir() else [part]:
            if file.is_file() and "__pycache__" not in file.parts:
                name = file.relative_to(part.parent)
                total.update(hashlib.sha256(str(name).encode()).digest() + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:24]


def _drop_old(entries: Path) -> None:
    """Keep the newest entries, and those that another process may be reading."""
    newest_last = sorted(entries.glob("*.whole"), key=lambda whole: whole.stat().st_mtime)
    for whole in newest_last[:-KEPT]:
        if time.time() - whole.stat().st_mtime > IN_USE:
            whole.unlink()
            shutil.rmtree(whole.with_suffix(""), ignore_errors=True)
