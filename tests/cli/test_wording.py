"""Settings in sentences become options, and nothing else does; outside of `cli/` no sentence names an option."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from places import ROOT

from irsde_deploy.cli import cli
from irsde_deploy.cli.wording import for_terminal
from irsde_deploy.training.settings import TrainingSettings

PACKAGE = ROOT / "irsde_deploy"
COMMANDS_TO_TYPE = {
    "__main__.py": [" --help')"],
    "reports/doctor.py": [" --force-reinstall", "--version"],
    "runtimes/device/kernels/__init__.py": ["--std=c++17", "--fmad=false", "--gpu-architecture=sm_"],
    "runtimes/tensorrt/options.py": [
        "--backend ",
        "--compute-capability ",
        "--workspace ",
        "--opt-level ",
        "--no-timing-cache",
    ],
    "runtimes/tensorrt/plan_card.py": ["--precision ", "--overwrite"],
    "runtimes/tensorrt/profiles.py": [" --batch ", "or trtexec's --minShapes"],
}
"""File -> the only literals there with an option in them: command lines, of this program and of others."""


def literals(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every text in a module but for those that only document: statements of their own."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.lineno, node.value


def test_settings_become_the_options_that_set_them() -> None:
    assert for_terminal("give `noise_level` or `t0`", cli) == "give --noise-level or --t0"
    assert for_terminal("`minShapes` and `no_such_setting` stay", cli) == "`minShapes` and `no_such_setting` stay"


def test_names_of_python_alone_become_the_options_that_set_them() -> None:
    assert for_terminal("`optimization_level`, `compute_capabilities`", cli) == "--opt-level, --compute-capability"


def test_names_from_files_cannot_command_a_terminal() -> None:
    assert for_terminal("a lone \ud800 surrogate", cli) == "a lone   surrogate", "no terminal can print it"
    assert for_terminal("in \x1b[2J`steps`\n.png", cli) == "in  [2J--steps .png"


def test_no_sentence_outside_of_the_commands_names_an_option() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        for line, text in () if name.startswith("cli/") else literals(path):
            for command in COMMANDS_TO_TYPE.get(name, ()):
                text = text.replace(command, "")
            assert not re.search(r"(?<![\w-])--[a-z]", text), f"{name}:{line}: name the setting: {text!r}"


def test_every_setting_that_a_sentence_names_is_one() -> None:
    """What stands between backticks is an option's name, or a training setting for --set: no typing error."""
    readers = {"decoding.py"}  # which reads msgspec's sentences, with backticks of their own
    by_set = {field.name for field in dataclasses.fields(TrainingSettings)}
    for path in sorted(PACKAGE.rglob("*.py")):
        for line, text in () if path.name in readers else literals(path):
            for name in set(re.findall(r"`([a-z][a-z0-9_]*)`", text)) - by_set:
                assert for_terminal(f"`{name}`", cli).startswith("--"), f"{path.name}:{line}: {name} is no setting"
