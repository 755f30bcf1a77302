"""From a file, a device, a provider and a card to an engine, or to one sentence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from irsde_deploy.core.card import ModelCard
from irsde_deploy.errors import EngineError, InputFileError, InvalidValueError, MissingPackageError
from irsde_deploy.graphs.onnx_file import read_model
from irsde_deploy.runtimes.engines.auto_engine import AutoEngine
from irsde_deploy.runtimes.engines.onnx_session import _with_options, open_session
from irsde_deploy.runtimes.opening import ENGINES, OpenOptions, open_engine

PROVIDERS = ("onnxruntime", "openvino", "auto")


@pytest.fixture
def card(small_onnx: Path) -> ModelCard:
    return read_model(small_onnx)[1]


@pytest.fixture
def without_card(small_onnx: Path, tmp_path: Path) -> Path:
    model = onnx.load(small_onnx)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    return tmp_path / "bare.onnx"


def needs(provider: str | None) -> None:
    if provider in ("openvino", "auto"):
        pytest.importorskip("openvino", reason="OpenVINO is not installed (extra openvino)")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_card_that_is_given_serves_files_without_one_and_yields_to_theirs(
    provider: str, small_onnx: Path, without_card: Path, card: ModelCard
) -> None:
    needs(provider)
    given = replace(card, steps=7)
    assert open_engine(without_card, card=given, provider=provider).card == given
    assert open_engine(small_onnx, card=given, provider=provider).card == card
    with pytest.raises(EngineError, match="there is no model card inside"):
        open_engine(without_card, provider=provider)


def test_a_suffix_may_be_written_large(small_onnx: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(small_onnx, tmp_path / "A.ONNX"))
    for device in ("cpu", "auto"):
        assert open_engine(path, device).card.network == "small"


def test_auto_prefers_onnxruntime_where_both_are_as_fast(small_onnx: Path) -> None:
    needs("auto")
    engine = open_engine(small_onnx, provider="auto")
    assert isinstance(engine, AutoEngine)
    first, _, other = engine.name.removeprefix("the faster of ").partition(" and ")
    assert (first.split()[0], other.split()[0]) == ("ONNX", "OpenVINO")


def record(opened: list[OpenOptions], error: Exception | None = None) -> Callable[[Path, OpenOptions], object]:
    """An opener that remembers its options, and has no GPU."""

    def opener(path: Path, options: OpenOptions) -> object:
        opened.append(options)
        if options.device == "cuda" and error is not None:
            raise error
        return "an engine"

    return opener


@pytest.mark.parametrize("error", [MissingPackageError("no driver"), EngineError("the GPU refused: out of order")])
@pytest.mark.parametrize(("provider", "on_cuda", "on_cpu"), [
    (None, "cuda", "onnxruntime"), ("openvino", "cuda", "openvino"), ("tensorrt", "tensorrt", "onnxruntime"),
])  # fmt: skip
def test_auto_tries_the_gpu_and_then_the_cpu_each_with_a_provider_of_its_own(
    error: Exception, provider: str | None, on_cuda: str, on_cpu: str,
    small_onnx: Path, card: ModelCard, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    opened: list[OpenOptions] = []
    monkeypatch.setitem(ENGINES, ".onnx", record(opened, error))
    open_engine(small_onnx, "auto", card, "host", provider)
    assert opened == [OpenOptions("cuda", card, "host", on_cuda), OpenOptions("cpu", card, "host", on_cpu)]
    monkeypatch.setitem(ENGINES, ".onnx", record(opened))
    open_engine(small_onnx, "auto")
    assert [options.device for options in opened] == ["cuda", "cpu", "cuda"], "a GPU that works is enough"


def test_a_plan_goes_to_the_gpu_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.plan").write_bytes(b"plan")
    opened: list[OpenOptions] = []
    monkeypatch.setitem(ENGINES, ".plan", record(opened, MissingPackageError("no driver")))
    for device in (None, "auto"):
        with pytest.raises(MissingPackageError, match="no driver"):
            open_engine(tmp_path / "a.plan", device)
    assert [options.device for options in opened] == ["cuda", "cuda"]


def test_names_that_there_are_not_are_refused_on_every_device(small_onnx: Path) -> None:
    for device in ("cpu", "cuda", "auto"):
        with pytest.raises(InvalidValueError, match="a provider .*must be one of .*, not 'tpu'"):
            open_engine(small_onnx, device, provider="tpu")
        with pytest.raises(
            InvalidValueError, match="a driver must be one of cuda-bindings, pycuda, host, not 'opencl'"
        ):
            open_engine(small_onnx, device, driver="opencl")
    with pytest.raises(InvalidValueError, match="a provider on cpu must be one of onnxruntime, openvino, auto"):
        open_engine(small_onnx, "cpu", provider="cuda")
    with pytest.raises(InvalidValueError, match="device 'cuda:1' is called 'cuda' here: the first GPU"):
        open_engine(small_onnx, "cuda:1")
    with pytest.raises(InputFileError, match="no engine of this version reads files without a suffix"):
        open_engine(Path(shutil.copy(small_onnx, small_onnx.with_name("small"))))


def test_sessions_are_told_what_precision_and_a_shared_machine_ask_for(
    small_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that wait asleep, FP32 without TF32, and CUDA for what TensorRT leaves; engines are code, for one's own
    eyes.
    """
    monkeypatch.setenv("IRSDE_CACHE", str(tmp_path / "cache"))
    options = open_session(small_onnx).get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    cuda = ("CUDAExecutionProvider", {"use_tf32": "0"})
    assert _with_options("cuda") == [cuda]
    (name, settings), after = _with_options("tensorrt")
    assert (name, after) == ("TensorrtExecutionProvider", cuda)
    folder = Path(settings["trt_engine_cache_path"])
    assert settings["trt_engine_cache_enable"] is True
    assert folder.is_relative_to(tmp_path)
    assert folder.stat().st_mode & 0o077 == 0
