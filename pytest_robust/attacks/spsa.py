"""SPSA: gradients estimated from pairs of queries."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.attacks.checks import checked_counts, checked_loss
from pytest_robust.attacks.live import Live
from pytest_robust.attacks.protocol import BaseAttack
from pytest_robust.threats import Threat


@dataclass(frozen=True)
class SPSA(BaseAttack):
    """Simultaneous perturbation stochastic approximation (Uesato et al., ICML 2018, algorithm 1).

    An iteration asks for the loss at pairs of points on opposite sides of where it stands, each feature moved up or down at
    random, and sums the differences along the lines between them. Then it takes a step of steepest ascent for the average of
    its estimates so far. No gradient is used. Every point that is asked for lies in the region.

    Attributes:
        loss: ``"margin"``, ``"ce"`` or ``"dlr"``. n_iterations: moves per run. n_pairs: pairs of queries for each of them.
        stride: how far the queries are from where it stands, as a share of a step to the far side of the region.
        momentum: how much of the earlier estimates stays in the average.
    """

    loss: str = "margin"
    n_iterations: int = 20
    n_pairs: int = 16
    stride: float = 0.1
    momentum: float = 0.5

    name = "spsa"
    uses_gradients = False

    def __post_init__(self) -> None:
        checked_counts(n_iterations=self.n_iterations, n_pairs=self.n_pairs)
        checked_loss(self.loss, targeted=False)

    @property
    def n_steps(self) -> int:
        """Queries per run."""
        return 2 * self.n_pairs * self.n_iterations

    def begin(self, threat: Threat, live: Live) -> None:
        zeros = torch.zeros_like(live.x)
        live.state = {
            "at": live.region.origin,
            "estimate": zeros,
            "average": zeros,
            "one": live.region.origin,
            "loss": torch.zeros_like(live.closest),
        }
        live.x = self._query(threat, live, live.step)

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        state, rows = live.state, live.rows
        second = rows(live.step % 2 == 1)
        rise = (state["loss"] - loss).nan_to_num(0.0, 0.0, 0.0).to(live.x.dtype)
        rise = rows(rise) * (state["one"] - live.x)
        state["estimate"] = torch.where(second, state["estimate"] + rise, state["estimate"])
        state["one"], state["loss"] = live.x, loss.to(state["loss"].dtype)

        taken = live.step + 1
        due = rows(taken % (2 * self.n_pairs) == 0)
        average = self.momentum * state["average"] + state["estimate"]
        state["average"] = torch.where(due, average, state["average"])
        moved = threat.step(state["at"], average, self._size(live.step).to(average.dtype), live.region)
        state["at"] = torch.where(due, moved, state["at"])
        state["estimate"] = torch.where(due, 0.0, state["estimate"])
        live.x = torch.where(rows(taken == self.n_steps), state["at"], self._query(threat, live, taken))

    def _query(self, threat: Threat, live: Live, step: Tensor) -> Tensor:
        """A point a stride away: up and down at random, then the opposite."""
        u = keyed.uniform(keyed.child(live.key, step // 2), tuple(live.x.shape[1:]))
        # Sizes differ, so that where a norm goes by the largest features these are not always the first.
        direction = (2 * u - 1).to(live.x.dtype) * live.rows(1 - 2 * (step % 2))
        size = torch.full((len(live),), self.stride, device=live.x.device, dtype=live.x.dtype)
        return threat.step(live.state["at"], direction, size, live.region)

    def _size(self, step: Tensor) -> Tensor:
        """Steps that go down from two radii, which reach from any point to the far side, to a fiftieth of that."""
        done = (step // (2 * self.n_pairs)) / self.n_iterations
        return 2.0 * (0.02 + 0.98 * (1 + torch.cos(math.pi * done)) / 2)
