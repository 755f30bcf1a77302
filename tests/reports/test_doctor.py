"""What doctor says of machines other than this one: packages, providers, GStreamer and drivers as they may be."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from irsde_deploy.errors import install_command
from irsde_deploy.reports import doctor
from irsde_deploy.reports.doctor import Finding, element_folder
from irsde_deploy.runtimes.device.drivers.probe import Device

Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Make this a machine with some distributions, name -> version, and with some modules."""

    def made(distributions: dict[str, str], modules: tuple[str, ...]) -> None:
        def version(name: str) -> str:
            if name not in distributions:
                raise importlib.metadata.PackageNotFoundError(name)
            return distributions[name]

        found = SimpleNamespace(
            metadata=SimpleNamespace(version=version, PackageNotFoundError=importlib.metadata.PackageNotFoundError),
            util=SimpleNamespace(find_spec=lambda name: name if name in modules else None),
        )
        monkeypatch.setattr(doctor, "importlib", found)

    return made


def package(extra: str, distribution: str) -> Finding:
    (module,) = (module for module, name in doctor.PACKAGES[extra] if name == distribution)
    return doctor._package(extra, module, distribution)


def test_a_package_is_there_missing_or_broken(machine: Machine) -> None:
    machine({"av": "17.0", "click": "8.4"}, ("av",))
    assert package("video", "av") == Finding("av (video)", True, "17.0")
    assert package("cpu", "onnx") == Finding("onnx (cpu)", False, f"missing: {install_command('cpu')}")
    assert package("base", "msgspec") == Finding("msgspec (base)", False, f"missing: {install_command(None)}")
    broken = f"8.4 is installed but click cannot be found: {install_command(None)} --force-reinstall"
    assert package("base", "click") == Finding("click (base)", False, broken)


def test_any_distribution_that_provides_a_module_will_do(machine: Machine) -> None:
    machine({"onnxruntime-gpu": "1.26"}, ("cv2", "onnxruntime"))
    opencv = package("base", "opencv-python-headless")
    assert (opencv.found, opencv.detail) == (True, "another distribution of OpenCV provides it")
    cpu = package("cpu", "onnxruntime")
    assert (cpu.found, cpu.detail) == (True, "onnxruntime-gpu provides it")
    assert package("gpu", "onnxruntime-gpu").detail == "1.26"
    machine({"onnxruntime": "1.26"}, ("onnxruntime",))
    advice = f"missing: pip uninstall onnxruntime, then {install_command('gpu')}"
    assert package("gpu", "onnxruntime-gpu") == Finding("onnxruntime-gpu (gpu)", False, advice)
    machine({}, ())
    assert package("base", "opencv-python-headless").detail == f"missing: {install_command(None)}"
    assert package("cpu", "onnxruntime").detail == f"missing: {install_command('cpu')}"
    assert package("gpu", "onnxruntime-gpu").detail == f"missing: {install_command('gpu')}"


def test_a_provider_works_where_it_really_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    used = {"Works": "Works", "FallsBack": "CPUExecutionProvider"}

    class Session:
        def __init__(self, model: bytes, options: object, providers: list[str]) -> None:
            if providers == ["Fails"]:
                raise RuntimeError("no library\nat all")
            self.provider = used[providers[0]]

        def get_providers(self) -> list[str]:
            return [self.provider, "CPUExecutionProvider"]

    library = SimpleNamespace(
        SessionOptions=SimpleNamespace,
        InferenceSession=Session,
        get_available_providers=lambda: ["Fails", "FallsBack", "Works"],
    )
    monkeypatch.setattr(doctor, "import_onnxruntime", lambda: library)
    found = list(doctor._providers())
    assert [(finding.what, finding.found) for finding in found] == [
        ("Fails", False), ("FallsBack", False), ("Works", True),
    ]  # fmt: skip
    assert found[0].detail.startswith("does not start: no library")
    assert [finding.detail for finding in found[1:]] == ["is listed but does not start", "works"]


@pytest.mark.parametrize(
    ("devices", "found", "words"),
    [
        (None, False, "not found: engines run on the CPU"),
        ([], False, "installed, but it sees no device"),
        (
            [Device("One", (8, 6)), Device("Two", (9, 0))],
            True,
            "One (compute capability 8.6), Two (compute capability 9.0)",
        ),
    ],
)
def test_a_driver_counts_where_it_sees_devices(
    monkeypatch: pytest.MonkeyPatch, devices: list[Device] | None, found: bool, words: str
) -> None:
    monkeypatch.setattr(doctor, "devices", lambda: devices)
    finding = doctor._cuda_driver()
    assert (finding.found, finding.detail[: len(words)]) == (found, words)


def test_gstreamer_is_asked_quietly_and_told_where_the_element_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor._gstreamer().detail.startswith("missing: docs/plugins.md")
    tool = tmp_path / "gst-inspect-1.0"
    tool.write_text(f"#!/bin/sh\necho $1 $GST_REGISTRY_DISABLE > {tmp_path}/told\necho gst-inspect version 1.24.5\n")
    tool.chmod(0o755)
    folder = element_folder()
    monkeypatch.setenv("GST_PLUGIN_PATH", f"/elsewhere:{folder}")
    assert doctor._gstreamer() == Finding(
        "GStreamer (by hand)", True, "1.24.5; GST_PLUGIN_PATH has its element irsde"
    )  # fmt: skip
    assert (tmp_path / "told").read_text() == "--version yes\n"
    monkeypatch.setenv("GST_PLUGIN_PATH", f"{folder}/deeper")
    assert doctor._gstreamer().detail == f"1.24.5; for its element irsde, GST_PLUGIN_PATH={folder}"
    tool.write_text("#!/bin/sh\necho it is broken >&2\n")
    assert not doctor._gstreamer().found


def test_the_element_is_in_the_package_or_in_the_source_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (element_folder() / "python" / "irsde_gst.py").is_file()
    monkeypatch.setattr(doctor, "__file__", str(tmp_path / "irsde_deploy" / "reports" / "doctor.py"))
    assert element_folder() == tmp_path / "runtimes" / "gstreamer"
    installed = tmp_path / "irsde_deploy" / "plugins" / "gstreamer"
    installed.mkdir(parents=True)
    assert element_folder() == installed
