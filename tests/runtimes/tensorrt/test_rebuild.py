"""A plan built again: from which file, with which options and in which precision; what cannot be is refused."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from small_quantisable import small_quantisable

from irsde_deploy.core.card import ModelCard
from irsde_deploy.errors import InvalidValueError, MissingPackageError
from irsde_deploy.graphs.onnx_file import read_model, write_model
from irsde_deploy.precision.lowering import for_plan
from irsde_deploy.runtimes.device.drivers.probe import devices
from irsde_deploy.runtimes.tensorrt.builder import build_plan
from irsde_deploy.runtimes.tensorrt.options import BuildOptions
from irsde_deploy.runtimes.tensorrt.plan_card import read_plan_card
from irsde_deploy.runtimes.tensorrt.profiles import Profile
from irsde_deploy.runtimes.tensorrt.rebuild import rebuild, rebuild_where_unfit
from irsde_deploy.system.listener import Listener

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (extra rtx)")


def written(path: Path) -> Path:
    write_model(*small_quantisable(), path)
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plan in mixed precision for a GPU that is not here, and small.onnx beside it."""
    folder = tmp_path_factory.mktemp("built")
    source = written(folder / "small.onnx")
    model, card = for_plan(*read_model(source), None, source)
    options = BuildOptions("tensorrt-rtx", (Profile(*[(1, 64, 64)] * 3),), compute_capabilities=("8.9",))
    build_plan(model, card, source, folder / "small.plan", options)
    return folder


@pytest.fixture
def plan(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path, dirs_exist_ok=True)) / "small.plan"


def test_the_build_is_given_what_the_card_says(plan: Path) -> None:
    given: list[tuple[ModelCard, Path, Path, BuildOptions]] = []

    def build(model: object, card: ModelCard, source: Path, path: Path, options: BuildOptions) -> None:
        given.append((card, source, path, options))

    before = plan.read_bytes()
    rebuild(plan, for_plan, build)
    ((card, source, path, options),) = given
    assert (card.precision, source, path) == ("mixed", plan.with_suffix(".onnx"), plan)
    assert options.profiles == read_plan_card(plan).build.profiles
    assert plan.read_bytes() == before, "this build wrote nothing"
    rebuild(plan, for_plan)
    assert read_plan_card(plan).onnx_sha256 == hashlib.sha256(source.read_bytes()).hexdigest()


@pytest.mark.skipif(bool(devices()), reason="this machine has a GPU: the plan may be built again for it")
def test_nothing_is_built_again_without_a_gpu(plan: Path) -> None:
    notes: list[str] = []
    with pytest.raises(MissingPackageError, match="small.plan needs an NVIDIA GPU"):
        rebuild_where_unfit(plan, for_plan, listener=Listener(note=notes.append))
    assert notes == []


@pytest.mark.parametrize(
    ("own", "wanted", "message"),
    [("fp32", "int8", "make it int8 first, with 'irsde-deploy calibrate'"), ("fp16", "mixed", "cannot become mixed")],
)
def test_a_graph_that_cannot_come_into_the_precision_is_refused(
    own: str, wanted: str, message: str, tmp_path: Path
) -> None:
    source = written(tmp_path / "small.onnx")
    model, card = read_model(source)
    if own != "fp32":
        model, card = for_plan(model, card, own, source)
    with pytest.raises(InvalidValueError, match=message):
        for_plan(model, card, wanted, source)
    assert for_plan(model, card, card.precision, source) == (model, card)
