"""What a run could leave behind: everything of a model, its data and the process that must not change."""

from __future__ import annotations

import copy
import random

import numpy as np
import torch
from torch import Tensor, nn


class Awkward(nn.Module):
    """Mixed modes, a frozen parameter, a hook, gradients, a counter buffer, and a failure on demand.

    Attributes:
        passes: calls so far. fail_after: raise a RuntimeError from this many calls on; None for never.
    """

    calls: Tensor

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self.body = copy.deepcopy(network)
        first, last = network[0], network[-1]
        assert isinstance(first, nn.Linear)
        assert isinstance(last, nn.Linear)
        self.norm = nn.BatchNorm1d(last.out_features)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.passes = 0
        self.fail_after: int | None = None
        self.body[0].requires_grad_(False)
        self.body[0].register_forward_hook(lambda module, args, out: None)
        for parameter in self.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.ones_like(parameter)
        self.eval()
        self.body.train()  # harmless: nothing in it depends on the mode

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.passes += 1
        if self.fail_after is not None and self.passes > self.fail_after:
            raise RuntimeError("the model gave up")
        logits: Tensor = self.body(x) + 0 * self.norm(self.body(x))
        return logits


def photograph(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, object]:
    """By name, all that must be the same after a run, in values that can be compared."""
    tensors = (*model.parameters(), *model.buffers())
    return {
        "train flags": [m.training for m in model.modules()],
        "hooks": [len(m._forward_hooks) + len(m._backward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "gradients": [None if p.grad is None else p.grad.numpy().tobytes() for p in model.parameters()],
        "weights and buffers": {k: v.numpy().tobytes() for k, v in model.state_dict().items()},
        "identity of tensors": [id(t) for t in tensors],
        "device": [t.device for t in tensors],
        "inputs and labels": (x.numpy().tobytes(), y.numpy().tobytes(), x.requires_grad),
        "random states": random_states(),
        "torch modes": (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.get_float32_matmul_precision()),
        "tf32": torch.backends.cudnn.allow_tf32,
    }


def random_states() -> tuple[object, ...]:
    """The global random states of Python, numpy and torch on the CPU."""
    _, words, *rest = np.random.get_state()
    return random.getstate(), np.asarray(words).tobytes(), rest, torch.get_rng_state().numpy().tobytes()


def changed(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """The names under which two photographs differ."""
    return [name for name in before if before[name] != after[name]]
