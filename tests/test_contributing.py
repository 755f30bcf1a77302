"""Who follows CONTRIBUTING.md to the letter ends with code that works: each worked example, in a copy of the code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import contributed
import pytest
from contributed import Example
from made_once import CACHE
from mutants.trying import Copy
from places import ROOT

EXAMPLES = list(contributed.examples())


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, small_onnx: Path) -> Path:
    """A copy of the repository, with a small network in the place of what `make demo` has exported."""
    pytest.importorskip("torch", reason="PyTorch, which the examples' tests need, is not installed")
    root = Copy(ROOT, tmp_path_factory.mktemp("contributing")).root
    (root / "demo").mkdir()
    shutil.copy(small_onnx, root / "demo" / "derain.onnx")
    return root


@pytest.fixture
def changed(copy: Path, example: Example) -> Iterator[Path]:
    """The copy with an example's changes, which are taken back."""
    files = {copy / change.file for change in example.changes}
    before = {file: file.read_text() for file in files if file.exists()}
    try:
        for change in example.changes:
            change.apply(copy)
        yield copy
    finally:
        for file in files:
            if file in before:
                file.write_text(before[file])
            else:
                file.unlink(missing_ok=True)


def test_there_are_the_four_examples() -> None:
    assert [example.letter for example in EXAMPLES] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.letter)
def test_an_example_passes_lint_and_its_nearest_tests(example: Example, changed: Path) -> None:
    files = sorted({change.file for change in example.changes if change.file.endswith(".py")})
    run(f"ruff check -q {' '.join(files)}", changed)
    run(f"ruff format -q --check {' '.join(files)}", changed)
    run(example.commands[0], changed)


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.letter)
def test_all_that_an_example_says_runs(example: Example, changed: Path) -> None:
    for command in [*example.commands[1:], "lint-imports --no-logo", "mypy"]:
        run(command, changed)


def run(command: str, folder: Path) -> None:
    """Run a command line in a folder, in an environment whose programs take the package from there."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "IRSDE_TEST_CACHE": str(CACHE),  # whose entries are by content: what an example changes, it makes anew
    }
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", command],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}:\n{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
