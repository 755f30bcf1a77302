"""runtimes/cpp, built by CMake: C and C++ programs restore what Python restores."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from c_library import opened
from cpp_builds import (
    QUICK,
    RELEASE,
    SOURCE,
    configure,
    openvino_build,
    require_openvino,
    require_tools,
    run,
    stand_in_build,
    tool,
)
from damaged_packs import DAMAGES
from places import TESTS

from irsde_deploy import ModelCard, load
from irsde_deploy.core.noise import seeded_noise
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.embedding.pack import write_pack
from irsde_deploy.embedding.selftest import selftest
from irsde_deploy.embedding.steps_file import PackSettings, read_steps_file, to_text
from irsde_deploy.graphs.onnx_file import read_model, write_model
from irsde_deploy.runtimes.loops.numpy_loop import NumpyLoop
from irsde_deploy.system.libraries import import_openvino

TOLERANCE = 1e-5
PROGRAMS = ("restore_c", "restore_cpp")


@pytest.mark.parametrize(("required", "outcome"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_missing_compiler_fails_where_it_is_required(
    required: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IRSDE_REQUIRE_CPP", required)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(outcome, match="is not installed"):
        require_tools()


def test_a_build_folder_of_ones_own_is_built_in_each_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A changed line must not hide behind what was built before; other options have a folder of their own."""
    monkeypatch.setenv("IRSDE_CPP_BUILD", str(tmp_path))
    monkeypatch.setattr("cpp_builds.configure", lambda source, build, *options: made.append(build))
    monkeypatch.setattr("cpp_builds.run", lambda *command: None)
    made: list[Path] = []
    for options in (QUICK, QUICK, RELEASE):
        stand_in_build(options)
    assert made[:2] == made[2:4] != made[4:]
    assert all(tmp_path in build.parents for build in made)


@pytest.fixture(scope="session")
def build() -> Path:
    """The library, its programs and tests."""
    require_openvino()
    return openvino_build(QUICK)


def write_pfm(path: Path, picture: np.ndarray) -> None:
    header = f"PF\n{picture.shape[1]} {picture.shape[0]}\n-1.0\n".encode()
    path.write_bytes(header + np.ascontiguousarray(picture[::-1], "<f4").tobytes())


def read_pnm(path: Path, dtype: str) -> np.ndarray:
    magic, size, _, pixels = path.read_bytes().split(b"\n", 3)
    width, height = map(int, size.split())
    array = np.frombuffer(pixels, dtype).reshape(height, width, 3)
    return array[::-1] if magic == b"PF" else array


CASES = {
    "unet_nf8_depth4": Sampling(sampler="sde-2m", steps=3, seed=5),
    "nafnet_w16": Sampling(sampler="posterior", steps=2, seed=2**40 + 1),
    "ConditionalUNet": Sampling(sampler="mean", steps=2, clip=True, t0=40),
}
"""Reflected and zero padding, and a network that does not see mu; samplers with d, with s, and clipped."""


@pytest.mark.parametrize("name", CASES)
def test_programs_restore_what_python_does(
    name: str, build: Path, onnx_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """One by the pack's own seed, the other by its argument; both by the pack's own in the next test."""
    engine, sampling = onnx_of(name), CASES[name]
    write_pack(engine, tmp_path / "pack", sampling, (5, 9))
    picture = np.random.default_rng(0).random((21, 35, 3), dtype=np.float32)
    write_pfm(tmp_path / "in.pfm", picture)
    restorer = load(engine, provider="openvino")
    expected = restorer(picture, sampling)
    scale = max(1, np.abs(expected).max())
    run(build / "restore_c", tmp_path / "pack", tmp_path / "in.pfm", tmp_path / "out.pfm")
    assert np.abs(read_pnm(tmp_path / "out.pfm", "<f4") - expected).max() < TOLERANCE * scale
    run(build / "restore_cpp", tmp_path / "pack", tmp_path / "in.pfm", tmp_path / "out.pfm", 9)
    expected = restorer(picture, sampling, seed=9)
    assert np.abs(read_pnm(tmp_path / "out.pfm", "<f4") - expected).max() < TOLERANCE * scale
    run(build / "irsde_selftest", tmp_path / "pack")


@pytest.mark.parametrize("size", [(37, 53), (4, 9)])
def test_programs_honour_the_margin(size: tuple[int, int], build: Path, small_onnx: Path, tmp_path: Path) -> None:
    """One that both sides of the larger picture can be mirrored over, and neither of the smaller one's."""
    model, card = read_model(small_onnx)
    engine, sampling = tmp_path / "wide.onnx", Sampling(sampler="posterior", steps=3, seed=4)
    write_model(model, replace(card, margin=10, pad_mode="zero"), engine)
    write_pack(engine, tmp_path / "pack", sampling, (9, 17))
    picture = np.random.default_rng(0).random((*size, 3), dtype=np.float32)
    write_pfm(tmp_path / "in.pfm", picture)
    expected = load(engine, provider="openvino")(picture, sampling)
    assert np.abs(expected - load(small_onnx)(picture, sampling)).max() > 0.01, "a margin changes pictures"
    for program in PROGRAMS:
        run(build / program, tmp_path / "pack", tmp_path / "in.pfm", tmp_path / "out.pfm")
        assert np.abs(read_pnm(tmp_path / "out.pfm", "<f4") - expected).max() < TOLERANCE
    run(build / "irsde_selftest", tmp_path / "pack")


def test_eight_bit_pictures(build: Path, small_onnx: Path, whole_pack: Path, tmp_path: Path) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (21, 34, 3), dtype=np.uint8)
    (tmp_path / "in.ppm").write_bytes(b"P6\n34 21\n255\n" + picture.tobytes())
    run(build / "restore_c", whole_pack, tmp_path / "in.ppm", tmp_path / "out.ppm")
    expected = load(small_onnx, provider="openvino")(picture, sampler="sde-2m", steps=4, seed=5)
    found = read_pnm(tmp_path / "out.ppm", "u1")
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert len(np.unique(found)) > 10


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_packs_are_one_sentence(damage: str, build: Path, whole_pack: Path, tmp_path: Path) -> None:
    spoil, code, message = DAMAGES[damage]
    if damage == "an input without a name" and version("openvino").startswith("2024."):
        pytest.skip("OpenVINO 2024 takes it, and restores what it should")
    pack = tmp_path / "pack"
    shutil.copytree(whole_pack, pack)
    spoil(pack)
    stderr = run(build / "irsde_selftest", pack, code=code).stderr
    assert message in stderr
    assert stderr.startswith("irsde_selftest: ")
    assert stderr.count("\n") == 1, stderr
    assert stderr.rstrip("\n").isprintable()
    assert "Exception from" not in stderr
    assert "nan" not in stderr


def test_files_may_be_links(build: Path, whole_pack: Path, tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    for path in whole_pack.iterdir():
        (tmp_path / "pack" / path.name).symlink_to(path)
    run(build / "irsde_selftest", tmp_path / "pack")


def test_a_file_is_no_pack(build: Path, whole_pack: Path) -> None:
    stderr = run(build / "irsde_selftest", whole_pack / "steps.txt", code=1).stderr
    assert "steps.txt: this is a file, and a pack is a folder: make one with 'irsde-deploy pack'" in stderr


def test_long_paths_leave_room_for_the_reason(build: Path, tmp_path: Path) -> None:
    folder = tmp_path / "/".join(["\u96e8" * 60] * 4)
    stderr = run(build / "irsde_selftest", folder, code=1).stderr
    assert re.fullmatch("irsde_selftest: \\.\\.\\.(\u96e8|/)+: there is no such folder: make one with .*\n", stderr)
    folder.mkdir(parents=True)
    stderr = run(build / "irsde_selftest", folder, code=1).stderr
    assert stderr.endswith("steps.txt: there is no such file: pack the engine again with 'irsde-deploy pack'\n")


def test_ctest(build: Path) -> None:
    """The C interface: layouts, types, seeds, wrong input, cancelling, threads; the header as C89."""
    ctest = tool("ctest")
    assert ctest is not None
    report = run(ctest, "--test-dir", build, "--output-on-failure").stdout
    assert "100% tests passed" in report
    for name in ("c89", "pack_text", "threads", "abi", "selftest"):
        assert f"{name} ." in report


@pytest.mark.slow
def test_release_builds_have_no_warnings_and_pass_their_tests() -> None:
    require_openvino()
    assert "100% tests passed" in run(tool("ctest"), "--test-dir", openvino_build(RELEASE)).stdout
    stand_in_build(RELEASE)


def test_the_library_shows_its_interface_alone(build: Path) -> None:
    if tool("nm") is None or os.environ.get("IRSDE_CPP_FLAGS"):
        pytest.skip("nm is not installed, or the library is instrumented")
    listed = run("nm", "-D", "--defined-only", build / "libirsde.so").stdout.split("\n")
    found = {line.split()[-1] for line in listed if line}
    names = ("open", "describe", "restore", "selftest", "last_error", "close", "version")
    assert found == {f"irsde_{name}" for name in names}


CONSUMER = """cmake_minimum_required(VERSION 3.20)
project(consumer C)
find_package(irsde 1.0 REQUIRED)
add_executable(consumer {source}/examples/irsde_selftest.c)
target_link_libraries(consumer PRIVATE irsde::irsde)
"""


def test_installed_it_is_found_by_cmake(build: Path, whole_pack: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    run(tool("cmake"), "--install", build, "--prefix", prefix)
    assert (prefix / "include" / "irsde.h").read_bytes() == (SOURCE / "include" / "irsde.h").read_bytes()
    run(prefix / "bin" / "irsde_selftest", whole_pack)
    (tmp_path / "consumer").mkdir()
    (tmp_path / "consumer" / "CMakeLists.txt").write_text(CONSUMER.format(source=SOURCE))
    configure(tmp_path / "consumer", tmp_path / "built", f"-DCMAKE_PREFIX_PATH={prefix}")
    report = run(tmp_path / "built" / "consumer", whole_pack).stdout
    assert "sde-2m, 4 steps: largest error" in report


def test_a_plan_without_tensorrt_is_one_sentence(build: Path, whole_pack: Path, tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    shutil.copytree(whole_pack, pack)
    (pack / "engine.onnx").rename(pack / "engine.plan")
    text = (pack / "steps.txt").read_text().replace("backend openvino", "backend tensorrt")
    (pack / "steps.txt").write_text(text)
    stderr = run(build / "irsde_selftest", pack, code=1).stderr
    assert "this pack needs tensorrt, which this library was built without" in stderr


def test_an_openvino_that_does_not_start_is_one_sentence(build: Path, whole_pack: Path, tmp_path: Path) -> None:
    for library in (
        Path(import_openvino().__file__).parent / "libs"
    ).iterdir():  # it looks for plugins.xml beside itself
        if library.name.startswith("libopenvino.so"):
            shutil.copyfile(library, tmp_path / library.name)
        else:
            (tmp_path / library.name).symlink_to(library)
    (tmp_path / "plugins.xml").write_text('<ie><plugins><plugin name="CPU"')
    command = ["env", f"LD_LIBRARY_PATH={tmp_path}", build / "irsde_selftest", whole_pack]
    stderr = run(*command, code=1).stderr
    assert stderr.startswith("irsde_selftest: OpenVINO cannot start (Error loading XML file")
    assert stderr.count("\n") == 1


class NumpyPlan:
    """The stand-in's network, eps = x + t mu, on float32 or float16 arrays."""

    name = "NumPy"

    def __init__(self, card: ModelCard, half: bool) -> None:
        self.card, self.type = card, np.float16 if half else np.float32

    def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        x, mu = (array.astype(self.type).astype(np.float32) for array in (x, mu))
        return (x + t[0] * mu).astype(self.type).astype(np.float32)


@pytest.fixture(scope="session")
def tensorrt_build() -> Path:
    """The library on stand-ins for TensorRT and CUDA, without OpenVINO."""
    require_tools()
    return stand_in_build(QUICK)


def plan_pack(whole_pack: Path, folder: Path, plan: str, backend: str = "tensorrt") -> PackSettings:
    """The small network's pack with a stand-in's plan in the engine's place."""
    shutil.copytree(whole_pack, folder)
    (folder / "engine.onnx").unlink()
    (folder / "engine.plan").write_text(plan)
    changes = {"backend": backend, "engine_bytes": len(plan), "engine_sha256": "", "clip": True}
    settings = replace(read_steps_file(folder / "steps.txt"), **changes)
    (folder / "steps.txt").write_text(to_text(settings))
    return settings


@pytest.mark.parametrize("kind", ["float", "half"])
def test_the_tensorrt_backend_on_a_stand_in(kind: str, tensorrt_build: Path, whole_pack: Path, tmp_path: Path) -> None:
    """Sizes, profiles, copies and conversions; TensorRT itself needs a GPU."""
    settings = plan_pack(whole_pack, tmp_path / "pack", f"stand-in {kind} 12 64")
    loop = NumpyLoop(NumpyPlan(load(whole_pack / "engine.onnx").card, kind == "half"))
    for height, width in ((37, 53), (9, 20)):  # the second profile takes the first size
        picture = np.random.default_rng(0).random((height, width, 3), dtype=np.float32)
        write_pfm(tmp_path / "in.pfm", picture)
        run(tensorrt_build / "restore_cpp", tmp_path / "pack", tmp_path / "in.pfm", tmp_path / "out.pfm")
        expected = loop(picture[None], settings.plan, seeded_noise(5, (1, 3, height, width)))[0]
        assert np.abs(expected - picture).max() > 0.1
        np.testing.assert_allclose(read_pnm(tmp_path / "out.pfm", "<f4"), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("kind", "size"), [("float", 4), ("half", 2)])
def test_mu_goes_to_the_gpu_once_a_frame(
    kind: str, size: int, tensorrt_build: Path, whole_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = len(plan_pack(whole_pack, tmp_path / "pack", f"stand-in {kind} 12 64").table)
    write_pfm(tmp_path / "in.pfm", np.full((9, 20, 3), 0.5, np.float32))
    monkeypatch.setenv("IRSDE_STAND_IN_UPLOADS", str(tmp_path / "uploads"))
    run(tensorrt_build / "restore_cpp", tmp_path / "pack", tmp_path / "in.pfm", tmp_path / "out.pfm")
    padded = 3 * 12 * 20 * size
    assert int((tmp_path / "uploads").read_text()) == padded + steps * (padded + 4)


def test_plans_that_the_tensorrt_backend_refuses(tensorrt_build: Path, whole_pack: Path, tmp_path: Path) -> None:
    refused = {
        "no plan at all": "tensorrt cannot load the plan, which is for one version of it and one kind of GPU (this is",
        "stand-in float 12 24": "the plan takes no picture of 36 x 24",
    }
    for i, (plan, message) in enumerate(refused.items()):
        plan_pack(whole_pack, tmp_path / str(i), plan)
        assert message in run(tensorrt_build / "irsde_selftest", tmp_path / str(i), code=1).stderr
    plan_pack(whole_pack, tmp_path / "rtx", "stand-in float 12 64", "tensorrt-rtx")
    stderr = run(tensorrt_build / "irsde_selftest", tmp_path / "rtx", code=1).stderr
    assert "needs tensorrt-rtx, which this library was built without" in stderr
    assert "needs openvino" in run(tensorrt_build / "irsde_selftest", whole_pack, code=1).stderr


@pytest.fixture
def instrumented() -> None:
    """Skip where the library cannot be loaded into Python."""
    if os.environ.get("IRSDE_CPP_FLAGS"):
        pytest.skip("the library is instrumented")


@pytest.fixture
def small_pack(small_onnx: Path, tmp_path: Path) -> Path:
    """A pack of a network of one convolution, to be changed: `sde-2m`, 3 steps, seed 5, reference 6x10."""
    write_pack(small_onnx, tmp_path / "small", Sampling(seed=5), (6, 10))
    return tmp_path / "small"


@pytest.mark.usefixtures("instrumented")
def test_descriptions_say_what_steps_txt_says(build: Path, small_onnx: Path, tmp_path: Path) -> None:
    for sampler, clip, stochastic in (("mean", True, 0), ("sde-2m", False, 1)):
        sampling = Sampling(sampler=sampler, steps=2, clip=clip, seed=2**64 - 1)
        write_pack(small_onnx, tmp_path / sampler, sampling, (4, 4))
        with opened(build / "libirsde.so", tmp_path / sampler) as handle:
            found = handle.description()
        card = json.loads(found.pop("card_json"))
        assert (card["network"], found.pop("engine").split(" ")[0]) == ("small", "OpenVINO")
        assert {name: value for name, value in found.items() if name != "struct_size"} == {
            "channels": 3, "multiple_of": 4, "steps": 2, "stochastic": stochastic, "latent": 0, "clip": int(clip),
            "seed": 2**64 - 1, "sampler": sampler, "task": "", "precision": "fp32",
        }  # fmt: skip


@pytest.mark.usefixtures("instrumented")
def test_one_handle_restores_pictures_of_all_sizes_and_types(build: Path, small_pack: Path, small_onnx: Path) -> None:
    """Larger and smaller than the one before, more of them than compiled sizes are kept; planes by one stride alone."""
    restorer = load(small_onnx, provider="openvino")
    rng = np.random.default_rng(0)
    with opened(build / "libirsde.so", small_pack) as handle:
        for height, width in ((9, 6), (1, 1), (20, 31), (4, 8), (3, 50), (9, 6), (20, 31)):
            picture = rng.random((height, width, 3), dtype=np.float32)
            expected = restorer(picture, seed=5)
            np.testing.assert_allclose(handle.restored(picture), expected, atol=TOLERANCE)
            planes = handle.restored(picture.transpose(2, 0, 1), channel_stride=4 * height * width)
            np.testing.assert_allclose(planes.transpose(1, 2, 0), expected, atol=TOLERANCE)
        for white, kind in ((255, np.uint8), (65535, np.uint16)):
            picture = rng.integers(0, white + 1, (7, 9, 3), dtype=kind)
            found = handle.restored(picture).astype(int)
            assert np.abs(found - restorer(picture, seed=5)).max() <= 1
            assert found.max() > white // 2
        with pytest.raises(ValueError, match=r"floating-point pictures are in \[0, 1\], and this one goes to 9"):
            handle.restored(np.full((4, 4, 3), -9, np.float32))


CLOSED_ELSEWHERE = """
import os, signal, sys, threading
from contextlib import ExitStack
from pathlib import Path
import numpy as np
from c_library import opened
with ExitStack() as stack:
    stack.enter_context(opened(Path(sys.argv[1]), Path(sys.argv[2]))).restored(np.zeros((9, 6, 3), np.uint8))
    thread = threading.Thread(target=stack.close)
    thread.start()
    thread.join()
signal.signal(signal.SIGINT, lambda number, frame: print("heard", number))
os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.usefixtures("instrumented")
def test_a_signal_is_heard_after_another_thread_has_closed_a_handle(build: Path, small_pack: Path) -> None:
    program = (sys.executable, "-c", CLOSED_ELSEWHERE, build / "libirsde.so", small_pack)
    assert run("env", f"PYTHONPATH={TESTS}", *program).stdout == f"heard {signal.SIGINT.value}\n"


@pytest.mark.usefixtures("instrumented")
def test_latents_are_floating_point(build: Path, small_onnx: Path, tmp_path: Path) -> None:
    model, card = read_model(small_onnx)
    write_model(model, replace(card, value_range=None), tmp_path / "latent.onnx")
    write_pack(tmp_path / "latent.onnx", tmp_path / "pack", Sampling(seed=5), (4, 4))
    latent = np.random.default_rng(0).normal(0, 5, (5, 6, 3)).astype(np.float32)
    with opened(build / "libirsde.so", tmp_path / "pack") as handle:
        expected = load(tmp_path / "latent.onnx", provider="openvino")(latent, seed=5)
        np.testing.assert_allclose(handle.restored(latent), expected, rtol=1e-4, atol=1e-4)
        for kind in (np.uint8, np.uint16):
            with pytest.raises(ValueError, match="a latent must be IRSDE_F32"):
                handle.restored(latent.astype(kind))


@pytest.mark.usefixtures("instrumented")
def test_the_selftests_numbers_are_pythons(build: Path, small_pack: Path) -> None:
    """Where the noise of a later step differs, and also where the output is small, and where it is large."""
    output, noise = small_pack / "reference_output.npy", small_pack / "reference_noise.npy"
    for path, change in (
        (noise, lambda array: array + (np.arange(4) == 2).reshape(-1, 1, 1, 1) * np.float32(5)),
        (output, lambda array: array / np.abs(array).max() * np.float32(0.25)),
        (output, lambda array: array * np.float32(160)),
    ):
        np.save(path, change(np.load(path)))
        expected = selftest(small_pack)
        with opened(build / "libirsde.so", small_pack) as handle:
            found = handle.selftest()
        assert expected.output_error > 1e-3
        assert found.output_error == pytest.approx(expected.output_error, rel=1e-3)
        assert found.noise_error == pytest.approx(expected.noise_error, rel=1e-3, abs=1e-6)
        assert found.tolerance == expected.tolerance


def test_packs_of_earlier_versions_are_read(build: Path, small_pack: Path) -> None:
    """No hash in steps.txt, and no field in card.json that was not known then; numbers and texts in other words."""
    steps, card = small_pack / "steps.txt", small_pack / "card.json"
    steps.write_text(re.sub("engine_sha256 .*\n", "", steps.read_text()))
    fields = json.loads(card.read_text())
    for name in ("t0", "calibrated"):
        fields.pop(name, None)
    fields["sde"]["max_sigma"] = float(fields["sde"]["max_sigma"])
    fields["steps"] = int(fields["steps"])
    card.write_text(json.dumps(fields, indent=2).replace('"small"', '"\\u0073mall"'))
    run(build / "irsde_selftest", small_pack)


def test_a_cards_texts_may_have_escapes(build: Path, small_onnx: Path, tmp_path: Path) -> None:
    model, card = read_model(small_onnx)
    write_model(model, replace(card, task='a\tb\\"c\n/\u96e8\U0001f327'), tmp_path / "escapes.onnx")
    write_pack(tmp_path / "escapes.onnx", tmp_path / "pack", Sampling(steps=1), (4, 4))
    run(build / "irsde_selftest", tmp_path / "pack")
    path = tmp_path / "pack" / "card.json"
    path.write_text(path.read_text().replace("\\t", "\\u0009").replace("\\n", "\\u000a").replace("/", "\\/"))
    run(build / "irsde_selftest", tmp_path / "pack")


@pytest.mark.parametrize(("seed", "code"), [(2**64 - 1, 3), (2**64, 1), (10**20 - 1, 1)])
def test_seeds_at_their_limits(seed: int, code: int, build: Path, small_pack: Path) -> None:
    path = small_pack / "steps.txt"
    path.write_text(path.read_text().replace("\nseed 5\n", f"\nseed {seed}\n"))
    message = "the seed's noise differs" if code == 3 else f"its 'seed' is '{seed}'"
    assert message in run(build / "irsde_selftest", small_pack, code=code).stderr


def test_programs_refuse_what_they_do_not_read(build: Path, small_pack: Path, tmp_path: Path) -> None:
    pixels = bytes(range(4 * 5 * 3))
    out = tmp_path / "out"
    for content in (b"P6\n4 5\n65535\n" + pixels * 2, b"P6\n4 5\n255\n" + pixels[:-1], b"P5\n4 5\n255\n" + pixels):
        (tmp_path / "in").write_bytes(content)
        stderr = run(build / "restore_c", small_pack, tmp_path / "in", out, code=1).stderr
        assert stderr == "restore_c: IN must be a binary 8-bit PPM or a colour PFM\n"
    picture = np.zeros((4, 5, 3), np.float32)
    picture[0, 0, 0] = np.nan
    write_pfm(tmp_path / "in", picture)
    for program in PROGRAMS:
        stderr = run(build / program, small_pack, tmp_path / "in", out, code=1).stderr
        assert stderr == f"{program}: the picture has NaN or infinite values: every value must be finite\n"
    (tmp_path / "in").write_bytes((tmp_path / "in").read_bytes()[:-4])
    assert "cut off" in run(build / "restore_cpp", small_pack, tmp_path / "in", out, code=1).stderr
    assert not out.exists()
    assert run(build / "irsde_selftest", code=2).stderr == "usage: irsde_selftest FOLDER\n"


@pytest.mark.usefixtures("instrumented")
def test_a_frame_of_another_size_on_a_stand_in(tensorrt_build: Path, whole_pack: Path, tmp_path: Path) -> None:
    """One handle: the size that the context was told changes with the picture, in both sides or in one."""
    settings = plan_pack(whole_pack, tmp_path / "pack", "stand-in float 12 64")
    loop = NumpyLoop(NumpyPlan(load(whole_pack / "engine.onnx").card, False))
    with opened(tensorrt_build / "libirsde.so", tmp_path / "pack") as handle:
        for height, width in ((20, 20), (37, 53), (20, 53), (20, 20), (37, 53)):
            picture = np.random.default_rng(0).random((height, width, 3), dtype=np.float32)
            expected = loop(picture[None], settings.plan, seeded_noise(5, (1, 3, height, width)))[0]
            np.testing.assert_allclose(handle.restored(picture), expected, rtol=0, atol=1e-6)
