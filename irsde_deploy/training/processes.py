"""The processes that train together: torchrun starts them, and each takes an equal part of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

LONGEST_VALIDATION = timedelta(hours=6)
"""How long processes wait for the first one, which validates."""


@dataclass(frozen=True)
class Process:
    """One of the processes that train together.

    Attributes:
        rank: its number, 0..count-1.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that validates, logs and writes."""
        return self.rank == 0


@contextmanager
def process_group(device: str) -> Iterator[Process]:
    """Join the processes that torchrun started; without torchrun, this process is alone.

    Yields:
        This process's place among them.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Process()
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=LONGEST_VALIDATION)
    yield Process(dist.get_rank(), dist.get_world_size())
    dist.destroy_process_group()  # after an error torchrun ends the others, which may be waiting for this one


def agree(flag: bool, process: Process, device: torch.device) -> bool:
    """Whether any of the processes says yes; all of them must ask, and all get the same answer."""
    if process.count == 1:
        return flag
    answer = torch.tensor(float(flag), device=device)
    dist.all_reduce(answer, dist.ReduceOp.MAX)
    return bool(answer)
