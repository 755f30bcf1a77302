"""The documentation and the code agree: options, exit codes, links, and the lines of Python in README and docs."""

from __future__ import annotations

import re
from pathlib import Path

import click
import numpy as np
import pytest
from places import ROOT

from irsde_deploy import errors
from irsde_deploy.__main__ import EXIT_BUG, EXIT_INTERRUPTED
from irsde_deploy.cli import cli
from irsde_deploy.cli.common import EXIT_SOME_FAILED, KINDS
from irsde_deploy.core.samplers import SAMPLERS
from irsde_deploy.pictures.degradations import DEGRADATIONS, parameters_of

PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")])
WIDTH = 120


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_option_is_in_the_reference(name: str) -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    section = page.split(f"## irsde-deploy {name} ")[-1].split(f"## irsde-deploy {name}\n")[-1].split("\n## ")[0]
    for parameter in cli.commands[name].params:
        for option in (*parameter.opts, *parameter.secondary_opts) if isinstance(parameter, click.Option) else ():
            assert f"`{option}" in section, f"{option} of {name} is not in docs/cli.md"


def test_every_exit_code_is_documented_and_no_other() -> None:
    page = (ROOT / "docs" / "exit-codes.md").read_text()
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.IrsdeError)]
    used = {kind.exit_code for kind in kinds} | {0, EXIT_SOME_FAILED, EXIT_BUG, EXIT_INTERRUPTED}
    assert used == documented


def test_every_sampler_is_documented() -> None:
    page = (ROOT / "docs" / "mathematics.md").read_text().partition("## The bias of the training target")[0]
    assert re.findall(r"^\| `([a-z0-9-]+)` \| [^|]*(?:y|posterior)", page, re.MULTILINE) == list(SAMPLERS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
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


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_documents_wrap(page: Path) -> None:
    assert [line for line in prose(page) if len(line) > WIDTH] == []
