"""The wheel and the sdist: what is in them, and that the wheel alone exports, inspects and restores, elsewhere."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from places import ASSETS, ROOT

from irsde_deploy import __version__

pytestmark = pytest.mark.slow
pytest.importorskip("uv", reason="uv is not installed (extra dev)")

BROUGHT = {
    "export/": "irsde_deploy/export/recipes/",
    "runtimes/cpp/": "irsde_deploy/embedding/cpp/",
    "runtimes/gstreamer/": "irsde_deploy/plugins/gstreamer/",
}
"""What is beside the package in the repository -> where it is in the wheel (pyproject.toml, force-include)."""

NOT_IN_SDIST = ("tests/data/", "docs/img/")


@dataclass(frozen=True)
class Built:
    """Files of one build.

    Attributes:
        wheel: made from the checkout.
        sdist: made from the checkout.
        again: the wheel that was made from the sdist alone.
    """

    wheel: Path
    sdist: Path
    again: Path


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--quiet", "--wheel", "--out-dir", folder / "checkout", ROOT)
    uv("build", "--quiet", "--sdist", "--out-dir", folder / "sdist", ROOT)
    (sdist,) = (folder / "sdist").glob("*.tar.gz")
    uv("build", "--quiet", "--wheel", "--out-dir", folder / "again", sdist)
    (wheel,), (again,) = (list((folder / name).glob("*.whl")) for name in ("checkout", "again"))
    return Built(wheel, sdist, again)


@pytest.fixture(scope="session")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of an environment that has the wheel with [cpu,export], in the versions that are here."""
    torch = importlib.metadata.version("torch").partition("+")[0]
    environment = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = [environment / "bin/pip", "install", "--quiet", "--no-deps", f"torch=={torch}"]  # which finds builds for CPUs
    subprocess.run(pip, check=True)
    versions = environment / "constraints.txt"
    versions.write_text("".join(f"{name}=={version}\n" for name, version in versions_here().items()))
    into = ("--python", environment / "bin/python", "--constraint", versions)
    uv("pip", "install", "--quiet", *into, f"{built.wheel}[cpu,export]")
    return environment / "bin/irsde-deploy"


@pytest.fixture(scope="session")
def elsewhere(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of nobody's with a checkpoint, a rainy picture, the export of the one and the restored other."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name in ("derain_nafnet_w16.safetensors", "rain.png"):
        shutil.copy(ASSETS / name, folder)
    lines = ran(installed, folder, "export", "derain_nafnet_w16.safetensors", "-o", "derain.onnx")
    assert "derain.onnx" in lines
    ran(installed, folder, "run", "--engine", "derain.onnx", "rain.png", "-o", "restored.png")
    return folder


def test_the_wheel_holds_what_the_package_and_its_runtimes_are_and_nothing_else(built: Built) -> None:
    sources = {name for name in repository() if name.startswith("irsde_deploy/")}
    brought = {
        home + name.removeprefix(top) for top, home in BROUGHT.items() for name in repository() if name.startswith(top)
    }
    information = f"irsde_deploy-{__version__}.dist-info/"
    names = set(hashes(built.wheel))
    assert {name for name in names if not name.startswith(information)} == sources | brought
    assert "irsde_deploy/export/recipes/derain.toml" in names
    assert "irsde_deploy/embedding/cpp/CMakeLists.txt" in names
    assert "irsde_deploy/plugins/gstreamer/python/irsde_gst.py" in names
    assert {name.removeprefix(information) for name in names if name.startswith(information)} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "licenses/LICENSE",
    }


def test_the_sdist_holds_the_repository_without_what_is_large_or_not_ours(built: Built) -> None:
    wanted = {name for name in repository() if not name.startswith(NOT_IN_SDIST)}
    top = f"irsde_deploy-{__version__}/"
    with tarfile.open(built.sdist) as archive:
        names = {member.name.removeprefix(top) for member in archive if member.isfile()}
    assert names == wanted | {"PKG-INFO"}
    assert built.sdist.stat().st_size < 10_000_000


def test_the_sdist_makes_the_same_wheel(built: Built) -> None:
    assert built.again.name == built.wheel.name == f"irsde_deploy-{__version__}-py3-none-any.whl"
    assert hashes(built.again) == hashes(built.wheel)


def test_the_wheel_restores_the_very_picture_of_the_checkout(
    elsewhere: Path, succeeds: Callable[..., tuple[str, str]], tmp_path: Path
) -> None:
    succeeds("export", ASSETS / "derain_nafnet_w16.safetensors", "-o", tmp_path / "derain.onnx")
    succeeds("run", "--engine", tmp_path / "derain.onnx", ASSETS / "rain.png", "-o", tmp_path / "restored.png")
    assert (elsewhere / "restored.png").read_bytes() == (tmp_path / "restored.png").read_bytes()
    assert (elsewhere / "restored.png").read_bytes() != (ASSETS / "rain.png").read_bytes()


def test_the_wheel_inspects_and_takes_recipes(elsewhere: Path, installed: Path) -> None:
    card = json.loads(ran(installed, elsewhere, "inspect", "derain.onnx", "--json"))
    assert card["card"]["network"] == "ConditionalNAFNet"
    refused = ran(installed, elsewhere, "export", "rain.png", "-o", "a.onnx", "--recipe", "derian", code=1)
    assert "derain" in refused
    python = installed.with_name("python")
    where = subprocess.run([python, "-c", "import irsde_deploy; print(irsde_deploy.__file__)"], cwd=elsewhere, **TEXT)
    assert Path(where.stdout.strip()).is_relative_to(installed.parents[1])


@pytest.mark.parametrize(("version", "resolution"), [("3.10", "lowest-direct"), ("3.13", "highest")])
def test_the_oldest_and_newest_python_restore_with_cpu_alone(
    version: str, resolution: str, built: Built, elsewhere: Path, tmp_path: Path
) -> None:
    """Other releases of the engine round differently: one level of 255, in a few pixels of a thousand at most."""
    environment = tmp_path / "venv"
    uv("venv", "--quiet", "--python", interpreter(version), environment)
    into = ("--python", environment / "bin/python", "--resolution", resolution)
    uv("pip", "install", "--quiet", *into, f"{built.wheel}[cpu]")
    assert not list(environment.glob("lib/*/site-packages/torch"))
    command = environment / "bin/irsde-deploy"
    ran(command, tmp_path, "run", "--engine", elsewhere / "derain.onnx", ASSETS / "rain.png", "-o", "restored.png")
    restored, expected = (cv2.imread(str(folder / "restored.png")).astype(int) for folder in (tmp_path, elsewhere))
    assert restored.shape == expected.shape == cv2.imread(str(ASSETS / "rain.png")).shape
    difference = np.abs(restored - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.005


TEXT = {"capture_output": True, "text": True, "check": True}


def uv(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "uv", *map(str, arguments)], check=True)


def ran(command: Path, folder: Path, *arguments: object, code: int = 0) -> str:
    """Run the command of an environment in a folder; gives what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([command, *map(str, arguments)], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def repository() -> set[str]:
    """The files of the repository: those that git knows or would add, by their paths in it."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, **TEXT).stdout.split("\0")
    return {name for name in names if name and (ROOT / name).is_file()}


def hashes(wheel: Path) -> dict[str, str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


def versions_here() -> dict[str, str]:
    """The packages that these tests run with, and their versions."""
    found = {
        package.metadata["Name"]: package.version.partition("+")[0] for package in importlib.metadata.distributions()
    }
    return {name: version for name, version in found.items() if name != "irsde-deploy"}


def interpreter(version: str) -> str:
    """Python of a version, pyenv's or the system's; without it the test is skipped."""
    homes = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for candidate in (*map(str, sorted(homes.glob(f"{version}.*/bin/python"))), f"python{version}"):
        if shutil.which(candidate) and subprocess.run([candidate, "--version"], capture_output=True).returncode == 0:
            return candidate
    pytest.skip(f"Python {version} is not installed")
