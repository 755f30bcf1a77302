"""How much memory is there, by what Linux says of the machine, its control groups and limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from irsde_deploy.system.memory import PAGE, available_memory


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": "MemTotal: 99 kB\nMemAvailable:   4000000 kB\n", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


GROUP = "sys/fs/cgroup/slurm/job"
OLD = "sys/fs/cgroup/memory/docker/x"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 4_000_000 * 1024),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 4_000_000 * 1024),
        (
            {
                "proc/self/cgroup": "0::/slurm/job\n",
                f"{GROUP}/memory.max": "3000000000\n",
                f"{GROUP}/memory.current": "1000000000\n",
                f"{GROUP}/memory.stat": "anon 5\ninactive_file 200000000\n",
            },
            2_200_000_000,
        ),
        (
            {  # the group above is the tighter one
                "proc/self/cgroup": "0::/slurm/job\n",
                f"{GROUP}/memory.max": "3000000000\n",
                f"{GROUP}/memory.current": "1000000000\n",
                "sys/fs/cgroup/slurm/memory.max": "1500000000\n",
                "sys/fs/cgroup/slurm/memory.current": "1000000000\n",
            },
            500_000_000,
        ),
        (
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n",
                f"{OLD}/memory.limit_in_bytes": "2000000000\n",
                f"{OLD}/memory.usage_in_bytes": "500000000\n",
                f"{OLD}/memory.stat": "inactive_file 1\ntotal_inactive_file 100000000\n",
            },
            1_600_000_000,
        ),
        (
            {
                "proc/self/limits": "Max address space  1000000000  unlimited  bytes\n",
                "proc/self/statm": "100000 5 5 5 0 5 0\n",
            },
            1_000_000_000 - 100_000 * PAGE,
        ),
        ({"proc/self/limits": "Max address space  unlimited  unlimited  bytes\n"}, 4_000_000 * 1024),
        (  # more addresses in use than the limit, which was lowered
            {
                "proc/self/limits": "Max address space  1000000  unlimited  bytes\n",
                "proc/self/statm": "100000 5 5 5 0 5 0\n",
            },
            0,
        ),
        (  # a group that is over its limit leaves nothing
            {
                "proc/self/cgroup": "0::/slurm/job\n",
                f"{GROUP}/memory.max": "1000000000\n",
                f"{GROUP}/memory.current": "1200000000\n",
            },
            0,
        ),
    ],
)
def test_the_tightest_limit_counts(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    assert available_memory(machine(tmp_path, files)) == expected


def test_where_nobody_says(tmp_path: Path) -> None:
    assert available_memory(tmp_path) is None
