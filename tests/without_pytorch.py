"""A plugin of pytest for interpreters that have no PyTorch: `PYTHONPATH=tests python -m pytest -p without_pytorch`.

Files that import PyTorch are left out, and so is each test that misses it; what fails for another reason fails.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

MISSING = "No module named 'torch'"
TOLD = "needs torch, which cannot be imported"
"""What a command says of it."""


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    report = yield
    if report.failed and MISSING in report.longreprtext:
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), None, "PyTorch is not installed")
    return report


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
        if TOLD in str(error) or _misses_pytorch(error):
            pytest.skip("PyTorch is not installed")
        raise


def _misses_pytorch(error: BaseException | None) -> bool:
    """Whether an import of PyTorch is at the beginning of the errors that led to this one."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name == "torch":
            return True
        error = error.__cause__ or error.__context__
    return False
