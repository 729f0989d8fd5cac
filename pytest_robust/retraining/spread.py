"""Several processes, one training: gradients are averaged, and all have the same weights. Alone nothing happens."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if _is_on() else 0


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if _is_on() else 1


def average_gradients(module: nn.Module) -> None:
    """The mean over all processes of each gradient."""
    if world() > 1:
        for p in module.parameters():
            if p.grad is not None:
                dist.all_reduce(p.grad)
                p.grad /= world()


def same_buffers(module: nn.Module) -> None:
    """Running statistics become those of the first process."""
    if world() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def any_of(yes: bool) -> bool:
    """Whether any process says yes; all get the same answer."""
    if world() == 1:
        return yes
    answer = torch.tensor(float(yes), device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(answer, dist.ReduceOp.MAX)
    return bool(answer)


def _is_on() -> bool:
    return dist.is_available() and dist.is_initialized()
