"""On a real GPU. Skipped elsewhere; docs/tensorrt.md says what has been run on which."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from golden import load_case, torch_engine

from irsde_deploy import Restorer, load
from irsde_deploy.core.noise import normal_field
from irsde_deploy.graphs.onnx_file import read_model
from irsde_deploy.runtimes.device.arrays import DeviceArray
from irsde_deploy.runtimes.device.drivers import Driver, open_driver
from irsde_deploy.runtimes.device.drivers.probe import devices
from irsde_deploy.runtimes.engines.torch_device_engine import TorchDeviceEngine
from irsde_deploy.runtimes.tensorrt.builder import build_plan
from irsde_deploy.runtimes.tensorrt.options import BuildOptions
from irsde_deploy.runtimes.tensorrt.profiles import Profile

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not devices(), reason="no NVIDIA GPU here")]

NETWORKS = ("unet_nf8_depth4", "nafnet_w16")
TF32 = 2e-3
"""Relative: convolutions of 10-bit inputs, which ONNX Runtime uses by default."""


@pytest.fixture(params=["cuda-bindings", "pycuda"])
def driver(request: pytest.FixtureRequest) -> Driver:
    module = {"cuda-bindings": "cuda", "pycuda": "pycuda"}[request.param]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{request.param} is not installed")
    return open_driver(request.param)


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


def test_noise_is_the_same_on_the_gpu(driver: Driver) -> None:
    shape, stream = (3, 33, 50), driver.new_stream()
    control = np.array([2**31 - 1, 5, 1, 7], np.uint32)
    arrays = [np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.float32), control]
    arrays.append(np.ones(1, np.float32))
    pointers = [driver.malloc(array.nbytes) for array in arrays]
    for pointer, array in zip(pointers, arrays, strict=True):
        driver.upload(pointer, array, stream)
    y, x, mu, flags, start = pointers
    driver.launch("irsde_start_f32", 3 * 33 * 13, (y, x, mu, 0, flags, start, *shape, *shape[1:]), stream)
    driver.download(arrays[0], y, stream)
    driver.synchronize(stream)
    expected = normal_field(5 + 2**32, 0, shape, frame=7)
    np.testing.assert_allclose(arrays[0], expected, rtol=0, atol=5e-7)
    assert np.mean(arrays[0] == expected) > 0.999
    for pointer in pointers:
        driver.free(pointer)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_loop_around_pytorch_is_the_cpus(driver: Driver, name: str) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    reference = torch_engine(load_case(name))
    expected = Restorer(reference)(picture(2, 37, 50, 3), sampler="sde-2m", steps=10)
    model = torch_engine(load_case(name)).model
    found = Restorer(TorchDeviceEngine(model, reference.card, driver))(
        picture(2, 37, 50, 3), sampler="sde-2m", steps=10
    )
    assert relative(found, expected) < 1e-3


@pytest.fixture(params=["tensorrt", "tensorrt-rtx"])
def plan(request: pytest.FixtureRequest, onnx_of: Callable[[str], Path], tmp_path: Path) -> tuple[Path, Path]:
    """(FP32 ONNX, its FP32 plan for 16x16 to 128x128 and two pictures)."""
    module = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}[request.param]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{request.param} is not installed")
    source = onnx_of("unet_nf8_depth4")
    profile = Profile((1, 16, 16), (1, 64, 64), (2, 128, 128))
    chosen = ("current",) if request.param == "tensorrt-rtx" else ()
    options = BuildOptions(request.param, (profile,), compute_capabilities=chosen)
    build_plan(*read_model(source), source, tmp_path / "a.plan", options)
    return source, tmp_path / "a.plan"


def test_a_plan_restores_what_onnxruntime_does(plan: tuple[Path, Path]) -> None:
    source, path = plan
    cpu, gpu = load(source), load(path)
    for shape in ((1, 37, 50, 3), (2, 64, 64, 3), (1, 37, 50, 3)):
        for seed in (0, 1):
            expected = cpu(picture(*shape), sampler="sde-2m", steps=8, seed=seed)
            assert relative(gpu(picture(*shape), sampler="sde-2m", steps=8, seed=seed), expected) < 1e-3


def test_frames_of_pytorch_are_restored_where_they_are(plan: tuple[Path, Path]) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    source, path = plan
    frame = (picture(40, 52, 3) * 255).astype(np.uint8)
    expected = load(source)(frame, sampler="mean", steps=4)
    gpu = load(path)
    on_gpu = torch.from_numpy(frame).cuda()
    returned = torch.as_tensor(gpu.on_device(on_gpu, sampler="mean", steps=4), device="cuda").cpu().numpy()
    assert np.abs(returned.astype(int) - expected.astype(int)).max() <= 1
    stream = torch.cuda.Stream()
    gpu.on_device(
        on_gpu.flip(-1).contiguous(), sampler="mean", steps=4, out=on_gpu, stream=stream.cuda_stream, bgr=True
    )
    assert np.abs(on_gpu.cpu().numpy()[..., ::-1].astype(int) - expected.astype(int)).max() <= 1
    assert isinstance(DeviceArray.of(on_gpu), DeviceArray)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_onnxruntime_agrees_with_the_cpu(unet_onnx: Path, provider: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    wanted = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}[provider]
    if wanted not in onnxruntime.get_available_providers():
        pytest.skip(f"this ONNX Runtime has no {wanted}")
    expected = load(unet_onnx)(picture(40, 52, 3), steps=10)
    found = load(unet_onnx, device="cuda", provider=provider)(picture(40, 52, 3), steps=10)
    assert relative(found, expected) < TF32
