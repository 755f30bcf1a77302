"""A small graph, pairs for it, and the command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from calibration_pairs import write_pairs
from small_quantisable import small_quantisable

from irsde_deploy.__main__ import main
from irsde_deploy.export.onnx_model import write_model


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    model, card = small_quantisable()
    write_model(model, card, tmp_path / "small.onnx")
    return tmp_path / "small.onnx"


@pytest.fixture
def irsde(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["irsde-deploy", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capfd.readouterr()
        assert not stop.value.code, printed.err
        return printed.out

    return run


@pytest.fixture
def calibrate(irsde: Callable[..., str]) -> Callable[..., str]:
    return partial(irsde, "calibrate")
