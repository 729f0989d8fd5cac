"""The examples under attack at this moment, one slot each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pytest_robust.threats import Region

_PER_SLOT = ("x", "goal", "rival", "scale", "key", "restart", "step", "closest", "peak", "clean")
"""The tensors of ``Live`` that are fields of its own."""


@dataclass
class Live:
    """One slot per example; every tensor has the slots as its first dimension, so slots can leave and join.

    Attributes:
        x: (S, ...) where each example stands: the attack moves it.
        region: where each may go. context: what else the model's forward pass needs.
        goal, rival: (S,) classes, as the objective understands them. scale: (S,) spread of the clean logits.
        key: (S,) int64, the random stream. restart: (S,) int64, 0 for the first start. step: (S,) int64, updates so far.
        closest: (S,) largest margin met in this run, 0 at the decision boundary. peak: (S,) largest loss met in it.
        clean: (S, C) logits at the clean point over ``scale``.
        state: what the attack remembers.
    """

    x: Tensor
    region: Region
    context: dict[str, Tensor]
    goal: Tensor
    rival: Tensor
    scale: Tensor
    key: Tensor
    restart: Tensor
    step: Tensor
    closest: Tensor
    peak: Tensor
    clean: Tensor
    state: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.x.shape[0]

    def select(self, slots: Tensor) -> Live:
        """The slots at these positions, (K,) int64."""
        return self._map(lambda tensor: tensor.index_select(0, slots))

    def rows(self, tensor: Tensor) -> Tensor:
        """(S,) values shaped so that they broadcast to ``x``."""
        return tensor.view(-1, *[1] * (self.x.ndim - 1))

    @staticmethod
    def cat(parts: list[Live]) -> Live:
        """All slots of ``parts``, in order."""
        first = parts[0]
        if len(parts) == 1:
            return first
        tensors = {name: torch.cat([getattr(part, name) for part in parts]) for name in _PER_SLOT}
        return Live(
            region=Region.cat([part.region for part in parts]),
            context={name: torch.cat([part.context[name] for part in parts]) for name in first.context},
            state={name: torch.cat([part.state[name] for part in parts]) for name in first.state},
            **tensors,
        )

    def _map(self, f: Callable[[Tensor], Tensor]) -> Live:
        return Live(
            region=self.region.map(f),
            context={name: f(tensor) for name, tensor in self.context.items()},
            state={name: f(tensor) for name, tensor in self.state.items()},
            **{name: f(getattr(self, name)) for name in _PER_SLOT},
        )
