"""The lists fit the code, and the runner tells what is noticed from what is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT, TESTS

from mutants.mutant import ROOMS, Mutant, read_room, read_rooms
from mutants.sweep import small_faults
from mutants.trying import CAUGHT, SURVIVED, Copy

MUTANTS = read_rooms()
CODE = """
def larger(a, b):
    return a if a > b else b

def spin(n):
    while n:
        n -= 1
"""
TEST = """
from pathlib import Path
from irsde_deploy import larger, spin

def test_larger():
    spin(3)
    assert larger(2, 1) == 2
    assert Path("../shared/here").exists()
"""
FILES = {
    "irsde_deploy/__init__.py": CODE,
    "tests/test_larger.py": TEST,
    "ignored.txt": "",
    ".gitignore": "ignored.txt",
    "pyproject.toml": "",
}


def test_every_fault_has_its_place_its_tests_and_a_name_of_its_own() -> None:
    assert len({(mutant.room, mutant.fault) for mutant in MUTANTS}) == len(MUTANTS)
    places = [(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS]
    assert len(set(places)) == len(places)
    texts = {mutant.file: (ROOT / mutant.file).read_text() for mutant in MUTANTS}
    astray = {mutant.fault: texts[mutant.file].count(mutant.old) for mutant in MUTANTS}
    assert {fault: times for fault, times in astray.items() if times != 1} == {}
    assert [mutant.fault for mutant in MUTANTS if mutant.old == mutant.new] == []
    assert {test for mutant in MUTANTS for test in mutant.tests if not (ROOT / test.split("::")[0]).exists()} == set()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one package, called as ours is, and one test, beside a shared/ of its own."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # the test needs no plugin, and they take longer than it
    monkeypatch.setattr("mutants.trying.IMPORTED_ONCE", ("pytest",))
    root = tmp_path / "project"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "here").touch()
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    return root


def test_a_fault_is_caught_or_survives_and_is_taken_back(project: Path, tmp_path: Path) -> None:
    copy = Copy(project, tmp_path / "there")
    assert not (copy.root / "ignored.txt").exists()
    assert copy.passes(("tests",))
    before = (project / "irsde_deploy/__init__.py").read_text()
    smaller = Mutant("room", "the smaller", "irsde_deploy/__init__.py", "a > b", "a < b", ("tests",))
    outcome = copy.attempt(smaller)
    assert (outcome.verdict, outcome.by) == (CAUGHT, "tests/test_larger.py::test_larger")
    same = Mutant("room", "equal ones", "irsde_deploy/__init__.py", "a > b", "a >= b", ("tests",))
    assert copy.attempt(same).verdict == SURVIVED
    assert (copy.root / "irsde_deploy/__init__.py").read_text() == before
    assert (project / "irsde_deploy/__init__.py").read_text() == before
    with pytest.raises(ValueError, match="stands 0 times"):
        copy.attempt(Mutant("room", "gone", "irsde_deploy/__init__.py", "a >> b", "a", ("tests",)))


def test_a_fault_that_hangs_is_ended_with_its_children(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Copy(project, tmp_path / "there")
    monkeypatch.setattr("mutants.trying.LONGEST", 1)
    assert (
        copy.attempt(Mutant("room", "spins", "irsde_deploy/__init__.py", "n -= 1", "pass", ("tests",))).verdict
        == "hung"
    )


def test_small_faults_are_python_and_differ(project: Path) -> None:
    (project / "irsde_deploy/one.py").write_text(
        "def f(x, y, z):\n"
        "    if x < 3 and y:\n"
        "        refuse((z, f'no {z + 1}'))\n"
        "    return g(x - y - 1, k=(x + 1) * 2)\n"
    )  # fmt: skip
    found = {mutant.fault.split(": ", 1)[1] for mutant in small_faults(project, "irsde_deploy/one.py", ("tests",))}
    assert found == {
        "x < 3 and y -> False", "x < 3 and y -> True", "x < 3 and y -> ((x < 3))", "x < 3 and y -> ((y))",
        "x < 3 -> (x) <= (3)", "3 -> 4", "refuse((z, f'no {z + 1}')) -> pass", "z -> False",
        "return g(x - y - 1, k=(x + 1) * 2) -> return None", "k=(x + 1) * 2 -> ",
        "x - y - 1 -> ((x - y) + (1))", "x - y -> ((x) + (y))", "1 -> 2",
        "(x + 1) * 2 -> ((x + 1) / (2))", "x + 1 -> ((x) - (1))", "2 -> 3",
    }  # fmt: skip


def test_a_list_gives_its_tests_to_mutants_that_name_none(tmp_path: Path) -> None:
    (tmp_path / "room.toml").write_text(
        'tests = ["tests/core"]\n[[mutant]]\nfault = "a"\nfile = "f"\nold = "o"\nnew = "n"\n'
        '[[mutant]]\nfault = "b"\nfile = "f"\nold = "o"\nnew = "m"\ntests = ["tests/cli"]\nequivalent = "never seen"\n'
    )
    first, second = read_room(tmp_path / "room.toml")
    assert first == Mutant("room", "a", "f", "o", "n", ("tests/core",))
    assert second == Mutant("room", "b", "f", "o", "m", ("tests/cli",), "never seen")


def test_the_command_tries_and_counts() -> None:
    command = [sys.executable, "-m", "mutants", "--list"]
    listed = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(listed) == sum(not mutant.equivalent for mutant in MUTANTS)
    assert {line.split(":")[0] for line in listed} == {path.stem for path in ROOMS.glob("*.toml")}
