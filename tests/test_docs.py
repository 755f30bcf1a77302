"""The documentation and the code agree: options, exit codes, links, modules, and lines of Python in README and docs."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from contributed import new_files
from places import ROOT

from irsde_deploy import errors
from irsde_deploy.__main__ import EXIT_BUG, EXIT_INTERRUPTED
from irsde_deploy.cli import cli
from irsde_deploy.cli.common import EXIT_SOME_FAILED, KINDS
from irsde_deploy.core.samplers import SAMPLERS
from irsde_deploy.pictures.degradations import DEGRADATIONS, parameters_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONTRIBUTING = ROOT / "CONTRIBUTING.md"
MAINTAINERS = [CONTRIBUTING, ROOT / "RELEASE.md", ROOT / "SECURITY.md", *ROOT.glob("docs/decisions/*.md")]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md"), *MAINTAINERS])
WRAPPED = [*PAGES, ROOT / "CHANGELOG.md"]
WIDTH = 120
PACKAGE = ROOT / "irsde_deploy"
SCRIPTS = sorted([*ROOT.glob("benchmarks/*.py"), *ROOT.glob("examples/*.py"), *ROOT.glob("assets/*.py")])


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_option_is_in_the_reference(name: str) -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    general = page.split("## Every command")[1].split("\n## ")[0]
    section = page.split(f"## irsde-deploy {name} ")[-1].split(f"## irsde-deploy {name}\n")[-1].split("\n## ")[0]
    for parameter in cli.commands[name].params:
        for option in (*parameter.opts, *parameter.secondary_opts) if isinstance(parameter, click.Option) else ():
            known = general if parameter.name in ("quiet", "verbose") else section
            assert f"`{option}" in known, f"{option} of {name} is not in docs/cli.md"


def test_every_exit_code_is_documented_and_no_other() -> None:
    page = (ROOT / "docs" / "exit-codes.md").read_text()
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.IrsdeError)]
    used = {kind.exit_code for kind in kinds} | {0, EXIT_SOME_FAILED, EXIT_BUG, EXIT_INTERRUPTED}
    assert used == documented


def test_every_sampler_is_documented() -> None:
    page = (ROOT / "docs" / "mathematics.md").read_text().partition("## The bias of the training target")[0]
    assert re.findall(r"^\| `([a-z0-9-]+)` \|", page, re.MULTILINE) == list(SAMPLERS)


@pytest.mark.parametrize("page", PAGES, ids=short)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_documented_loop_is_the_restorers(unet_onnx: Path) -> None:
    """Run the loop printed in docs/python.md and compare it with a Restorer."""
    from irsde_deploy import load, plan_steps

    page = (ROOT / "docs" / "python.md").read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "q_prev" in block)
    restorer = load(unet_onnx)
    rng = np.random.default_rng(0)
    z = rng.normal(size=(21, 1, 3, 16, 32)).astype(np.float32)
    mu = rng.random((1, 3, 16, 32), dtype=np.float32)

    def network(x: np.ndarray, mu: np.ndarray, t: int) -> np.ndarray:
        return restorer.engine(x.astype(np.float32), mu, np.array([t], np.float32))

    scope = {"plan_steps": plan_steps, "sde": restorer.sde, "z": z, "mu": mu, "network": network}
    exec(code, scope)
    expected = restorer(mu[0].transpose(1, 2, 0), sampler="sde-2m", steps=20, noise=z)
    difference = np.abs(scope["restored"][0].transpose(1, 2, 0) - expected).max()
    assert difference < 1e-4 * np.abs(expected).max()  # float64 there, float32 here, 20 steps


def test_every_decision_has_its_row_and_number() -> None:
    index = (ROOT / "docs" / "decisions" / "README.md").read_text()
    rows = re.findall(r"^\| \[(\d+)\]\(([^)]+)\) \| (.+?) \| (\d{4}-\d\d-\d\d) \|$", index, re.MULTILINE)
    pages = sorted(page for page in (ROOT / "docs" / "decisions").glob("*.md") if page.name != "README.md")
    assert [name for _, name, _, _ in rows] == [page.name for page in pages]
    for page, (number, _, title, date) in zip(pages, rows, strict=True):
        assert page.read_text().startswith(f"# {number}. {title}\n\n{date} "), page.name
        assert int(page.name[:4]) == int(number)


def test_every_degradation_and_parameter_is_documented() -> None:
    assert ", ".join(list(DEGRADATIONS)[:-1]) + f" or {list(DEGRADATIONS)[-1]}." == KINDS
    page = (ROOT / "docs" / "training.md").read_text()
    rows = {row.split("|")[1].strip(): row for row in page.splitlines() if row.startswith("| `")}
    for kind in DEGRADATIONS:
        for parameter in parameters_of(kind):
            assert f"`{parameter}`" in rows[f"`{kind}`"], f"{parameter} of {kind} is not in docs/training.md"


def prose(page: Path) -> list[str]:
    """Return the lines of a page that can be wrapped: neither code nor rows of tables nor a link longer than a line."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    lines = [line for line in text.splitlines() if not line.startswith(("    ", "|"))]
    return [line for line in lines if max(map(len, line.split()), default=0) < WIDTH]


@pytest.mark.parametrize("page", WRAPPED, ids=short)
def test_documents_wrap(page: Path) -> None:
    assert [line for line in prose(page) if len(line) > WIDTH] == []


# -- the house: docs/architecture.md and the package ----------------------------------------------------------


def architecture() -> str:
    return (ROOT / "docs" / "architecture.md").read_text()


def test_the_pictures_of_the_layers_are_the_contracts() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    contracts = [contract["layers"] for contract in settings["contracts"] if contract["type"] == "layers"]
    pictures = re.findall(r"```mermaid\n(.*?)```", architecture(), re.DOTALL)
    assert [re.findall(r'\["([^"<]+)', picture.replace("#95;", "_")) for picture in pictures] == contracts


def test_every_room_and_module_is_in_the_architecture() -> None:
    page = architecture()
    for folder in (path.parent for path in PACKAGE.rglob("__init__.py")):
        if folder != PACKAGE:
            assert f"`{folder.relative_to(PACKAGE)}/" in page, f"the room {folder.name} is not in docs/architecture.md"
    for module in PACKAGE.rglob("*.py"):
        name = str(module.relative_to(PACKAGE))
        command = name.startswith("cli/") and module.stem in cli.commands
        assert module.name == "__init__.py" or command or f"`{name}`" in page, f"{name} is not in docs/architecture.md"


READERS_OWN = {"restore.py"}
"""Scripts that the reader of a page writes; NAME in a path is for the reader to fill in."""


@pytest.mark.parametrize("page", PAGES, ids=short)
def test_the_modules_that_pages_name_exist(page: Path) -> None:
    """By their path in the repository or in the package, or beside the page."""
    made = new_files() if page == CONTRIBUTING else []
    for name in re.findall(r"(?<![\w./-])[\w./-]+\.py\b", page.read_text()):
        there = any((folder / name).is_file() for folder in (ROOT, PACKAGE, page.parent))
        there = there or any(file.endswith(name) for file in made)
        assert there or name in READERS_OWN or "NAME" in name, f"{page.name} names {name}, which does not exist"


@pytest.mark.parametrize("page", [page for page in WRAPPED if page != CONTRIBUTING], ids=short)
def test_the_names_that_pages_give_can_be_imported(page: Path) -> None:
    text = page.read_text()
    for name in re.findall(r"irsde_deploy(?:\.\w+)+", text):
        try:
            pkgutil.resolve_name(name)
        except AttributeError:
            importlib.import_module(name)  # which says why it is not there: PyTorch may be missing
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        imports_resolve(code)


@pytest.mark.parametrize("script", SCRIPTS, ids=short)
def test_what_scripts_import_exists(script: Path) -> None:
    imports_resolve(script.read_text())


def imports_resolve(code: str) -> None:
    """Import what Python code takes from the package; raises ImportError or AttributeError where it is not there."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "irsde_deploy":
            for alias in node.names:
                pkgutil.resolve_name(f"{node.module}:{alias.name}")
