"""Pictures of every type and size through a real engine."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from golden import load_case
from onnx import numpy_helper

from irsde_deploy import ModelCard, Restorer, load, plan_steps
from irsde_deploy.__main__ import main
from irsde_deploy.errors import EngineError, InputFileError, InvalidValueError, MissingPackageError, NotFiniteError
from irsde_deploy.graphs.onnx_file import read_model, write_model
from irsde_deploy.networks.checkpoints import read_checkpoint, save_checkpoint
from irsde_deploy.pictures.files import Picture, read_picture, write_picture
from irsde_deploy.precision.lowering import lower_model
from irsde_deploy.runtimes.device.drivers.probe import devices
from irsde_deploy.runtimes.engines.onnx_session import require_provider
from irsde_deploy.runtimes.opening import open_engine
from irsde_deploy.runtimes.protocol import Engine
from irsde_deploy.system.files import file_sha256

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def restorer(unet_onnx: Path) -> Restorer:
    return load(unet_onnx)


def test_float_pictures_with_injected_noise_give_the_references_result(restorer: Restorer) -> None:
    e = load_case("unet_nf8_depth4").expected
    picture = e["lq"][0].transpose(1, 2, 0)
    out = restorer(picture, sampler="ode", steps=100, noise=e["noise"])
    golden = e["ode_x0"][0].transpose(1, 2, 0)
    assert np.abs(out - golden).max() < 1e-5 * np.abs(golden).max()
    assert np.abs(golden).max() > 1, "the golden result leaves [0, 1], and floats must not be clipped"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_are_the_rounded_float_result(restorer: Restorer, dtype: type) -> None:
    white = np.iinfo(dtype).max
    picture = RNG.integers(0, white, (20, 17, 3), dtype=dtype, endpoint=True)
    as_float = restorer((picture / white).astype(np.float32), steps=4, seed=9)
    expected = np.rint(np.clip(as_float, 0, 1) * white)
    out = restorer(picture, steps=4, seed=9)
    assert out.dtype == dtype
    assert np.abs(out - expected).max() <= (0 if dtype == np.uint8 else 1)  # float32 holds 16 bits to half a unit


def test_byte_order_and_lists(restorer: Restorer) -> None:
    picture = RNG.integers(0, 65536, (6, 7, 3), dtype=np.uint16)
    expected = restorer(picture, steps=2)
    np.testing.assert_array_equal(restorer(picture.astype(">u2"), steps=2), expected)
    floats = (picture / 65535).tolist()
    restored = np.clip(restorer(floats, steps=2), 0, 1)  # type: ignore[arg-type]
    np.testing.assert_allclose(restored, expected / 65535, atol=1e-4)


def test_a_batch_is_its_pictures_one_by_one(restorer: Restorer) -> None:
    batch = RNG.integers(0, 256, (3, 18, 23, 3), dtype=np.uint8)
    together = restorer(batch, steps=5, seed=1)
    for picture, restored in zip(batch, together, strict=True):
        alone = restorer(picture, steps=5, seed=1)
        assert np.abs(alone.astype(int) - restored).max() <= 1  # another order of additions may flip a rounding


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (15, 16), (33, 2)])
def test_any_size(restorer: Restorer, size: tuple[int, int]) -> None:
    """Equal to padding the picture by hand for each evaluation."""
    mu = RNG.random((*size, 3), dtype=np.float32)
    out = restorer(mu, sampler="mean", steps=2, seed=5)
    from irsde_deploy.core.noise import normal_field

    table = plan_steps(restorer.sde, "mean", 2)
    height, width = size
    widths = ((0, -height % 16), (0, -width % 16))

    def pad(x: np.ndarray) -> np.ndarray:
        for axis, missing in enumerate(widths):
            mode = "reflect" if x.shape[axis + 1] > missing[1] else "edge"
            x = np.pad(x, [(0, 0), *[missing if i == axis else (0, 0) for i in (0, 1)]], mode=mode)
        return x[None]

    mu_chw = mu.transpose(2, 0, 1)
    y = table.start * normal_field(5, 0, (3, height, width))
    for k, t in enumerate(table.t):
        eps = restorer.engine(pad(mu_chw + y), pad(mu_chw), np.array([t], np.float32))[0, :, :height, :width]
        y = np.float32(table.a[k]) * y + np.float32(table.c[k]) * eps
    np.testing.assert_allclose(out, (mu_chw + y).transpose(1, 2, 0), rtol=1e-4, atol=1e-4 * np.abs(out).max())


def test_seeds_settings_and_progress(restorer: Restorer) -> None:
    picture = RNG.random((16, 16, 3), dtype=np.float32)
    done: list[int] = []
    one = restorer(picture, steps=3, seed=1, on_step=done.append)
    assert done == [0, 1, 2, 3]
    np.testing.assert_array_equal(one, restorer(picture, steps=3, seed=1))
    assert np.abs(one - restorer(picture, steps=3, seed=2)).max() > 1e-3
    assert np.abs(one - restorer(picture, steps=3, seed=1, debias=True)).max() > 1e-5
    assert len(restorer.plan()) == 10
    assert len(restorer.plan(sampler="euler")) == 100, "a sampler that cannot skip takes every timestep"
    assert restorer.plan(sampler="ddim", t0=10).table.t[0] == len(restorer.plan(sampler="ddim", t0=10)) == 10


@pytest.mark.parametrize(
    ("picture", "options", "message"),
    [
        (np.zeros((8, 8), np.uint8), {}, "must have the shape"),
        (np.zeros((8, 8, 4), np.uint8), {}, "must have the shape"),
        (np.zeros((0, 8, 3), np.uint8), {}, "must have the shape"),
        (np.zeros((8, 8, 3), np.int32), {}, "must be uint8, uint16 or floating"),
        (np.full((8, 8, 3), np.nan), {}, "finite"),
        (np.full((8, 8, 3), 255.0), {}, "in \\[0, 1\\]"),
        (np.zeros((8, 8, 3), np.uint8), {"steps": 0}, "steps must be"),
        (np.zeros((8, 8, 3), np.uint8), {"steps": 101}, "steps must be"),
        (np.zeros((8, 8, 3), np.uint8), {"seed": -1}, "seed must be"),
        (np.zeros((8, 8, 3), np.uint8), {"seed": 1.5}, "seed must be"),
        (np.zeros((8, 8, 3), np.uint8), {"sampler": ["ddim"]}, "sampler must be"),
        (np.zeros((8, 8, 3), np.uint8), {"noise": np.zeros(3, complex)}, "noise must be real"),
        ("a name", {}, "takes an array"),
        (np.zeros((8, 8, 3), np.uint8), {"steps": 2, "noise": np.zeros((2, 1, 3, 8, 8))}, "noise must have"),
    ],
)
def test_bad_arguments(restorer: Restorer, picture: np.ndarray, options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        restorer(picture, **options)  # type: ignore[arg-type]


def test_files_that_are_no_engines(tmp_path: Path) -> None:
    for name, content, error, message in [
        ("empty.onnx", b"", InputFileError, "is empty"),
        ("text.onnx", b"hello", EngineError, "not an ONNX model"),
        ("text.mp3", b"hello", InputFileError, "no engine of this version reads .mp3"),
        ("text.plan", b"hello", EngineError, "there is no card of irsde-deploy inside"),
        ("noise.onnx", bytes(range(256)) * 40, EngineError, "not an ONNX model"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(error, match=message):
            load(tmp_path / name)
    with pytest.raises(InputFileError, match="no such file"):
        load(tmp_path / "nowhere.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(InputFileError, match="is a folder"):
        load(tmp_path / "folder.onnx")


def test_a_plain_checkpoint_needs_a_card() -> None:
    with pytest.raises(EngineError, match="does not say which SDE"):
        load(load_case("unet_nf8_depth4").weights)


def test_our_own_checkpoints_run_in_pytorch_and_agree_with_onnx(restorer: Restorer, tmp_path: Path) -> None:
    weights = read_checkpoint(load_case("unet_nf8_depth4").weights).weights
    picture = RNG.random((19, 33, 3), dtype=np.float32)
    expected = restorer(picture, steps=6, seed=4)
    for name in ("own.pt", "own.safetensors"):
        save_checkpoint(tmp_path / name, weights, restorer.card)
        reference = load(tmp_path / name)
        assert reference.engine.name.startswith("PyTorch")
        assert reference.card.checkpoint_sha256 == file_sha256(tmp_path / name), "as an engine exported from it says"
        assert np.abs(reference(picture, steps=6, seed=4) - expected).max() < 2e-5 * np.abs(expected).max()


def test_a_device_that_is_not_there_is_an_error(small_onnx: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has the CUDA provider")
    with pytest.raises(MissingPackageError, match="no CUDAExecutionProvider"):
        load(small_onnx, device="cuda")
    with pytest.raises(InvalidValueError, match="device must be"):
        load(small_onnx, device="tpu")


class Broken:
    """An engine that answers with something else than the noise."""

    name = "broken"

    def __init__(self, engine: Engine, answer: Callable[[np.ndarray], np.ndarray]) -> None:
        self.card, self.engine, self.answer = engine.card, engine, answer

    def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        return self.answer(self.engine(x, mu, t))


def test_engines_that_answer_nonsense_are_errors_not_pictures(restorer: Restorer) -> None:
    picture = RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    with pytest.raises(EngineError, match="not finite"):
        Restorer(Broken(restorer.engine, lambda eps: eps * np.float32("nan")))(picture, steps=2)
    with pytest.raises(EngineError, match="answered with the shape"):
        Restorer(Broken(restorer.engine, lambda eps: eps[:, :1]))(picture, steps=2)


def test_graphs_that_contradict_their_card_are_refused(small_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(small_onnx)
    card = json.loads(model.metadata_props[0].value)
    model.metadata_props[0].value = json.dumps({**card, "channels": 4})
    onnx.save(model, tmp_path / "four.onnx")
    with pytest.raises(EngineError, match="float32 with 4 channels"):
        load(tmp_path / "four.onnx")
    model.metadata_props[0].value = "{"
    onnx.save(model, tmp_path / "damaged.onnx")
    with pytest.raises(EngineError, match="not valid JSON"):
        load(tmp_path / "damaged.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    with pytest.raises(EngineError, match="no model card"):
        load(tmp_path / "bare.onnx")
    given = load(tmp_path / "bare.onnx", card=ModelCard.from_dict(card))
    picture = RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(given(picture, steps=2), load(small_onnx)(picture, steps=2))


def damaged(source: Path, target: Path) -> Path:
    """The same model with a weight that is NaN from here on: what an overflow in FP16 looks like."""
    model = onnx.load(source)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name in ("final_conv.weight", "w"))
    values = numpy_helper.to_array(weight).copy()
    values[0, 0, 0, 0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, target)
    return target


def test_a_state_that_is_not_finite_names_step_and_precision_and_the_fallback_takes_over(
    small_onnx: Path, tmp_path: Path
) -> None:
    bad = damaged(small_onnx, tmp_path / "bad.onnx")
    picture = RNG.integers(0, 256, (16, 20, 3), dtype=np.uint8)
    first = load(small_onnx).plan(sampler="sde-2m", steps=4).table.t[0]
    with pytest.raises(
        NotFiniteError, match=rf"after step 1 of 4 \(t = {first}\) the state is not finite .*in fp32 on"
    ):
        load(bad)(picture, sampler="sde-2m", steps=4)
    safe = load(bad, fallback=small_onnx)
    np.testing.assert_array_equal(
        safe(picture, sampler="sde-2m", steps=4), load(small_onnx)(picture, sampler="sde-2m", steps=4)
    )
    assert safe.fallbacks == 1


def test_a_fallback_is_the_same_model_in_fp32(unet_onnx: Path, tmp_path: Path) -> None:
    golden = load_case("unet_nf8_depth4")
    card = load(unet_onnx).card
    picture = RNG.integers(0, 256, (16, 20, 3), dtype=np.uint8)
    bad = damaged(unet_onnx, tmp_path / "bad.onnx")
    checkpoint = Restorer(open_engine(golden.weights, card=card))  # the very file that was exported
    found = Restorer(open_engine(bad), checkpoint)(picture, sampler="mean", steps=2)
    assert np.abs(found.astype(int) - load(unet_onnx)(picture, sampler="mean", steps=2)).max() <= 1
    lowered = lower_model(*read_model(unet_onnx), "mixed")
    write_model(lowered.model, lowered.card, tmp_path / "mixed.onnx")
    with pytest.raises(InvalidValueError, match="the fallback is mixed itself"):
        load(bad, fallback=tmp_path / "mixed.onnx")


def test_run_writes_no_black_picture_and_counts_what_the_fallback_did(
    small_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = damaged(small_onnx, tmp_path / "bad.onnx")
    picture = RNG.integers(0, 256, (16, 20, 3), dtype=np.uint8)
    for name in ("a.png", "b.png"):
        write_picture(tmp_path / "in" / name, Picture(picture))
    arguments = ["--engine", str(bad), str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--steps", "3"]
    assert command(monkeypatch, "run", *arguments) == 4
    assert not list((tmp_path / "out").glob("*"))
    assert "the state is not finite" in capfd.readouterr().err
    assert command(monkeypatch, "run", *arguments, "--fallback", str(small_onnx)) == 0
    assert "2 of 2 done by" in capfd.readouterr().err
    np.testing.assert_array_equal(read_picture(tmp_path / "out" / "a.png").rgb, load(small_onnx)(picture, steps=3))


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["irsde-deploy", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_auto_takes_the_cpu_where_there_is_no_gpu_and_says_so(small_onnx: Path) -> None:
    if devices():
        pytest.skip("this machine has a GPU")
    picture = RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    auto = load(small_onnx, device="auto")
    assert auto.engine.name.endswith("cpu")
    np.testing.assert_array_equal(auto(picture, steps=2), load(small_onnx)(picture, steps=2))
    with pytest.raises(MissingPackageError):
        load(small_onnx, device="cuda")


def test_a_provider_that_fell_back_is_an_error() -> None:
    """What a session of ONNX Runtime says of itself where CUDA's libraries are missing."""
    require_provider(["CUDAExecutionProvider", "CPUExecutionProvider"], "cuda")
    for started, provider in ((["CPUExecutionProvider"], "cuda"), (["CUDAExecutionProvider"], "tensorrt")):
        with pytest.raises(MissingPackageError, match=f"fell back to {started[0]}"):
            require_provider(started, provider)


def test_the_name_of_a_file_is_refused_with_how_to_read_it(small_onnx: Path) -> None:
    restorer = load(small_onnx)
    for name in ("rainy.png", Path("rainy.png"), b"rainy.png"):
        with pytest.raises(InvalidValueError, match=r"takes an array \(H, W, 3\), RGB, not the name of a file: read"):
            restorer(name)
    with pytest.raises(InvalidValueError, match="RGB, not dict"):
        restorer({})


def test_a_restorer_says_what_it_is(small_onnx: Path) -> None:
    restorer = load(small_onnx)
    text = repr(restorer)
    assert text.startswith(f"<Restorer {small_onnx}: {restorer.card.network} ")
    assert f"in fp32 by {restorer.engine.name}; {restorer.card.sampler}, {restorer.card.steps} steps by default" in text
    assert repr(load(small_onnx, fallback=small_onnx)).endswith(f"(fallback: {text})>")


@pytest.mark.parametrize(
    ("settings", "kind", "sentence"),
    [
        ({"foo": 1}, TypeError, "there is no setting 'foo' of sampling: there are sampler, steps, "),
        (
            {"seed": 10**5000},
            InvalidValueError,
            "seed must be a whole number from 0 to 2^64 - 1, not a whole number of",
        ),
        ({"overlap": 8}, InvalidValueError, "`overlap` is that of tiles: give `tile` too"),
        ({"frames": 3}, InvalidValueError, "frames must be whole numbers, one a picture, not 3"),
        ({"frames": "1"}, InvalidValueError, "frames must be whole numbers, one a picture, not '1'"),
        ({"frames": [1.5]}, InvalidValueError, "frames must be whole numbers, one a picture, not [1.5]"),
        ({"frames": [None]}, InvalidValueError, "frames must be whole numbers"),
        ({"frames": [-1]}, InvalidValueError, "noise is addressed by"),
    ],
)
def test_settings_that_are_none_are_one_sentence(small_onnx, settings, kind, sentence):
    with pytest.raises(kind, match=re.escape(sentence)):
        load(small_onnx)(np.zeros((8, 8, 3), np.uint8), **settings)


def test_a_card_that_is_none_is_refused(small_onnx):
    with pytest.raises(InvalidValueError, match="card must be a ModelCard, not 'card.json'"):
        load(small_onnx, card="card.json")
