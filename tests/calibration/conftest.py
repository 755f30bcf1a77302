"""A small graph, pairs for it, and the command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from calibration_pairs import write_pairs
from small_quantisable import small_quantisable

from irsde_deploy.core.sde import DenoisingSDE
from irsde_deploy.graphs.onnx_file import read_model, write_model


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    model, card = small_quantisable()
    write_model(model, card, tmp_path / "small.onnx")
    return tmp_path / "small.onnx"


@pytest.fixture
def denoising(source: Path) -> Path:
    """The same graph without mu, of a Denoising-SDE."""
    model, card = read_model(source)
    for node in model.graph.node:
        node.input[:] = ["x" if name == "mu" else name for name in node.input]
    del model.graph.input[1]
    sde = DenoisingSDE(max_sigma=50, T=100, schedule="cosine", eps=0.5)
    path = source.with_name("denoising.onnx")
    write_model(model, replace(card, sde=sde, settings={"conditional": False}), path)
    return path


@pytest.fixture
def irsde(succeeds: Callable[..., tuple[str, str]]) -> Callable[..., str]:
    """Run a command; gives what it prints on stdout."""
    return lambda *arguments: succeeds(*arguments)[0]


@pytest.fixture
def told(succeeds: Callable[..., tuple[str, str]]) -> Callable[..., str]:
    """Run a command; gives what it prints on stderr."""
    return lambda *arguments: succeeds(*arguments)[1]


@pytest.fixture
def calibrate(irsde: Callable[..., str]) -> Callable[..., str]:
    return partial(irsde, "calibrate")
