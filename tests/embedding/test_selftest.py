"""The self-test of a pack, number by number: what it compares, and by how much that may differ."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from irsde_deploy.core.card import MAX_JSON, ModelCard
from irsde_deploy.core.comparison import HALF_TOLERANCE
from irsde_deploy.core.noise import seeded_noise
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.embedding import selftest as module
from irsde_deploy.embedding.pack import write_pack
from irsde_deploy.embedding.selftest import NOISE_TOLERANCE, SelfTest, selftest
from irsde_deploy.embedding.steps_file import PackSettings, read_steps_file, to_text
from irsde_deploy.errors import InputFileError, ParityError
from irsde_deploy.graphs.onnx_file import read_model, write_model

pytest.importorskip("openvino", reason="OpenVINO is not installed (extra openvino)")


@pytest.fixture(scope="module")
def made(small_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of a small network with a margin of 4, clipped: `sde-2m`, 3 steps, seed 9, reference 6x10."""
    folder = tmp_path_factory.mktemp("packs")
    model, card = read_model(small_onnx)
    write_model(model, replace(card, margin=4), folder / "wide.onnx")
    write_pack(folder / "wide.onnx", folder / "pack", Sampling(sampler="sde-2m", steps=3, seed=9, clip=True), (6, 10))
    return folder / "pack"


@pytest.fixture
def pack(made: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "pack"))


def changed(pack: Path, **changes: object) -> PackSettings:
    settings = replace(read_steps_file(pack / "steps.txt"), **changes)
    (pack / "steps.txt").write_text(to_text(settings))
    return settings


def shifted(pack: Path, name: str, change: Callable[[np.ndarray], None]) -> None:
    array = np.load(pack / f"reference_{name}.npy")
    change(array)
    np.save(pack / f"reference_{name}.npy", array)


def test_a_pack_says_all_of_its_model(made: Path) -> None:
    settings = read_steps_file(made / "steps.txt")
    assert (settings.margin, settings.clip, settings.seed, settings.sampler) == (4, True, 9, "sde-2m")
    assert (settings.reference_height, settings.reference_width) == (6, 10)
    noise = np.load(made / "reference_noise.npy")
    source = seeded_noise(9, (1, 3, 14, 18))
    np.testing.assert_array_equal(noise, np.concatenate([source(k) for k in range(4)]))
    found = selftest(made)
    assert (found.output_error, found.noise_error, found.steps, found.tolerance) == (0, 0, 3, 1e-4)
    found.require(made)


def test_a_pack_of_fp16_may_differ_by_as_much_as_verify_allows(small_onnx: Path, tmp_path: Path) -> None:
    model, card = read_model(small_onnx)
    write_model(model, replace(card, precision="fp16"), tmp_path / "half.onnx")
    settings = write_pack(tmp_path / "half.onnx", tmp_path / "pack", Sampling(steps=1), (4, 4))
    assert (settings.precision, settings.tolerance, settings.clip, settings.seed) == ("fp16", HALF_TOLERANCE, False, 0)


def test_small_references_are_compared_absolutely_and_large_ones_relatively(pack: Path) -> None:
    """The largest error, over the largest expected value where that is above 1."""

    def add(by: float) -> Callable[[np.ndarray], None]:
        def change(array: np.ndarray) -> None:
            array[0, 0, 0] += by

        return change

    restored = np.load(pack / "reference_output.npy")
    np.save(pack / "reference_output.npy", restored * np.float32(0.25))
    assert selftest(pack).output_error == pytest.approx(0.75 * np.abs(restored).max(), rel=1e-4)
    np.save(pack / "reference_output.npy", restored)
    shifted(pack, "output", add(-8))
    expected = np.load(pack / "reference_output.npy")
    assert np.abs(expected).max() > 6
    assert selftest(pack).output_error == pytest.approx(8 / np.abs(expected).max(), rel=1e-4)


def test_a_pack_is_restored_with_its_own_noise_and_that_is_compared_at_every_step(pack: Path) -> None:
    def add(array: np.ndarray) -> None:
        array[2] += 0.5

    shifted(pack, "noise", add)
    found = selftest(pack)
    assert found.noise_error == pytest.approx(0.5, rel=1e-4)
    assert found.output_error > 0.001, "the noise of the file is what the reference is restored with"


def test_clip_and_seed_are_those_of_steps_txt(pack: Path) -> None:
    changed(pack, clip=False)
    assert selftest(pack).output_error > 1e-4
    changed(pack, clip=True, seed=10)
    assert selftest(pack).noise_error > 1
    assert selftest(pack).output_error == 0


@pytest.mark.parametrize(
    ("noise_error", "output_error", "sentence"),
    [
        (NOISE_TOLERANCE, 1e-4, None),
        (1.01 * NOISE_TOLERANCE, 0.0, "the seed's noise differs from the pack's by 1.01e-06, which may be 1e-06"),
        (float("nan"), 0.0, "the seed's noise differs"),
        (0.0, 1.01e-4, "the restored reference differs from the pack's by 0.000101, which may be 0.0001"),
        (0.0, float("nan"), "the restored reference differs"),
    ],
)
def test_what_differs_by_more_than_it_may_is_refused(
    noise_error: float, output_error: float, sentence: str | None, tmp_path: Path
) -> None:
    found = SelfTest("e", "mean", 3, noise_error, output_error, 1e-4)
    if sentence is None:
        found.require(tmp_path)
        return
    with pytest.raises(ParityError, match=sentence):
        found.require(tmp_path)


def test_an_engine_is_known_before_a_library_opens_it(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(path: Path) -> None:
        raise AssertionError(f"{path} was opened")

    engine = pack / "engine.onnx"
    whole = engine.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(module, "open_pack_engine", opened)
        for content, words in (
            (whole + b"\0", f"it has {len(whole) + 1} bytes, and steps.txt says {len(whole)}"),
            (whole[:-1], "bytes, and steps.txt says"),
            (whole[:-1] + bytes([whole[-1] ^ 1]), "its SHA-256 is another"),
        ):
            engine.write_bytes(content)
            with pytest.raises(InputFileError, match=words):
                selftest(pack)
    engine.write_bytes(whole)
    changed(pack, engine_sha256="")
    assert selftest(pack).output_error == 0, "packs of earlier versions have no hash"


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": 4}, {"multiple_of": 8}, {"pad_mode": "zero"}, {"margin": 8}, {"conditional": False},
        {"precision": "fp16"}, {"latent": True},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_steps_txt_of_another_model_is_refused(changes: dict[str, object], pack: Path) -> None:
    changed(pack, **changes)
    with pytest.raises(InputFileError, match=r"card\.json, steps\.txt and the engine are of different models"):
        selftest(pack)


def test_cards_must_say_the_same(pack: Path) -> None:
    path = pack / "card.json"
    text = path.read_text()
    fields = json.loads(text)
    for name, same in (("t0", True), ("calibrated", True), ("colour", False), ("schema_version", False)):
        path.write_text(json.dumps({key: value for key, value in fields.items() if key != name}))
        if same:
            assert selftest(pack).output_error == 0, f"cards of earlier versions have no {name}"
        else:
            with pytest.raises(InputFileError, match=r"of different models|card\.json: "):
                selftest(pack)
    path.write_text(replace(ModelCard.from_json(text), task="dehaze").to_json())
    with pytest.raises(InputFileError, match="of different models"):
        selftest(pack)
    for content, words in (
        ((text[:-1] + " " * MAX_JSON).encode(), f"it has more than the {MAX_JSON} bytes"),
        (text.replace('"task":""', '"task":"\u00e9"').encode(), "card.json: "),
    ):
        path.write_bytes(content)
        with pytest.raises(InputFileError, match=words):
            selftest(pack)


def test_arrays_are_exactly_those_that_are_expected(pack: Path) -> None:
    output = pack / "reference_output.npy"
    whole = output.read_bytes()
    array = np.load(output)
    for spoil, words in (
        (lambda: output.write_bytes(whole + bytes(4)), "it has not as many values as its header says"),
        (lambda: output.write_bytes(whole[:-4]), "it has not as many values as its header says"),
        (lambda: np.save(output, np.asfortranarray(array)), "it is not the array"),
        (lambda: np.save(output, array.astype("f8")), "it is not the array"),
        (lambda: np.save(output, np.where(array == array[0, 0, 0], np.nan, array)), "it has NaN or infinite values"),
    ):
        spoil()
        with pytest.raises(InputFileError, match=words):
            selftest(pack)
    output.write_bytes(whole)
    shifted(pack, "input", lambda array: array.__setitem__((0, 0, 0), 3.0))
    with pytest.raises(InputFileError, match=r"reference_input\.npy: floating-point pictures are in \[0, 1\]"):
        selftest(pack)
