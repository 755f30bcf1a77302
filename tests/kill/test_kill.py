"""A few kills of what is quickest; `make kill` does a hundred, of everything that writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import TESTS


@pytest.mark.parametrize("kills", [2, pytest.param(6, marks=pytest.mark.slow)])
def test_killed_commands_leave_nothing_that_the_next_run_does_not_mend(kills: int) -> None:
    command = [sys.executable, str(Path(__file__).with_name("kill.py")), "--kills", str(kills), "--seed", "3"]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = subprocess.run([*command, "--only", "run,pack"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    table = [line for line in done.stdout.splitlines() if line.startswith(("| run", "| pack"))]
    assert [row.split(" | ", 3)[1] for row in table] == [str(kills // 2)] * 2
    assert all(row.endswith("| 0 | 0 | 0 | 0 |") for row in table)
