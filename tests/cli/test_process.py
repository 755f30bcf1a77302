"""What a shell gives a process: closed descriptors and limits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from commands import PROGRAM
from sample_pictures import write_photographs

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="shells of POSIX close descriptors")


def run_with(closed: str, small_onnx: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Restore a picture into out.png with the descriptors closed that the shell's words say."""
    arguments = ["run", "--engine", str(small_onnx), "p0.png", "-o", "out.png", "--overwrite"]
    line = " ".join([*PROGRAM, *arguments, closed])
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, cwd=folder)


@pytest.fixture(scope="module")
def expected(small_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The picture that is restored with every descriptor open."""
    folder = tmp_path_factory.mktemp("open")
    write_photographs(folder, 1)
    assert run_with("", small_onnx, folder).returncode == 0
    return (folder / "out.png").read_bytes()


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_change_nothing(closed: str, small_onnx: Path, expected: bytes, tmp_path: Path) -> None:
    write_photographs(tmp_path, 1)
    assert run_with(closed, small_onnx, tmp_path).returncode == 0
    assert (tmp_path / "out.png").read_bytes() == expected


def test_what_is_written_to_a_closed_stderr_goes_into_no_file(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from irsde_deploy import __main__ as program, cli\n"
        "def work(**_):\n"
        "    file = open('picture', 'wb')\n"
        "    file.write(b'pixels')\n"
        "    file.flush()\n"
        "    os.write(2, b'warning of a library')\n"
        "    print('hidden', file=sys.stderr)\n"
        "cli.cli.main = work\n"
        "program.main()\n"
    )
    done = subprocess.run(["sh", "-c", f'{sys.executable} -c "{script}" 2>&-'], cwd=tmp_path)
    assert (done.returncode, (tmp_path / "picture").read_bytes()) == (0, b"pixels")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux says what the limit of addresses is")
@pytest.mark.parametrize("mebibytes", [80, 300, 450])
def test_too_few_addresses_are_a_sentence(small_onnx: Path, tmp_path: Path, mebibytes: int) -> None:
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (mebibytes << 20, mebibytes << 20))

    write_photographs(tmp_path, 1)
    command = [*PROGRAM, "run", "--engine", str(small_onnx), "p0.png", "-o", "out.png"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, preexec_fn=limit)
    assert done.returncode == 1
    assert done.stderr == (
        f"irsde-deploy: not enough memory: this process may use {mebibytes} MiB of addresses (ulimit -v), and the "
        "libraries alone take more: allow it 512 MiB or more\n"
    )
