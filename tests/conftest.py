"""Fixtures that several test modules use."""

from __future__ import annotations

import os
import socket
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads cost small networks more than they bring

import pytest
from golden import NETWORK_CASES, GoldenCase, load_case


@pytest.fixture(params=NETWORK_CASES)
def case(request: pytest.FixtureRequest) -> GoldenCase:
    return load_case(request.param)


@pytest.fixture(scope="session")
def unet_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden U-Net exported by the command's own code: (folder)/unet.onnx."""
    from irsde_deploy.export.checkpoints import read_checkpoint
    from irsde_deploy.export.exporter import export_checkpoint
    from irsde_deploy.export.settings import describe, flags

    golden = load_case("unet_nf8_depth4")
    checkpoint = read_checkpoint(golden.weights)
    path = tmp_path_factory.mktemp("engines") / "unet.onnx"
    export_checkpoint(checkpoint, describe(checkpoint, [flags(task="derain", **golden.sde)]).card, path)
    return path


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
