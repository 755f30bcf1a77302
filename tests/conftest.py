"""Fixtures that several test modules use."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads cost small networks more than they bring
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # for the tests that use ONNX Runtime by themselves

import pytest
from golden import NETWORK_CASES, GoldenCase, load_case

from irsde_deploy.__main__ import main


@pytest.fixture(params=NETWORK_CASES)
def case(request: pytest.FixtureRequest) -> GoldenCase:
    return load_case(request.param)


@pytest.fixture(scope="session")
def unet_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden U-Net exported by the command's own code: (folder)/unet.onnx."""
    from irsde_deploy.export.description import describe, flags
    from irsde_deploy.export.exporter import export_checkpoint
    from irsde_deploy.networks.checkpoints import read_checkpoint

    golden = load_case("unet_nf8_depth4")
    checkpoint = read_checkpoint(golden.weights)
    path = tmp_path_factory.mktemp("engines") / "unet.onnx"
    export_checkpoint(checkpoint, describe(checkpoint, [flags(task="derain", **golden.sde)]).card, path)
    return path


@pytest.fixture(scope="session")
def small_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of one convolution, without PyTorch: (folder)/small.onnx."""
    from small_network import write_small_network

    return write_small_network(tmp_path_factory.mktemp("engines") / "small.onnx")


@pytest.fixture(scope="session")
def onnx_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Name of a golden case or of a random network that does not see mu -> its FP32 ONNX file, written once."""
    from golden import torch_engine
    from unconditional import CASES, random_network

    from irsde_deploy.core.card import ModelCard
    from irsde_deploy.core.sde import DenoisingSDE
    from irsde_deploy.export.to_onnx import write_onnx

    folder = tmp_path_factory.mktemp("onnx")

    def path_of(name: str) -> Path:
        path = folder / f"{name}.onnx"
        if path.exists():
            return path
        if name in CASES:
            model = random_network(name)
            sde = DenoisingSDE(max_sigma=75, T=100, schedule="cosine")
            card = ModelCard(name, CASES[name], 3, model.multiple_of, model.pad_mode, sde, sampler="mean", steps=4)
        else:
            engine = torch_engine(load_case(name))
            model, card = engine.model, engine.card
        write_onnx(model, card, path)
        return path

    return path_of


@pytest.fixture(scope="session")
def unet_pack(unet_onnx: Path) -> Path:
    """A pack of the golden U-Net (`packs.UNET_SAMPLING`), not to be changed."""
    pytest.importorskip("openvino", reason="OpenVINO is not installed (extra openvino)")
    from packs import UNET_SAMPLING, UNET_SIZE

    from irsde_deploy.embedding.pack import write_pack

    folder = unet_onnx.with_name("unet.pack")
    write_pack(unet_onnx, folder, UNET_SAMPLING, UNET_SIZE)
    return folder


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def succeeds(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    """Run a command in this process, which must end well; gives its stdout and stderr, C libraries' included."""

    def run(*arguments: object) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["irsde-deploy", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        stdout, stderr = capfd.readouterr()
        assert not stop.value.code, stderr
        return stdout, stderr

    return run


@pytest.fixture
def fails_with(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Run a command in this process: it must end with this code and one sentence on stderr, C libraries included."""

    def check(code: int, message: str, *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["irsde-deploy", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        stderr = capfd.readouterr().err
        assert stop.value.code == code, stderr
        assert message in stderr
        assert len(stderr.strip().splitlines()) == 1, stderr

    return check
