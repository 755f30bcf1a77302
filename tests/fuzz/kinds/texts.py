"""Texts: options files, recipes, manifests, range tables, work folders of videos, plans of training runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from random import Random

from irsde_deploy.calibration.manifest import read_manifest
from irsde_deploy.calibration.range_table import read_table
from irsde_deploy.export.sources import SettingsSource, read_options_file, read_recipe, recipe_folder
from irsde_deploy.training.data_plan import DataPlan
from irsde_deploy.training.plan import make_plan
from irsde_deploy.video.piece_files import Piece, describe_piece, read_piece
from irsde_deploy.video.work_folder import WorkFolder

from .. import values
from .kind import Kind, good_files, require

CALIBRATION = Path(__file__).parents[3] / "calibration"

_OPTIONS = """\
#### general settings
name: ir-sde
use_tb_logger: true
model: denoising
distortion: derain
gpu_ids: [0]

sde:
  max_sigma: 10
  T: 100
  schedule: cosine
  eps: 0.005
  sample_T: 50

degradation: # for some synthetic dataset that only have GTs
  sigma: 25
  noise_type: G
  scale: 4

datasets:
  train:
    name: Train_Dataset
    mode: LQGT
    dataroot_GT: /data/trainH/GT
    dataroot_LQ: /data/trainH/LQ
    use_shuffle: true
    batch_size: 16
    GT_size: 128
    use_flip: true
    use_rot: true
    color: RGB

network_G:
  which_model_G: ConditionalUNet
  setting:
    in_nc: 3
    out_nc: 3
    nf: 64
    depth: 4

train:
  optimizer: Adam
  lr_G: !!float 1e-4
  lr_scheme: MultiStepLR
  beta1: 0.9
  beta2: 0.99
  niter: 700000
  warmup_iter: -1
  lr_steps: [200000, 400000, 600000]
  lr_gamma: 0.5
  eta_min: !!float 1e-7
  is_weighted: false
  loss_type: l1
  weight: 1.0
  manual_seed: 0
  val_freq: !!float 5e3

logger:
  print_freq: 100
  save_checkpoint_freq: !!float 5e3
"""


def _text(
    name: str,
    make: Callable[[Path], None],
    spoil: Callable[[Random, bytes], bytes],
    read: Callable[[Path, Path], None],
    weight: float,
) -> Kind:
    """A kind of text files: one of those that `make` writes is spoilt."""

    def damage(rng: Random, good: Path, target: Path) -> Path:
        path = rng.choice(good_files(good))
        made = target / path.name
        made.write_bytes(spoil(rng, path.read_bytes()) or b" ")
        return made

    return Kind(name, make, damage, read, weight=weight)


def _make_yaml(folder: Path) -> None:
    (folder / "options.yml").write_text(_OPTIONS)
    refusion = _OPTIONS.replace("ConditionalUNet", "ConditionalNAFNet").replace("depth: 4", "width: 64")
    (folder / "refusion.yml").write_text(refusion.replace("model: denoising", "model: latent_denoising"))
    (folder / "gt.yml").write_text(_OPTIONS.replace("  eps: 0.005\n", "").replace("mode: LQGT", "mode: GT"))


def _read_options(path: Path, outputs: Path) -> None:
    del outputs
    _use(read_options_file(path))


def _use(source: SettingsSource) -> None:
    """What a training run does with a source: make a plan of it, for data that are named on the command line."""
    require(source.note.isprintable() and len(source.note) < 2000, "a note that cannot be printed")
    data = source.data.get("degradation")
    plan = make_plan([source], DataPlan(gt="clean", lq=None if data else "rainy"), {}, None)
    require(bool(plan.to_json()), "a plan of nothing")


def _make_toml(folder: Path) -> None:
    for name in ("derain", "derain-small", "small", "denoise-small", "super-resolution-refusion"):
        shutil.copyfile(recipe_folder() / f"{name}.toml", folder / f"{name}.toml")


def _read_recipe(path: Path, outputs: Path) -> None:
    del outputs
    _use(read_recipe(str(path)))


def _make_manifest(folder: Path) -> None:
    shutil.copyfile(
        next(path for path in CALIBRATION.glob("*.json") if not path.name.startswith("ranges-")), folder / "m.json"
    )


def _read_manifest(path: Path, outputs: Path) -> None:
    """What is read is written again, and read as the same."""
    manifest = read_manifest(path)
    manifest.write(outputs / "again.json")
    require(asdict(read_manifest(outputs / "again.json")) == asdict(manifest), "what is read is written in another way")


def _make_table(folder: Path) -> None:
    whole = json.loads(next(CALIBRATION.glob("ranges-*.json")).read_text())
    few = dict(list(whole["tensors"].items())[:5])
    (folder / "ranges.json").write_text(json.dumps({**whole, "tensors": few}))


def _read_table(path: Path, outputs: Path) -> None:
    del outputs
    table = read_table(path)
    table.covers([])
    for method in ("mse",):
        table.ranges(method)
    require(Path(table.file_name).name == table.file_name, "a range table's name is a path")


def _make_work(folder: Path) -> None:
    work = folder / ".v.mkv.irsde"
    work.mkdir()
    (work / "000000.mkv").write_bytes(b"a piece" * 50)
    describe_piece(Piece(work / "000000.mkv", ((0, 1), (1, 1), (2, 1)), 0))
    settings = {"version of irsde-deploy": "0.1", "input": {"size": 5, "sha256": "0" * 64}, "engine": "x", "steps": 4}
    (work / "manifest.json").write_text(json.dumps(settings, indent=1))
    (work / "partial.json").write_text(json.dumps({"name": "v.partial.mkv", "state": [5, 7]}))


def _damage_work(rng: Random, good: Path, target: Path) -> Path:
    made = target / ".v.mkv.irsde"
    shutil.copytree(good / ".v.mkv.irsde", made)
    name = rng.choice(("manifest.json", "partial.json", "000000.json", "000000.json"))
    (made / name).write_bytes(values.spoil_json(rng, (made / name).read_bytes()))
    return made


def _read_work(path: Path, outputs: Path) -> None:
    del outputs
    work = WorkFolder(path.with_name("v.mkv"))
    partial = work.partial
    require(partial.parent == path.parent, "the partial file is somewhere else")
    work.claim()
    try:
        require(isinstance(work.settings, dict), "settings of no names")
        read_piece(path / "000000.mkv", path / "000000.json")
    finally:
        work.release()


YAML = _text("yaml", _make_yaml, values.spoil_yaml, _read_options, 0.6)
TOML = _text("toml", _make_toml, values.spoil_toml, _read_recipe, 0.4)
MANIFESTS = _text("manifests", _make_manifest, values.spoil_json, _read_manifest, 0.4)
TABLES = _text("range tables", _make_table, values.spoil_json, _read_table, 0.4)
WORK = Kind("work folders", _make_work, _damage_work, _read_work, weight=0.4)
