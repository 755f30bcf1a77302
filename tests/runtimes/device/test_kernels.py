"""The kernels, compiled for the CPU: each against NumPy. And compiled for GPUs, which needs none."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from irsde_deploy.core.noise import normal_field
from irsde_deploy.runtimes.device import kernels
from irsde_deploy.runtimes.device.drivers.host import HostDriver
from irsde_deploy.runtimes.loops.padding import pad_to_multiple

TYPES = {"u8": np.uint8, "u16": np.uint16, "f16": np.float16, "f32": np.float32}


@pytest.fixture(scope="module")
def host() -> HostDriver:
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the kernels with")
    return HostDriver()


def pointers(*arrays: np.ndarray | None) -> list[int]:
    return [0 if array is None else array.ctypes.data for array in arrays]


def control(seed: int = 0, frames: tuple[int, ...] = (0,)) -> np.ndarray:
    return np.array([2**31 - 1, seed & 0xFFFFFFFF, seed >> 32, *frames], dtype=np.uint32)


def test_half_conversion_is_numpys_for_every_bit_pattern(host: HostDriver) -> None:
    """f16 -> f32 for all 65,536 patterns, f32 -> f16 for what lies between, at ties, below and beyond."""
    every = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(1, 256, 256, 1)
    out, padded = np.empty((1, 1, 256, 256), np.float32), np.empty((1, 1, 256, 256), np.float32)
    size = (1, 256, 256, 256, 256)
    host.launch("irsde_load_f16_f32", 65536, (*pointers(every, out, padded), 65536, 256, 1, 1, 0, 0, *size), 0)
    np.testing.assert_array_equal(out.ravel(), every.astype(np.float32).ravel())

    exact = every.astype(np.float32).ravel()
    exact = np.sort(exact[np.isfinite(exact)])
    between = np.concatenate([exact, (exact[1:] + exact[:-1]) / 2, np.nextafter((exact[1:] + exact[:-1]) / 2, np.inf)])
    special = np.array([65519.99, 65520, 1e9, -1e9, np.inf, -np.inf, np.nan, 1e-10, -1e-10, 2.0**-25], np.float32)
    values = np.concatenate([between, special]).astype(np.float32)[: 65536 * 3]
    values = np.resize(values, (3, 256, 256)).astype(np.float32) if len(values) >= 3 * 65536 else values
    flat = np.ascontiguousarray(values.reshape(1, 1, 1, -1))
    half, zero = np.empty(flat.shape, np.float16), np.zeros_like(flat)
    count = flat.size
    host.launch(
        "irsde_store_f16", count, (*pointers(half, flat, zero), count, count, 1, 1, 0, 0, 1, 1, count, 1, count), 0
    )
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(half.ravel(), flat.ravel().astype(np.float16))


@pytest.mark.parametrize("width", [1, 3, 4, 17, 64])
def test_noise_is_that_of_the_address(host: HostDriver, width: int) -> None:
    """float64 functions of two mathematics libraries may differ in their last bit, which rounding to float32 hides."""
    seed, frames = 2**40 + 7, (0, 5)
    y, x = np.empty((2, 3, 5, width), np.float32), np.empty((2, 3, 16, 64), np.float32)
    mu, start = np.zeros_like(y), np.array([1.0], np.float32)
    count = 2 * 3 * 5 * ((width + 3) // 4)
    arguments = (*pointers(y, x, mu, None, control(seed, frames), start), 3, 5, width, 16, 64)
    host.launch("irsde_start_f32", count, arguments, 0)
    expected = np.stack([normal_field(seed, 0, (3, 5, width), frame) for frame in frames])
    np.testing.assert_allclose(y, expected, rtol=0, atol=np.spacing(np.float32(4)))
    assert np.mean(y == expected) > 0.999


def test_step_draws_the_noise_of_its_step(host: HostDriver) -> None:
    y, q = np.zeros((1, 2, 4, 8), np.float32), np.zeros((1, 2, 4, 8), np.float32)
    x, eps, mu = np.zeros_like(y), np.zeros_like(y), np.zeros_like(y)
    row = np.array([0, 0, 0, 1, 0, 0, 0, 0], np.float32)  # y' = z
    given = pointers(y, q, x, eps, mu, None, control(3), row)
    host.launch("irsde_step_f32", 2 * 4 * 2, (*given, 9, 0, 2, 4, 8, 4, 8), 0)
    np.testing.assert_allclose(y[0], normal_field(3, 9, (2, 4, 8)), rtol=0, atol=5e-7)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("io", [np.float32, np.float16])
def test_step_is_the_tables_row(host: HostDriver, io: type, clip: bool) -> None:
    rng = np.random.default_rng(0)
    shape, padded = (2, 3, 5, 7), (2, 3, 8, 8)
    y, q_prev, mu, z = (rng.normal(size=shape).astype(np.float32) for _ in range(4))
    eps, x = rng.normal(size=padded).astype(io), np.full(padded, 9, io)
    a, c, d, s, p, r = np.float32([0.9, -0.3, 0.2, 0.4, 1.7, -0.8])
    k = np.float32(c / r)
    row = np.array([a, c, d, s, p, r, a - k * p, k], np.float32)
    e = eps[:, :, :5, :7].astype(np.float32)
    q = p * y + r * e
    if clip:
        q = np.clip(q, -mu, 1 - mu)
    expected = (row[6] * y + k * q if clip else a * y + c * e) + d * q_prev + s * z
    flag = control()
    given = pointers(y, q_prev, x, eps, mu, z, flag, row)
    kernel = "irsde_step_f32" if io is np.float32 else "irsde_step_f16"
    host.launch(kernel, 2 * 3 * 5 * 2, (*given, 1, int(clip), 3, 5, 7, 8, 8), 0)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(q_prev, q)
    np.testing.assert_array_equal(x[:, :, :5, :7], (y + mu).astype(io))
    assert np.all(x[:, :, 5:] == 9), "what lies beyond is padding's"
    assert flag[0] == 2**31 - 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_step_that_is_not_finite_is_kept(host: HostDriver, bad: float) -> None:
    y, q, mu = (np.zeros((1, 1, 2, 4), np.float32) for _ in range(3))
    x, eps, flag = np.zeros((1, 1, 2, 4), np.float32), np.zeros((1, 1, 2, 4), np.float32), control()
    row = np.array([1, 1, 0, 0, 1, 1, 0, 0], np.float32)
    for step in (1, 2, 3):
        eps[0, 0, 1, 3] = bad if step >= 2 else 0
        host.launch("irsde_step_f32", 2, (*pointers(y, q, x, eps, mu, None, flag, row), step, 0, 1, 2, 4, 2, 4), 0)
    assert flag[0] == 2


@pytest.mark.parametrize("mode", ["zero", "reflect"])
@pytest.mark.parametrize("io", ["f32", "f16"])
def test_padding_is_the_numpy_loops(host: HostDriver, mode: str, io: str) -> None:
    rng = np.random.default_rng(0)
    for height in range(1, 18):
        for width in (1, 2, 7, 8, 9, 15, 16, 17):
            inner = rng.normal(size=(2, 3, height, width)).astype(TYPES[io])
            expected = pad_to_multiple(inner, 8, mode)
            x = np.full(expected.shape, 7, TYPES[io])
            x[:, :, :height, :width] = inner
            arguments = (*pointers(x), int(mode == "reflect"), 3, height, width, *expected.shape[2:])
            host.launch(f"irsde_pad_{io}", x.size, arguments, 0)
            np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("kind", list(TYPES))
def test_pictures_come_in_and_go_out_in_any_layout(host: HostDriver, kind: str) -> None:
    """Strides of crops, planes first, rows from below, and BGR; integers rounded and saturated as NumPy's loop does."""
    rng = np.random.default_rng(0)
    dtype = TYPES[kind]
    top = np.iinfo(dtype).max if kind in ("u8", "u16") else 1
    whole = (rng.random((2, 9, 11, 3)) * top).astype(dtype)
    views = [
        whole,
        whole[:, 2:8, 1:10],
        whole[:, ::-1],
        np.ascontiguousarray(whole.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1),
    ]
    for view in views:
        for bgr in (False, True):
            batch, height, width, _ = view.shape
            rgb = view[..., ::-1] if bgr else view
            mu, padded = np.empty((batch, 3, height, width), np.float32), np.zeros((batch, 3, 16, 16), np.float32)
            strides = [stride // view.itemsize for stride in view.strides]
            size = (3, height, width, 16, 16)
            layout = (*strides, int(bgr), 0)
            host.launch(f"irsde_load_{kind}_f32", mu.size, (*pointers(view, mu, padded), *layout, *size), 0)
            scaled = rgb.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(top)
            np.testing.assert_array_equal(mu, scaled)
            np.testing.assert_array_equal(padded[:, :, :height, :width], scaled)

            y = rng.normal(scale=0.5, size=mu.shape).astype(np.float32)
            out = view.copy(order="K")
            out_strides = [stride // out.itemsize for stride in out.strides]
            out_layout = (*out_strides, int(bgr), 0)
            host.launch(f"irsde_store_{kind}", mu.size, (*pointers(out, mu, y), *out_layout, *size), 0)
            expected = (mu + y).transpose(0, 2, 3, 1)
            if kind in ("u8", "u16"):
                expected = np.rint(np.clip(expected, 0, 1) * np.float32(top))
            np.testing.assert_array_equal(out[..., ::-1] if bgr else out, expected.astype(dtype))


def test_signatures_are_the_headers() -> None:
    """Every kernel that the library exports is listed, and no other."""
    if shutil.which("g++") is None or shutil.which("nm") is None:
        pytest.skip("no g++ and nm")
    symbols = subprocess.run(["nm", "-D", kernels.host_library()], capture_output=True, text=True, check=True).stdout
    assert {line.split()[-1] for line in symbols.splitlines() if " T irsde_" in line} == set(kernels.SIGNATURES)


BETWEEN = [pytest.param(capability, marks=pytest.mark.slow) for capability in ((8, 0), (8, 6), (8, 9), (9, 0))]


@pytest.mark.parametrize("capability", [(7, 5), *BETWEEN, (12, 0)])
def test_nvrtc_compiles_for_every_generation(capability: tuple[int, int], tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed (extra rtx or gpu)")
    monkeypatch.setenv("IRSDE_CACHE", str(tmp_path))
    code = kernels.cubin(capability)
    assert code[:4] == b"\x7fELF"
    for name in kernels.SIGNATURES:
        assert name.encode() in code
    (cached,) = (tmp_path / "kernels").iterdir()
    assert kernels.cubin(capability) == cached.read_bytes() == code


def test_nvcc_compiles_the_same_source(tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc here (NVRTC, the same compiler as a library, is tested above)")
    options = ["-std=c++17", "-fmad=false", "-arch=sm_80", "-Werror", "all-warnings", "-cubin", "-x", "cu"]
    target = tmp_path / "kernels.cubin"
    done = subprocess.run([nvcc, *options, kernels.SOURCE, "-o", target], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert b"irsde_step_f16" in target.read_bytes()


def test_arguments_of_ctypes_have_the_sizes_of_the_header() -> None:
    assert [ctypes.sizeof(kernels.C_TYPES[t]) for t in "Piq"] == [8, 4, 8]
