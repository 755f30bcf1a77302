"""A plugin of pytest for interpreters that have no PyTorch: `PYTHONPATH=tests python -m pytest -p without_pytorch`.

Files that import PyTorch are left out, and so is each test that misses it; what fails for another reason fails.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path

import pytest

_IMPORTS = re.compile(r"^(import|from) (torch|random_networks)\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Whether a file cannot be imported here; None leaves it to others."""
    if collection_path.suffix == ".py" and _IMPORTS.search(collection_path.read_text(encoding="utf-8")):
        return True
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    return (yield from _left_out_without())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    return (yield from _left_out_without())


def _left_out_without() -> Generator[None, object, object]:
    try:
        return (yield)
    except Exception as error:
        if _misses_pytorch(error):
            pytest.skip("PyTorch is not installed")
        raise


def _misses_pytorch(error: BaseException | None) -> bool:
    """Whether an import of PyTorch is at the beginning of the errors that led to this one."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name == "torch":
            return True
        error = error.__cause__ or error.__context__
    return False
