"""Auto-PGD: projected gradient descent that halves its step size by itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from pytest_robust.attacks.checks import checked_counts, checked_loss
from pytest_robust.attacks.live import Live
from pytest_robust.attacks.pgd import best_first, started
from pytest_robust.attacks.protocol import BaseAttack
from pytest_robust.threats import Threat

_INERTIA = 0.75
"""Share of the gradient step in a move; the rest repeats the last move (alpha in the paper)."""
_ENOUGH_RISES = 0.75
"""A smaller share of rising steps between two checkpoints halves the step size (rho in the paper)."""


@dataclass(frozen=True)
class APGD(BaseAttack):
    """Auto-PGD (Croce and Hein, "Reliable evaluation of adversarial robustness", ICML 2020, algorithm 1).

    Each example has its own step size, halved at checkpoints where its loss did not rise often enough or its best did
    not improve; it then goes on from its best point. The first move goes to the region's best point for the gradient,
    so that one step is exact on a linear model.

    Attributes:
        loss: ``"ce"``, ``"margin"``, ``"dlr"``, or with ``n_targets`` ``"margin-t"`` or ``"dlr-t"``.
        n_steps: gradient steps per run. n_restarts: runs from different starts; the first starts at the clean point.
        n_targets: drive towards so many of the most likely other classes, in turn. 0: no target.
    """

    loss: str = "ce"
    n_steps: int = 100
    n_restarts: int = 1
    n_targets: int = 0

    def __post_init__(self) -> None:
        checked_counts(n_steps=self.n_steps, n_restarts=self.n_restarts)
        checked_loss(self.loss, targeted=self.n_targets > 0)

    @property
    def name(self) -> str:
        return "apgd-t" if self.n_targets else f"apgd-{self.loss}"

    def begin(self, threat: Threat, live: Live) -> None:
        live.x = started(threat, live, always=False)
        zeros = torch.zeros(len(live), device=live.x.device, dtype=live.x.dtype)
        live.state = {
            "previous": live.x,
            "best": live.x,
            "best_grad": torch.zeros_like(live.x),
            "best_loss": torch.full_like(zeros, -torch.inf),
            "last_loss": torch.full_like(zeros, -torch.inf),
            "best_at_checkpoint": torch.full_like(zeros, -torch.inf),
            "rises": zeros,
            "size": torch.full_like(zeros, 2.0),
            "halved": torch.zeros_like(zeros, dtype=torch.bool),
        }

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        state, rows = live.state, live.rows
        loss = loss.to(live.x.dtype)
        state["rises"] = state["rises"] + (loss > state["last_loss"]) * (live.step > 0)
        state["last_loss"] = loss
        better = loss > state["best_loss"]
        state["best"] = torch.where(rows(better), live.x, state["best"])
        state["best_grad"] = torch.where(rows(better), grad, state["best_grad"])
        state["best_loss"] = torch.where(better, loss, state["best_loss"])
        x, grad = self._checkpoint(live, grad)

        towards = threat.step(x, grad, state["size"], live.region)
        moved = threat.project(x + _INERTIA * (towards - x) + (1 - _INERTIA) * (x - state["previous"]), live.region)
        state["previous"], live.x = x, best_first(threat, live, grad, moved)

    def _checkpoint(self, live: Live, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Where to move from, and the gradient there, after halving the step sizes whose time has come."""
        state, rows = live.state, live.rows
        gap = _gaps(self.n_steps, live.step.device)[live.step]
        due = gap > 0
        stuck = ~state["halved"] & (state["best_at_checkpoint"] >= state["best_loss"])
        halve = due & ((state["rises"] <= _ENOUGH_RISES * gap) | stuck)
        state["size"] = torch.where(halve, state["size"] / 2, state["size"])
        state["halved"] = torch.where(due, halve, state["halved"])
        state["best_at_checkpoint"] = torch.where(due, state["best_loss"], state["best_at_checkpoint"])
        state["rises"] = torch.where(due, 0.0, state["rises"])
        return torch.where(rows(halve), state["best"], live.x), torch.where(rows(halve), state["best_grad"], grad)


def checkpoints(n_steps: int) -> tuple[int, ...]:
    """The steps at which the step size may be halved: the gaps start at 22 % and shrink by 3 % to 6 % of the steps."""
    first, least, shrink = (max(int(share * n_steps), 1) for share in (0.22, 0.06, 0.03))
    at, gap, steps = 0, first, []
    while at + gap <= n_steps:
        at += gap
        steps.append(at)
        gap = max(gap - shrink, least)
    return tuple(steps)


@lru_cache(maxsize=32)
def _gaps(n_steps: int, device: torch.device) -> Tensor:
    """By step: the number of steps since the last checkpoint where this is one, else 0."""
    gaps = torch.zeros(n_steps + 1, dtype=torch.int64)
    last = 0
    for at in checkpoints(n_steps):
        gaps[at], last = at - last, at
    return gaps.to(device)
