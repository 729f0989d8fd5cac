"""Weights beside those that are trained: their running average, and the worst ones nearby."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_TINY = 1e-12
_COARSE = (torch.bfloat16, torch.float16)

State = dict[str, Tensor]


def state_of(module: nn.Module) -> State:
    """A copy of all parameters and buffers by name, those shared by several names under each."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict(keep_vars=True).items()}


def put(module: nn.Module, state: State) -> None:
    """Write a state into the module's own tensors."""
    with torch.no_grad():
        for name, tensor in module.state_dict(keep_vars=True).items():
            tensor.copy_(state[name])


class Average:
    """The exponential moving average of a module's weights (Polyak and Juditsky, 1992), with a warm-up: after t updates the
    decay is at most (1 + t) / (10 + t). Numbers that are no weights, such as running statistics, are copies of the last.

    Attributes:
        updates: so far. state: the average, by name.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._module, self._decay = module, decay
        self._averaged = {name for name, _ in module.named_parameters(remove_duplicate=False)}
        self.updates = 0
        # Of bfloat16 weights the average would not move: a thousandth is rounded away.
        self.state = {name: t.float() if t.dtype in _COARSE else t for name, t in state_of(module).items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the module's weights of now into the average."""
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        for name, tensor in self._module.state_dict(keep_vars=True).items():
            if name in self._averaged and tensor.is_floating_point():
                self.state[name].lerp_(tensor.detach().to(self.state[name].dtype), 1 - decay)
            else:
                self.state[name].copy_(tensor.detach())
        self.updates += 1

    def plain(self) -> dict[str, Any]:
        """What ``load`` takes."""
        return {"state": self.state, "updates": self.updates}

    def load(self, plain: Mapping[str, Any]) -> None:
        """Become what ``plain`` was of, on the device that this is on."""
        for name, tensor in self.state.items():
            tensor.copy_(plain["state"][name])
        self.updates = plain["updates"]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the module has the average; then its own weights again, also after an exception."""
        own = state_of(self._module)
        put(self._module, self.state)
        try:
            yield
        finally:
            put(self._module, own)


@contextmanager
def perturbed(module: nn.Module, gamma: float, gradients: dict[str, Tensor]) -> Iterator[None]:
    """Adversarial weight perturbation (Wu et al., NeurIPS 2020, eq. 8): inside, every weight matrix or kernel has moved
    along its gradient, by ``gamma`` times its own norm; biases and norms' scales stay. Then all is what it was, bit by bit.

    Args:
        gradients: of the loss, by the names of the parameters.
    """
    moved = {name: p for name, p in module.named_parameters() if p.ndim > 1 and name in gradients}
    own = {name: p.detach().clone() for name, p in moved.items()}
    with torch.no_grad():
        for name, p in moved.items():
            grad = gradients[name]
            p.add_(grad * (gamma * p.norm() / (grad.norm() + _TINY)))
    try:
        yield
    finally:
        with torch.no_grad():
            for name, p in moved.items():
                p.copy_(own[name])
