"""The library imports with NumPy alone, and `irsde-deploy run` restores without PyTorch, in processes without them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from places import DATA

from irsde_deploy.errors import install_command

GOLDEN = DATA / "golden" / "latent_nafnet_w8" / "weights.pth"
BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in BLOCKED:
            raise ModuleNotFoundError('blocked for this test: ' + name, name=name)
BLOCKED = set({blocked!r})
sys.meta_path.insert(0, Blocker())
"""


def run_without(blocked: list[str], code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = BLOCKER.format(blocked=blocked) + code
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=300)


def test_the_core_needs_numpy_alone() -> None:
    blocked = [
        "torch",
        "onnx",
        "onnxruntime",
        "onnxscript",
        "cv2",
        "PIL",
        "tensorrt",
        "click",
        "msgspec",
        "filelock",
        "platformdirs",
        "yaml",
        "matplotlib",
    ]
    result = run_without(
        blocked,
        """
import irsde_deploy, irsde_deploy.core.noise, irsde_deploy.core.sampling, irsde_deploy.core.tiling
from irsde_deploy import MeanRevertingSDE, Restorer, load, plan_steps
table = plan_steps(MeanRevertingSDE(max_sigma=10, T=100, schedule="cosine", eps=0.005), "sde-2m", 20)
heavy = sorted(set(m.partition('.')[0] for m in sys.modules) & BLOCKED)
print(round(float(table.p[0] * 0.005), 9), heavy)
""",
    )
    assert result.stdout.strip() == "1.0 []", result.stderr


def test_run_restores_without_pytorch(small_onnx: Path, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (21, 34, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "in.png"), picture)
    code = "from irsde_deploy.__main__ import main; main()"
    command = [
        "run",
        "--engine",
        str(small_onnx),
        str(tmp_path / "in.png"),
        "-o",
        str(tmp_path / "out.png"),
        "--steps",
        "3",
    ]
    result = run_without(["torch", "onnxscript", "safetensors", "yaml", "matplotlib"], code, *command)
    assert result.returncode == 0, result.stderr
    from irsde_deploy import load

    expected = load(small_onnx)(picture[:, :, ::-1], steps=3)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out.png"))[:, :, ::-1], expected)


def test_a_missing_package_is_one_sentence_with_the_command_that_installs_it(small_onnx: Path, tmp_path: Path) -> None:
    code = "from irsde_deploy.__main__ import main; main()"
    cv2.imwrite(str(tmp_path / "in.png"), np.zeros((16, 16, 3), np.uint8))
    command = ["run", "--engine", str(small_onnx), str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png")]
    for package, extra in (("onnxruntime", "cpu"), ("yaml", ""), ("cv2", "")):
        arguments = command if package != "yaml" else ["export", str(GOLDEN), "--opt", __file__]
        result = run_without([package], code, *arguments)
        assert (result.returncode, result.stderr.count("\n")) == (5, 1), result.stderr
        assert package in result.stderr
        assert not extra or install_command(extra) in result.stderr
    result = run_without(["torch"], code, "export", "x.pt")
    assert (result.returncode, result.stderr.count("\n")) == (5, 1)
    assert install_command("export") in result.stderr


def test_videos_name_their_extra_and_pipes_need_none(small_onnx: Path, tmp_path: Path) -> None:
    code = "from irsde_deploy.__main__ import main; main()"
    (tmp_path / "in.mp4").write_bytes(b"any")
    command = ["run", "--engine", str(small_onnx), str(tmp_path / "in.mp4"), "-o", str(tmp_path / "out.mp4")]
    result = run_without(["av"], code, *command)
    assert (result.returncode, result.stderr.count("\n")) == (5, 1), result.stderr
    assert install_command("video") in result.stderr
    program = BLOCKER.format(blocked=["av", "torch"]) + code
    command = ["run", "--engine", str(small_onnx), "-", "-o", "-", "--steps", "1", "--sampler", "mean"]
    stream = b"YUV4MPEG2 W4 H2 F25:1 C444\nFRAME\n" + bytes(range(24))
    piped = subprocess.run([sys.executable, "-c", program, *command], input=stream, capture_output=True, timeout=300)
    assert (piped.returncode, len(piped.stdout)) == (0, len(stream)), piped.stderr


def test_runtime_modules_do_not_pull_in_pytorch() -> None:
    modules = ("restorer", "pictures.metrics", "runtimes.opening", "runtimes.loops.numpy_loop", "graphs.onnx_file")
    names = ", ".join(f"irsde_deploy.{module}" for module in (*modules, "precision.lowering"))
    result = run_without(["torch"], f"import {names}; print('ok')")
    assert result.stdout.strip() == "ok", result.stderr
