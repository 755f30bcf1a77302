"""Every TensorRT name that the code uses exists in TensorRT 10.13, in 11 and in TensorRT-RTX.

The lists beside this file were taken from the bindings wheels by `extract_api.py`; RTX's is compared with the installed
module as well.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from places import ROOT

HERE = Path(__file__).parent
PACKAGE = ROOT / "irsde_deploy" / "runtimes" / "tensorrt"
SOURCES = ("backend.py", "builder.py", "engine.py", "watching.py")
LISTS = sorted(HERE.glob("*.json"))
RTX_ONLY = {
    "ComputeCapability",
    "DynamicShapesKernelSpecializationStrategy",
    "IRuntimeCache",
    "REQUIRE_USER_ALLOCATION",
    "create_runtime_cache",
    "dynamic_shapes_kernel_specialization_strategy",
    "num_compute_capabilities",
    "set_compute_capability",
    "set_runtime_cache",
}

CLASSES = {
    "trt": "",
    "self._trt": "",
    "self._builder": "Builder",
    "self._engine": "ICudaEngine",
    "builder": None,  # our own _Builder
    "config": "IBuilderConfig",  # in engine.py: IRuntimeConfig
    "self._cache": "IRuntimeCache",
    "context": "IExecutionContext",
    "engine": None,  # our own TensorRtEngine
    "error": "ParserError",
    "made": "IOptimizationProfile",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "runtime": "Runtime",
    "self._runtime": "Runtime",
    "tensor": "ITensor",
    "timings": "ITimingCache",
}
"""What holds which TensorRT class, in all of SOURCES."""


def used_names() -> set[tuple[str, str]]:
    """(class, attribute) of every access in SOURCES; class "" is the module."""
    used = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse((PACKAGE / source).read_text())):
            if isinstance(node, ast.Attribute):
                owner = ast.unparse(node.value)
                for module in ("trt.", "self._trt."):
                    if owner.startswith(module):
                        used.add((owner.removeprefix(module), node.attr))
                if owner == "config" and source.endswith("engine.py"):
                    used.add(("IRuntimeConfig", node.attr))
                elif CLASSES.get(owner) is not None:
                    used.add((CLASSES[owner], node.attr))
    return used - {("ICudaEngine", "plan"), ("", "__version__"), ("", "ILogger.__init__")}


def test_the_scan_finds_what_is_there() -> None:
    used = used_names()
    assert ("Builder", "build_serialized_network") in used
    assert ("IExecutionContext", "execute_async_v3") in used
    assert ("NetworkDefinitionCreationFlag", "STRONGLY_TYPED") in used
    assert len(used) > 45


@pytest.mark.parametrize("listed", LISTS, ids=lambda path: path.stem)
def test_every_name_exists(listed: Path) -> None:
    names = json.loads(listed.read_text())["names"]
    for owner, attribute in sorted(used_names()):
        if "rtx" not in listed.stem and (attribute in RTX_ONLY or owner in RTX_ONLY):
            continue
        if attribute.startswith("__"):  # dir() of every class has __init__ and __members__
            continue
        assert attribute in names[owner], f"{owner}.{attribute} is not in {listed.stem}"


def test_names_that_tensorrt_11_dropped_are_not_used() -> None:
    used = used_names()
    for gone in ("FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"):
        assert ("BuilderFlag", gone) not in used
    old, new = (json.loads((HERE / f"tensorrt-{v}.json").read_text())["names"] for v in ("10.13.3.9", "11.4.0.106"))
    assert "FP16" in old["BuilderFlag"], "the lists do tell the versions apart"
    assert "FP16" not in new["BuilderFlag"]


def test_the_list_of_rtx_is_the_installed_modules() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (extra rtx)")
    listed = json.loads((HERE / "tensorrt-rtx-1.7.1.116.json").read_text())
    if trt.__version__ != listed["version"]:
        pytest.skip(f"the list is of {listed['version']}, and {trt.__version__} is installed")
    for owner, attribute in used_names():
        value = trt
        for part in filter(None, owner.split(".")):
            value = getattr(value, part)
        assert hasattr(value, attribute), f"{owner}.{attribute}"
