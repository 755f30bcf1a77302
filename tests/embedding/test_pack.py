"""Packs: written whole or not at all, lossless, and every damage found."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from damaged_packs import DAMAGES
from packs import PACK_SAMPLING, PACK_SIZE

from irsde_deploy import MeanRevertingSDE, StepTable, load, plan_steps
from irsde_deploy.cli import cli
from irsde_deploy.core.card import PRECISIONS
from irsde_deploy.core.comparison import HALF_TOLERANCE, INT8_TOLERANCE, tolerance_of
from irsde_deploy.core.noise import seeded_noise
from irsde_deploy.core.samplers import ADJACENT_ONLY, SAMPLERS
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.embedding.pack import FP32_TOLERANCE, cpp_folder, write_pack
from irsde_deploy.embedding.selftest import selftest
from irsde_deploy.embedding.steps_file import PackSettings, read_steps_file, to_text
from irsde_deploy.errors import EngineError, InputFileError, InvalidValueError, OutputFileError
from irsde_deploy.graphs.cpu_rewrites import REWRITES, for_cpu
from irsde_deploy.graphs.onnx_file import read_model, write_model
from irsde_deploy.system.files import write_folder_atomically

COLUMNS = ("t", "a", "c", "d", "s", "p", "r")


def succeeds(*arguments: object) -> str:
    result = CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def settings_of(table: StepTable) -> PackSettings:
    return PackSettings(
        "openvino", 10, 3, 16, "zero", True, False, True, 2**64 - 1, "fp32", "mean", "de rain", 8, 9, 1e-4, table
    )


def assert_same_table(found: StepTable, expected: StepTable) -> None:
    for column in COLUMNS:
        np.testing.assert_array_equal(getattr(found, column), getattr(expected, column), strict=True)
    assert found.start == expected.start


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("debias", [False, True])
def test_tables_come_back_bit_for_bit(sampler: str, debias: bool, tmp_path: Path) -> None:
    sde = MeanRevertingSDE(max_sigma=10, T=100, schedule="cosine", eps=0.005)
    table = plan_steps(sde, sampler, 100 if sampler in ADJACENT_ONLY else 7, debias)
    (tmp_path / "steps.txt").write_text(to_text(settings_of(table)))
    found = read_steps_file(tmp_path / "steps.txt")
    assert_same_table(found.table, table)
    for name in PackSettings.__dataclass_fields__:
        if name != "table":
            assert getattr(found, name) == getattr(settings_of(table), name)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precisions_tolerance_is_verifys_and_can_be_read(precision: str, tmp_path: Path) -> None:
    table = plan_steps(MeanRevertingSDE(max_sigma=10, T=100, schedule="cosine", eps=0.005), "mean", 3)
    tolerance = tolerance_of(precision, FP32_TOLERANCE)
    assert tolerance == {"fp32": 1e-4, "int8": INT8_TOLERANCE}.get(precision, HALF_TOLERANCE)
    text = to_text(replace(settings_of(table), precision=precision, tolerance=tolerance))
    (tmp_path / "steps.txt").write_text(text)
    assert read_steps_file(tmp_path / "steps.txt").tolerance == tolerance


def test_any_number_comes_back_bit_for_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(6, 40)) * 10.0 ** rng.integers(-300, 29, (6, 40))
    columns.flat[:3] = 5e-324, -0.0, 1e30
    table = StepTable(np.arange(40, 0, -1), *columns, start=0.1)
    (tmp_path / "steps.txt").write_text(to_text(settings_of(table)))
    found = read_steps_file(tmp_path / "steps.txt").table
    assert_same_table(found, table)
    assert struct.pack("d", found.a[1]) == struct.pack("d", -0.0)


def test_texts_have_the_same_line_ends_on_every_system(
    small_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def windows(path: Path, data: str, encoding: str, newline: str | None = None) -> None:
        path.write_bytes(data.replace("\n", newline or "\r\n").encode(encoding))

    monkeypatch.setattr(Path, "write_text", windows)
    write_pack(small_onnx, tmp_path / "pack", Sampling(steps=2), (8, 8))
    for name in ("steps.txt", "card.json", "README.txt"):
        assert b"\r" not in (tmp_path / "pack" / name).read_bytes()


def test_tasks_are_plain_text(tmp_path: Path) -> None:
    table = plan_steps(MeanRevertingSDE(max_sigma=10, T=100, schedule="cosine", eps=0.005), "mean", 3)
    settings = replace(settings_of(table), task="de\x7frain\u200b, \u96e8\n\n" + 300 * "x")
    (tmp_path / "steps.txt").write_text(to_text(settings), encoding="utf-8")
    assert read_steps_file(tmp_path / "steps.txt").task == "de rain , \u96e8 " + 188 * "x"


def test_an_engine_is_opened_once(small_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def counted(path: Path, **settings: object) -> object:
        opened.append(path.name)
        return load(path, **settings)

    monkeypatch.setattr("irsde_deploy.embedding.selftest.load", counted)
    write_pack(small_onnx, tmp_path / "pack", Sampling(steps=2), (8, 8))
    assert opened == ["engine.onnx"]


def test_an_engine_that_cannot_be_opened_is_named(
    small_onnx: Path, tmp_path: Path, fails_with: Callable[..., None]
) -> None:
    pytest.importorskip("openvino")
    model = onnx.load(small_onnx)
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    (tmp_path / "double.onnx").write_bytes(model.SerializeToString())
    fails_with(1, f"{tmp_path / 'double.onnx'}: ", "pack", tmp_path / "double.onnx", "-o", tmp_path / "pack")
    assert [path.name for path in tmp_path.iterdir()] == ["double.onnx"]


def test_a_pack_holds_what_python_restores(unet_onnx: Path, tmp_path: Path) -> None:
    """Its reference is the Restorer's on the engine as exported, and the noise the seed's."""
    pytest.importorskip("openvino")
    unet_pack = tmp_path / "pack"
    write_pack(unet_onnx, unet_pack, PACK_SAMPLING, PACK_SIZE)
    restorer = load(unet_onnx, provider="openvino")
    arrays = {name: np.load(unet_pack / f"reference_{name}.npy") for name in ("input", "noise", "output")}
    expected = restorer(arrays["input"], sampler="sde-2m", steps=4, seed=5)
    np.testing.assert_array_equal(arrays["output"], expected)
    assert (
        np.abs(restorer(arrays["input"], sampler="sde-2m", steps=4, noise=arrays["noise"][:, None]) - expected).max()
        < 1e-6
    )
    source = seeded_noise(5, (1, 3, 21, 35))
    np.testing.assert_array_equal(arrays["noise"], np.concatenate([source(k) for k in range(5)]))
    assert_same_table(read_steps_file(unet_pack / "steps.txt").table, restorer.plan(sampler="sde-2m", steps=4).table)
    assert load(unet_pack / "engine.onnx").card == restorer.card
    assert (unet_pack / "engine.onnx").read_bytes() == for_cpu(unet_onnx, REWRITES["openvino"], strict=True)
    assert (unet_pack / "card.json").read_text() == restorer.card.to_json() + "\n"
    assert (unet_pack / "irsde.h").read_bytes() == (cpp_folder() / "include" / "irsde.h").read_bytes()
    found = selftest(unet_pack)
    assert (found.output_error, found.noise_error) == (0, 0)


@pytest.mark.parametrize("damage", DAMAGES)
def test_selftest_finds_damage(damage: str, whole_pack: Path, tmp_path: Path, fails_with: Callable[..., None]) -> None:
    spoil, code, message = DAMAGES[damage]
    pack = tmp_path / "pack"
    shutil.copytree(whole_pack, pack)
    spoil(pack)
    fails_with(code, message, "selftest", pack)


def test_from_the_command_line(small_onnx: Path, tmp_path: Path, fails_with: Callable[..., None]) -> None:
    pytest.importorskip("openvino")
    picture = np.random.default_rng(0).integers(0, 256, (17, 20, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "in.png"), picture[:, :, ::-1])
    pack = tmp_path / "new" / "pack"
    arguments = ("pack", small_onnx, "-o", pack, "--quality", "draft", "--t0", 60, "--debias", "--clip", "--seed", 3)
    succeeds(*arguments, "--picture", tmp_path / "in.png")
    np.testing.assert_array_equal(np.load(pack / "reference_input.npy"), picture.astype(np.float32) / 255)
    settings = read_steps_file(pack / "steps.txt")
    restorer = load(small_onnx)
    assert_same_table(settings.table, restorer.plan(sampler="mean", steps=2, debias=True, t0=60).table)
    assert (settings.sampler, settings.clip, settings.seed) == ("mean", True, 3)
    assert "largest error 0 " in succeeds("selftest", pack)
    fails_with(1, "exists already: pass --overwrite", *arguments)
    succeeds(*arguments, "--size", "8x9", "--overwrite")
    assert np.load(pack / "reference_output.npy").shape == (8, 9, 3)
    fails_with(2, "leave it or --picture out", *arguments, "--size", "8x9", "--picture", tmp_path / "in.png")
    fails_with(2, "sides of 1 to 8192 pixels, not 9000x9", *arguments, "--size", "9000x9", "--overwrite")
    fails_with(2, "an .onnx or a .plan can be packed", "pack", tmp_path / "in.png", "-o", tmp_path / "other")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["pack"]


def test_sizes_of_no_pixels(small_onnx: Path, tmp_path: Path, fails_with: Callable[..., None]) -> None:
    pytest.importorskip("openvino")
    for size in ("0x5", "5x0", "99999x99999"):
        message = f"a reference has sides of 1 to 8192 pixels, not {size}: give another"
        fails_with(2, message, "pack", small_onnx, "-o", tmp_path / "pack", "--size", size)
    assert not list(tmp_path.iterdir())


def test_a_denoising_model_needs_a_flag(
    onnx_of: Callable[[str], Path], tmp_path: Path, fails_with: Callable[..., None]
) -> None:
    pytest.importorskip("openvino")
    message = "starts at the timestep that matches the picture's noise: give --noise-level (standard deviation"
    fails_with(2, message, "pack", onnx_of("ConditionalUNet"), "-o", tmp_path / "pack", "--steps", 2)


def test_a_network_of_larger_multiples_is_refused(small_onnx: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    model, card = read_model(small_onnx)
    write_model(model, replace(card, multiple_of=512), tmp_path / "large.onnx")
    with pytest.raises(InvalidValueError, match="multiples of 512 pixels, and a pack's of up to 256"):
        write_pack(tmp_path / "large.onnx", tmp_path / "pack", PACK_SAMPLING, PACK_SIZE)
    assert [path.name for path in tmp_path.iterdir()] == ["large.onnx"]


def test_what_is_no_onnx_is_said_once(tmp_path: Path, fails_with: Callable[..., None]) -> None:
    pytest.importorskip("openvino")
    (tmp_path / "text.onnx").write_text("hello world\n")
    message = f"irsde-deploy: {tmp_path / 'text.onnx'}: not an ONNX model (Error parsing message"
    fails_with(1, message, "pack", tmp_path / "text.onnx", "-o", tmp_path / "pack")
    with pytest.raises(EngineError) as error:
        load(tmp_path / "text.onnx", provider="openvino")
    assert str(error.value).count("not an ONNX model") == str(error.value).count("text.onnx") == 1


def test_folders_that_are_none(whole_pack: Path, tmp_path: Path, fails_with: Callable[..., None]) -> None:
    message = "steps.txt: this is a file, and a pack is a folder: make one with 'irsde-deploy pack'"
    fails_with(1, message, "selftest", whole_pack / "steps.txt")
    fails_with(1, "none: there is no such folder: make one with", "selftest", tmp_path / "none")
    fails_with(1, "steps.txt: no such file: pack the engine again with 'irsde-deploy pack'", "selftest", tmp_path)


@pytest.mark.parametrize("name", ["engine.onnx", "card.json", "reference_noise.npy"])
def test_missing_files_say_what_to_do(
    name: str, whole_pack: Path, tmp_path: Path, fails_with: Callable[..., None]
) -> None:
    shutil.copytree(whole_pack, tmp_path / "pack")
    (tmp_path / "pack" / name).unlink()
    fails_with(1, f"{name}: no such file: pack the engine again with", "selftest", tmp_path / "pack")


def test_a_denoising_model_needs_a_start(onnx_of: Callable[[str], Path], tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    engine = onnx_of("ConditionalUNet")
    with pytest.raises(InvalidValueError, match="starts at the timestep that matches the picture's noise"):
        write_pack(engine, tmp_path / "pack", Sampling(steps=2), (8, 8))
    assert not list(tmp_path.iterdir())
    settings = write_pack(engine, tmp_path / "pack", Sampling(steps=2, noise_level=25), (8, 8))
    assert settings.table.t[0] == load(engine).sde.timestep_of(25 / 255)
    assert not settings.conditional
    assert selftest(tmp_path / "pack").output_error == 0


def test_a_pack_is_there_whole_or_not_at_all(small_onnx: Path, whole_pack: Path, tmp_path: Path) -> None:
    def interrupt(done: int, steps: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    pack = tmp_path / "pack"
    with pytest.raises(KeyboardInterrupt):
        write_pack(small_onnx, pack, PACK_SAMPLING, PACK_SIZE, on_step=interrupt)
    assert not list(tmp_path.iterdir())
    shutil.copytree(whole_pack, pack)
    with pytest.raises(KeyboardInterrupt):
        write_pack(small_onnx, pack, replace(PACK_SAMPLING, seed=6), PACK_SIZE, overwrite=True, on_step=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]
    assert read_steps_file(pack / "steps.txt").seed == 5
    write_pack(small_onnx, pack, replace(PACK_SAMPLING, seed=6), PACK_SIZE, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]
    assert read_steps_file(pack / "steps.txt").seed == 6


def test_overwriting_replaces_packs_alone(small_onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputFileError, match=r"holds something else than a pack, thesis\.txt"):
        write_pack(small_onnx, tmp_path / "mine", PACK_SAMPLING, PACK_SIZE, overwrite=True)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(OutputFileError), write_folder_atomically(tmp_path / "link", True):
        pass
    with (
        pytest.raises(OutputFileError, match="it is no folder"),
        write_folder_atomically(tmp_path / "mine" / "thesis.txt", True),
    ):
        pass
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def foreign_steps(folder: Path) -> str:
    (folder / "steps.txt").write_text("1. boil water\n")
    (folder / "thesis.doc").write_text("years of work")
    return "thesis.doc"


def foreign_steps_alone(folder: Path) -> str:
    (folder / "steps.txt").write_text("1. boil water\n")
    return "steps.txt"


def notes_in_a_pack(folder: Path) -> str:
    (folder / "mynotes.txt").write_text("important")
    return "mynotes.txt"


def folder_in_a_pack(folder: Path) -> str:
    (folder / "sub").mkdir()
    (folder / "sub" / "work").touch()
    return "sub"


def folder_of_a_packs_name(folder: Path) -> str:
    (folder / "README.txt").unlink()
    (folder / "README.txt").mkdir()
    (folder / "README.txt" / "work").touch()
    return "README.txt"


def two_engines(folder: Path) -> str:
    (folder / "engine.plan").write_text("hours of building")
    return "engine.plan"


def a_pack_without_steps(folder: Path) -> str:
    (folder / "steps.txt").unlink()
    return "README.txt"


@pytest.mark.parametrize(
    "spoil",
    [
        foreign_steps,
        foreign_steps_alone,
        notes_in_a_pack,
        folder_in_a_pack,
        folder_of_a_packs_name,
        two_engines,
        a_pack_without_steps,
    ],
)
def test_overwriting_deletes_nothing_foreign(
    spoil: Callable[[Path], str], small_onnx: Path, whole_pack: Path, tmp_path: Path
) -> None:
    pack = tmp_path / "pack"
    shutil.copytree(whole_pack, pack)
    name = spoil(pack)
    before = contents(tmp_path)
    for overwrite in (True, False):
        with pytest.raises(OutputFileError, match=f"holds something else than a pack, {name}: choose another place"):
            write_pack(small_onnx, pack, PACK_SAMPLING, PACK_SIZE, overwrite)
    assert contents(tmp_path) == before


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_overwriting_never_deletes_the_engine(small_onnx: Path, whole_pack: Path, tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    shutil.copytree(whole_pack, pack)
    shutil.copyfile(small_onnx, pack / "derain.onnx")
    with pytest.raises(OutputFileError, match=r"something else than a pack, derain\.onnx"):
        write_pack(pack / "derain.onnx", pack, PACK_SAMPLING, PACK_SIZE, overwrite=True)
    assert (pack / "derain.onnx").read_bytes() == small_onnx.read_bytes()
    (pack / "derain.onnx").unlink()
    before = (pack / "engine.onnx").read_bytes()
    write_pack(pack / "engine.onnx", pack, PACK_SAMPLING, PACK_SIZE, overwrite=True)  # its own engine, which stays
    assert (pack / "engine.onnx").read_bytes() == before


def test_what_comes_while_the_reference_is_restored_stays(small_onnx: Path, whole_pack: Path, tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    shutil.copytree(whole_pack, pack)
    with pytest.raises(OutputFileError, match=r"mynotes\.txt"):
        write_pack(
            small_onnx,
            pack,
            PACK_SAMPLING,
            PACK_SIZE,
            True,
            lambda done, steps: (pack / "mynotes.txt").write_text("new"),
        )
    assert (pack / "mynotes.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]


def test_damaged_packs_can_be_replaced(small_onnx: Path, whole_pack: Path, tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    shutil.copytree(whole_pack, pack)
    (pack / "steps.txt").write_text("irsde-steps 2\n")
    (pack / "engine.onnx").unlink()
    write_pack(small_onnx, pack, PACK_SAMPLING, PACK_SIZE, overwrite=True)
    assert contents(pack).keys() == {pack / path.name for path in whole_pack.iterdir()}


def test_a_file_or_a_link_is_never_replaced(
    small_onnx: Path, whole_pack: Path, tmp_path: Path, fails_with: Callable[..., None]
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(whole_pack)
    (tmp_path / "nowhere").symlink_to(tmp_path / "none")
    before = sorted(tmp_path.iterdir())
    for name in ("file", "link", "nowhere"):
        for flags in ((), ("--overwrite",)):
            message = f"{name}: exists already and is no folder: choose another place"
            fails_with(1, message, "pack", small_onnx, "-o", tmp_path / name, *flags)
    assert sorted(tmp_path.iterdir()) == before


def test_an_error_while_a_folder_is_written_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()

    def fail(folder: Path) -> None:
        (folder / "new").touch()
        raise InputFileError("no")

    with pytest.raises(InputFileError), write_folder_atomically(tmp_path / "a", replaced=True) as folder:
        fail(folder)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["old"]
    with write_folder_atomically(tmp_path / "a", replaced=True) as folder:
        (folder / "new").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["new"]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_comes_while_another_is_written_stays(tmp_path: Path) -> None:
    def write() -> None:
        with write_folder_atomically(tmp_path / "a"):
            (tmp_path / "a").mkdir()
            (tmp_path / "a" / "mine").touch()

    with pytest.raises(OutputFileError, match="cannot be written"):
        write()
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["a", "a/mine"]
