"""What a restorer does around its engine: fallbacks and their count, frames, timing, what `load` passes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from irsde_deploy import Restorer, load
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.core.tiling import Tiling
from irsde_deploy.errors import EngineError, InvalidValueError, NotFiniteError, OutOfMemoryError
from irsde_deploy.runtimes.device.arrays import DeviceArray
from irsde_deploy.runtimes.device.drivers.host import HostDriver
from irsde_deploy.runtimes.engines.onnx_engine import OnnxDeviceEngine
from irsde_deploy.runtimes.protocol import Engine

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 12, 20, 3), dtype=np.uint8)
NAN = np.float32("nan")


class Around:
    """An engine with something done to x and eps; counts its evaluations."""

    name = "around"

    def __init__(self, engine: Engine, change: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
        self.engine, self.card, self.change, self.evaluations = engine, engine.card, change, 0

    def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        self.evaluations += 1
        return self.change(x, self.engine(x, mu, t))


@pytest.fixture
def engine(small_onnx: Path) -> Engine:
    return load(small_onnx).engine


@pytest.fixture
def broken(engine: Engine) -> Around:
    return Around(engine, lambda x, eps: eps * NAN)


def test_a_fallback_does_the_same_and_its_pictures_are_counted(engine: Engine, broken: Around) -> None:
    safe = Restorer(broken, Restorer(engine))
    sampling = Sampling(sampler="sde-2m", steps=2, seed=4, clip=True)
    found = safe(PICTURES, sampling, frames=[1, 0, 2])
    np.testing.assert_array_equal(found, Restorer(engine)(PICTURES, sampling, frames=[1, 0, 2]))
    assert safe.fallbacks == 3
    safe(PICTURES[0], sampling)
    assert safe.fallbacks == 4


def test_one_bad_picture_of_a_batch_is_enough(engine: Engine) -> None:
    def last_one(x: np.ndarray, eps: np.ndarray) -> np.ndarray:
        eps = eps.copy()
        eps[-1, -1, -1, -1] = np.inf
        return eps

    safe = Restorer(Around(engine, last_one), Restorer(engine))
    np.testing.assert_array_equal(safe(PICTURES, steps=2), Restorer(engine)(PICTURES, steps=2))
    assert safe.fallbacks == 3


def test_a_fallback_is_for_states_that_are_not_finite_alone(engine: Engine) -> None:
    def fails(x: np.ndarray, eps: np.ndarray) -> np.ndarray:
        raise EngineError("the library failed")

    safe = Restorer(Around(engine, fails), Restorer(engine))
    with pytest.raises(EngineError, match="the library failed"):
        safe(PICTURES, steps=1)
    assert safe.fallbacks == 0


def test_another_model_is_no_fallback(engine: Engine, broken: Around) -> None:
    broken.card = replace(engine.card, sde=replace(engine.card.sde, eps=0.01))
    with pytest.raises(InvalidValueError, match="the fallback is of another model: its sde is"):
        Restorer(engine, Restorer(broken))


def test_the_tiles_are_those_of_whoever_restored(engine: Engine, broken: Around) -> None:
    def scarce(x: np.ndarray, eps: np.ndarray) -> np.ndarray:
        if x[0, 0].size > 200 * 200:
            raise OutOfMemoryError("there is no memory left")
        return eps

    safe = Restorer(broken, Restorer(Around(engine, scarce)))
    picture = np.zeros((260, 210, 3), np.uint8)
    safe(picture, sampler="mean", steps=1, tile="auto")
    assert safe.tiling == Tiling(192, 64)
    safe(picture[:100], sampler="mean", steps=1, tile="auto")
    assert safe.tiling is None


def test_every_picture_of_a_batch_has_the_noise_of_its_frame(engine: Engine) -> None:
    restorer = Restorer(engine)
    together = restorer(PICTURES, steps=2, frames=[5, 0, 5])
    for picture, restored, frame in zip(PICTURES, together, (5, 0, 5), strict=True):
        alone = restorer(picture, steps=2, frames=[frame])
        assert np.abs(alone.astype(int) - restored).max() <= 1, "another order of additions may flip a rounding"
    assert np.abs(restorer(PICTURES[0], steps=2).astype(int) - together[0]).max() > 1


def test_settings_by_name_change_a_sampling_and_every_step_is_told(engine: Engine) -> None:
    restorer, done = Restorer(engine), list[int]()
    found = restorer(PICTURES[:1], Sampling(seed=3, steps=5), steps=2, on_step=done.append)
    assert found.shape == (1, 12, 20, 3)
    np.testing.assert_array_equal(found[0], restorer(PICTURES[0], seed=3, steps=2))
    assert done == [0, 1, 2]


def test_the_fastest_evaluation_counts(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0, 5, 10, 11, 20, 22])
    monkeypatch.setattr("irsde_deploy.restorer.time.perf_counter", lambda: next(clock))
    counted = Around(engine, lambda x, eps: eps)
    assert Restorer(counted).seconds_per_evaluation(PICTURES) == 1
    assert counted.evaluations == 3, "each is one evaluation, of the whole batch"
    with pytest.raises(InvalidValueError, match="repeats must be at least 1, not 0"):
        Restorer(engine).seconds_per_evaluation(PICTURES, repeats=0)


def test_a_restorer_that_falls_back_takes_its_fallbacks_time(engine: Engine, broken: Around) -> None:
    counted = Around(engine, lambda x, eps: eps)
    safe = Restorer(broken, Restorer(counted))
    assert safe.seconds_per_evaluation(PICTURES, Sampling(tile=16, overlap=8), repeats=2) > 0
    assert counted.evaluations == 4, "two tiles, twice"
    assert safe.fallbacks == 0, "no picture was restored"
    with pytest.raises(NotFiniteError):
        Restorer(broken).seconds_per_evaluation(PICTURES)


def test_a_card_is_for_the_fallback_too(small_onnx: Path, tmp_path: Path) -> None:
    card = load(small_onnx).card
    model = onnx.load(small_onnx)
    del model.metadata_props[:]
    for name in ("a.onnx", "b.onnx"):
        onnx.save(model, tmp_path / name)
    restorer = load(tmp_path / "a.onnx", card=card, fallback=tmp_path / "b.onnx")
    assert restorer.files == (tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert restorer.runs_on == (restorer.engine.name, restorer.engine.name)
    assert load(small_onnx).files == (small_onnx,)
    with pytest.raises(InvalidValueError, match="device must be"):
        load(small_onnx, "tpu", fallback=small_onnx)


@pytest.mark.parametrize(
    ("name", "device", "of_fallback"),
    [("a.plan", None, "auto"), ("a.PLAN", None, "auto"), ("a.plan", "cuda", "cuda"), ("a.onnx", None, None)],
)
def test_a_plans_fallback_runs_on_the_gpu_where_it_can(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, name: str, device: str | None, of_fallback: str | None
) -> None:
    opened = {}

    def open_engine(path: str, device: str | None, *_: object) -> Engine:
        opened[path] = device
        return engine

    monkeypatch.setattr("irsde_deploy.restorer.open_engine", open_engine)
    load(name, device, fallback="b.onnx")
    assert opened == {name: device, "b.onnx": of_fallback}


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the kernels with")
def test_on_a_device_the_fallback_must_be_there_too(small_onnx: Path, tmp_path: Path, engine: Engine) -> None:
    model = onnx.load(small_onnx)
    next(tensor for tensor in model.graph.initializer if tensor.name == "hundred").CopyFrom(
        onnx.numpy_helper.from_array(NAN, "hundred")
    )
    onnx.save(model, tmp_path / "bad.onnx")
    bad, good = (OnnxDeviceEngine.open(path, HostDriver(), "cpu") for path in (tmp_path / "bad.onnx", small_onnx))
    picture = DeviceArray.of(PICTURES[0])
    with pytest.raises(NotFiniteError):
        Restorer(bad, Restorer(engine)).on_device(picture)
    safe = Restorer(bad, Restorer(good))
    found = safe.on_device(picture)
    assert (found.shape, safe.fallbacks) == (PICTURES[0].shape, 1)
    out = PICTURES[0].copy()
    safe.on_device(picture, out=DeviceArray.of(out))
    np.testing.assert_array_equal(out, Restorer(good)(PICTURES[0]))
    framed = Restorer(good).on_device(picture, out=DeviceArray.of(out), frames=[4])
    assert framed.shape == out.shape
    np.testing.assert_array_equal(out, Restorer(good)(PICTURES[0], frames=[4]))
    with pytest.raises(InvalidValueError, match="works on pictures in host memory: call the restorer itself"):
        Restorer(engine).on_device(picture)
