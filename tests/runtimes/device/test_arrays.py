"""Arrays of other libraries: what DLPack and the array interface say of them is taken as it is, or refused."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from irsde_deploy.errors import InvalidValueError
from irsde_deploy.runtimes.device import kernels
from irsde_deploy.runtimes.device.arrays import DeviceArray, _DLTensor
from irsde_deploy.runtimes.device.drivers.host import HostDriver


class Tensor:
    """An array by DLPack, whose description can be changed beforehand."""

    def __init__(self, array: np.ndarray, change: Callable[[_DLTensor], None] = lambda tensor: None) -> None:
        self.array = array
        sides = ctypes.c_int64 * array.ndim
        self.sides = sides(*array.shape), sides(*(stride // array.itemsize for stride in array.strides))
        self.tensor = _DLTensor(
            array.ctypes.data, 1, 0, array.ndim, {"i": 0, "u": 1, "f": 2}[array.dtype.kind], 8 * array.itemsize, 1,
            *self.sides, 0,
        )  # fmt: skip
        change(self.tensor)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __dlpack__(self) -> object:
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        return new(ctypes.addressof(self.tensor), b"dltensor", None)


def elements(array: DeviceArray) -> list[Any]:
    """The values along the last side of the first line."""
    last = array.strides[-1]
    places = [array.pointer + last * k for k in range(array.shape[-1])]
    return [np.frombuffer(ctypes.string_at(place, array.dtype.itemsize), array.dtype)[0] for place in places]


def test_a_tensor_begins_where_its_offset_says() -> None:
    values = np.arange(24, dtype=np.uint16).reshape(2, 4, 3)

    def later(tensor: _DLTensor) -> None:
        tensor.byte_offset = 6

    taken = DeviceArray.of(Tensor(values, later))
    assert taken.pointer == values.ctypes.data + 6
    assert elements(taken) == [3, 4, 5]
    assert (taken.kind, taken.stream, taken.dtype) == ("host", None, np.uint16)


def test_strides_are_counted_in_elements_and_none_means_contiguous() -> None:
    values = np.arange(48, dtype=np.float32).reshape(4, 4, 3)
    view = values[::2, ::-1]
    assert DeviceArray.of(Tensor(view)).strides == (96, -12, 4)
    assert DeviceArray.of(Tensor(view)).element_strides == (24, -3, 1)

    def contiguous(tensor: _DLTensor) -> None:
        tensor.strides = None

    taken = DeviceArray.of(Tensor(values, contiguous))
    assert (taken.shape, taken.strides) == ((4, 4, 3), (48, 12, 4))
    assert taken.as_batch().shape == (1, 4, 4, 3)
    assert taken.as_batch().without_batch().strides == (48, 12, 4)


@pytest.mark.parametrize("change", [{"lanes": 4}, {"code": 4}])
def test_vectors_and_bfloat16_are_refused(change: dict[str, int]) -> None:
    def other(tensor: _DLTensor) -> None:
        for name, value in change.items():
            setattr(tensor, name, value)

    with pytest.raises(InvalidValueError, match="neither integer nor floating point"):
        DeviceArray.of(Tensor(np.zeros((2, 2, 3), np.uint16), other))


class Interface:
    """An array by the array interface, and by a DLPack that cannot export it."""

    def __init__(self, array: np.ndarray, **changed: Any) -> None:
        self.array = array
        self.__cuda_array_interface__ = {
            "shape": array.shape, "typestr": array.dtype.str, "data": (array.ctypes.data, False), "version": 3,
        } | changed  # fmt: skip

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, stream: int) -> object:
        raise BufferError("it needs a gradient")


class Stubborn(Tensor):
    def __dlpack__(self) -> object:
        raise BufferError("it needs a gradient")


def test_the_array_interface_is_there_for_what_dlpack_cannot_give() -> None:
    values = np.zeros((2, 4, 3), np.uint8)
    taken = DeviceArray.of(Interface(values))
    assert (taken.pointer, taken.kind, taken.stream) == (values.ctypes.data, "cuda", 1)
    assert taken.__cuda_array_interface__["data"] == (values.ctypes.data, False)
    assert DeviceArray.of(Interface(values, stream=9)).stream == 9
    assert DeviceArray.of(Interface(values, stream=None)).stream is None
    with pytest.raises(InvalidValueError, match=r"cannot be taken by DLPack \(it needs a gradient\)"):
        DeviceArray.of(Stubborn(values))
    with pytest.raises(InvalidValueError, match=r"__cuda_array_interface__ is not one"):
        DeviceArray.of(Interface(values, typestr="no type"))
    with pytest.raises(AttributeError, match="in host memory"):
        _ = replace(taken, kind="host").__cuda_array_interface__


class OnCuda:
    kind = "cuda"


def test_kernels_read_whole_elements_in_the_machines_order() -> None:
    values = np.zeros((2, 4, 3), np.uint16)
    DeviceArray.of(Interface(values)).require_on(OnCuda())  # type: ignore[arg-type]
    for changed, message in (
        ({"typestr": ">u2"}, "must be uint8, uint16, float16 or float32, not >u2"),
        ({"strides": (24, 6, 3)}, "must be whole elements"),
    ):
        with pytest.raises(InvalidValueError, match=message):
            DeviceArray.of(Interface(values, **changed)).require_on(OnCuda())  # type: ignore[arg-type]


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the kernels with")
def test_an_array_gives_its_memory_back_with_the_last_reference() -> None:
    driver = HostDriver()
    array = DeviceArray.empty(driver, (2, 3, 5), np.float16)
    assert [memory.nbytes for memory in driver._memory.values()] == [60]
    line = replace(array, shape=(5,), strides=(2,))
    del array
    assert len(driver._memory) == 1
    del line
    assert len(driver._memory) == 0


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the kernels with")
def test_compiled_kernels_are_kept_by_their_source_and_options_for_their_owner_alone(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("IRSDE_CACHE", str(folder))
    source = folder / "k.h"
    source.write_text("int one() { return 1; }")
    monkeypatch.setattr(kernels, "SOURCE", source)
    first = kernels.host_library()
    made = first.stat().st_mtime_ns
    assert kernels.host_library() == first
    assert first.stat().st_mtime_ns == made, "compiled once"
    assert first.parent.stat().st_mode & 0o077 == 0, "they are code: nobody else may put some there"
    source.write_text("int one() { return 2; }")
    assert kernels.host_library() != first
    monkeypatch.setattr(kernels, "HOST_OPTIONS", (*kernels.HOST_OPTIONS, "-DMORE"))
    kernels.host_library()
    assert len(list(first.parent.iterdir())) == 3


def test_products_and_sums_are_rounded_one_by_one_on_a_gpu(tmp_path_factory: pytest.TempPathFactory) -> None:
    """As NumPy rounds them: no fused instruction of float32 in what nvcc makes with our options."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc here")
    target = tmp_path_factory.mktemp("ptx") / "kernels.ptx"
    command = [nvcc, *kernels.GPU_OPTIONS, "-arch=sm_80", "-ptx", "-x", "cu", kernels.SOURCE, "-o", target]
    subprocess.run(command, check=True)
    ptx = target.read_text()
    assert "mul.rn.f32" in ptx or "mul.f32" in ptx
    assert "fma.rn.f32" not in ptx
