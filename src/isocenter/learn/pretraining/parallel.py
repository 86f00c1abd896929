"""Several processes that train as one: which one this is, and sums over all of them.

Nothing here starts processes: `torchrun` does. Where none runs, every function is that of one process.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import distributed

__all__ = ["World", "gather", "joined", "mean_over", "world"]


class World:
    """This process among all.

    Args:
        rank: Its number.
        size: How many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def share(self, places: range) -> range:
        """Return the part of a batch that is this process's; the parts are equal.

        Example:
            >>> World(1, 2).share(range(8, 16))
            range(12, 16)
        """
        each = len(places) // self.size
        return places[self.rank * each : (self.rank + 1) * each]

    def wait(self) -> None:
        """Wait for all others."""
        if self.size > 1:
            distributed.barrier()


def world() -> World:
    """Return this process among all."""
    if distributed.is_available() and distributed.is_initialized():
        return World(distributed.get_rank(), distributed.get_world_size())
    return World()


@contextlib.contextmanager
def joined() -> Iterator[World]:
    """Join the processes that `torchrun` started, and leave them at the end; one process where it did not."""
    if not distributed.is_available() or distributed.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield world()
        return
    if torch.cuda.is_available():  # what is exchanged as objects goes through the current device
        torch.cuda.set_device(int(os.environ.get("RANK", "0")) % torch.cuda.device_count())
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield world()
    finally:
        distributed.destroy_process_group()


class _Gather(torch.autograd.Function):
    """Rows of all processes; each gets the gradients that all have for its own."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(x) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, x.contiguous())
        ctx.rows = len(x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        grad = grads[0].contiguous()
        distributed.all_reduce(grad)
        start = distributed.get_rank() * ctx.rows
        return grad[start : start + ctx.rows]


def gather(x: torch.Tensor) -> torch.Tensor:
    """Return the rows of all processes, differentiably; all have equally many."""
    if world().size == 1:
        return x
    gathered: torch.Tensor = _Gather.apply(x)  # type: ignore[no-untyped-call]
    return gathered


def mean_over(x: torch.Tensor) -> torch.Tensor:
    """Return the mean over all processes, without gradient."""
    size = world().size
    if size == 1:
        return x.detach()
    total = x.detach().clone()
    distributed.all_reduce(total)
    return total / size
