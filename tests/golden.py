"""Golden values of the reference implementation (see tests/data/README.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irsde_deploy.runtimes.opening import open_engine
from irsde_deploy.runtimes.protocol import Engine

HERE = Path(__file__).parent
GOLDEN_FOLDERS = (HERE / "data" / "golden", HERE.parents[1] / "shared" / "golden")
NETWORK_CASES = ("unet_nf8_depth4", "nafnet_w16", "latent_nafnet_w8")


def golden_path(name: str) -> Path:
    """A golden file or folder: committed ones first, then those beside the repository; skips where there is none."""
    for folder in GOLDEN_FOLDERS:
        if (folder / name).exists():
            return folder / name
    pytest.skip(f"golden/{name} is neither in tests/data nor in ../shared")


@dataclass(frozen=True)
class GoldenCase:
    """One network of the reference with what it computed."""

    name: str
    weights: Path
    network: str
    settings: dict[str, Any]
    sde: dict[str, Any]
    expected: dict[str, np.ndarray]


def torch_engine(case: GoldenCase) -> Engine:
    """The network of a case as the PyTorch engine, described by its own settings."""
    from irsde_deploy.export.description import describe, flags
    from irsde_deploy.networks.checkpoints import read_checkpoint

    checkpoint = read_checkpoint(case.weights)
    card = describe(checkpoint, [flags(form=case.settings.get("form"), **case.sde)]).card
    return open_engine(case.weights, card=card)


def load_case(name: str) -> GoldenCase:
    folder = golden_path(name)
    case = json.loads((folder / "case.json").read_text())
    network = case["network"]
    settings = dict(network["setting"])
    if "form" in network:
        settings["form"] = network["form"]
    with np.load(folder / "expected.npz") as arrays:
        expected = dict(arrays)
    kind = network.get("which_model_G") or network["which_model"]
    return GoldenCase(name, folder / "weights.pth", kind, settings, case.get("sde", {}), expected)
