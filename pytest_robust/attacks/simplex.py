"""Edits of texts taken by degrees, and driven towards whole ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_robust.attacks.checks import checked_counts, checked_loss
from pytest_robust.attacks.live import Live
from pytest_robust.attacks.neighbours import STEP, checked_edits, replaced
from pytest_robust.attacks.protocol import BaseAttack
from pytest_robust.attacks.relaxed import random_weights, spread_out, water_level
from pytest_robust.threats import Threat

_DECAY = 0.9
"""Of Adam's mean of gradients."""


@dataclass(frozen=True)
class SimplexPGD(BaseAttack):
    """Projected gradient descent on the simplex of each token (Geisler et al., "Attacking large language models with
    projected gradient descent", 2024, algorithm 1), for a suffix or any other edits.

    As in ``RelaxedPGD`` options have weights, and every other point is a text: at each site the option of the largest
    weight. From random weights on, a step is Adam's mean of gradients, each divided by its largest entry: with a scale for
    each weight, as Adam has it, what hardly matters moves as far as what does. What is left of 1 at a site is the weight of
    the text as it is. A second projection (algorithm 3) keeps weights from being spread evenly, more and more as the run
    goes on, so that the text lies close to them. Where no text was better for long, the run goes on from the best.

    Attributes:
        loss: ``"margin"``, ``"ce"`` or ``"dlr"``. n_steps: points tried per run, half of them texts, which cost no backward
            pass. n_restarts: runs, each from other weights. step_size: the most that a step adds to a weight.
        entropy: from 0, weights may be even, to 1, they may not: the share that the run ends with. patience: texts.
    """

    loss: str = "margin"
    n_steps: int = 100
    n_restarts: int = 1
    step_size: float = 0.5
    entropy: float = 0.4
    patience: int = 8
    label: str = "simplex-pgd"

    roams = True

    def __post_init__(self) -> None:
        checked_counts(n_steps=self.n_steps, n_restarts=self.n_restarts, patience=self.patience)
        checked_loss(self.loss, targeted=False)
        for what, share in (("step_size", self.step_size), ("entropy", self.entropy)):
            if not 0 <= share <= 1 or (what == "step_size" and share == 0):
                raise ValueError(f"{what} lies between 0 and 1, got {share!r}")

    @property
    def name(self) -> str:
        return self.label

    def wants_gradient(self, live: Live) -> Tensor:
        """Between texts."""
        return ~self._at_text(live.step)

    def begin(self, threat: Threat, live: Live) -> None:
        """Raises ThreatError for a threat that is not edits of texts."""
        checked_edits(self.name, threat)
        live.x = random_weights(live)
        nothing, lowest = torch.zeros_like(live.x), torch.full((len(live),), -torch.inf, device=live.x.device)
        live.state = {
            "weights": live.x, "mean": nothing, "age": torch.zeros_like(live.step),
            "best": nothing, "best_loss": lowest, "since": torch.zeros_like(live.step),
        }  # fmt: skip

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        state, text = live.state, self._at_text(live.step)
        better = text & (loss > state["best_loss"] + STEP)
        replaced(state, better, live, best=live.x, best_loss=loss.float())
        state["since"] = torch.where(better, 0, state["since"] + text.long())
        self._step(live, grad, ~text)
        stale = state["since"] >= self.patience
        afresh = {"mean": torch.zeros_like(live.x), "age": torch.zeros_like(live.step)}
        replaced(state, stale, live, weights=state["best"], **afresh)
        state["since"] = torch.where(stale, 0, state["since"])
        whole = threat.maximise(state["weights"], live.region)
        live.x = torch.where(live.rows(self._at_text(live.step + 1)), whole, state["weights"])

    def _step(self, live: Live, grad: Tensor, where: Tensor) -> None:
        """Adam's, and both projections, for these slots."""
        state, there = live.state, live.region.upper > 0
        largest = grad.abs().flatten(1).amax(1)
        along = torch.where(there, grad / live.rows(torch.where(largest > 0, largest, 1.0)), 0.0)
        age = state["age"] + 1
        mean = _DECAY * state["mean"] + (1 - _DECAY) * along
        moved = state["weights"] + self.step_size * mean / live.rows(1 - _DECAY**age)
        spread = spread_out(torch.where(there, moved, 0.0), live.region)
        share = self.entropy * (2 * live.step / self.n_steps).clamp_max(1).to(spread.dtype)
        weights = spread_out(pointed(spread, live.rows(share)), live.region)
        replaced(state, where, live, weights=weights, mean=mean, age=age)

    def _at_text(self, step: Tensor) -> Tensor:
        return (step % 2 == 1) | (step == self.n_steps)


def pointed(weights: Tensor, share: Tensor) -> Tensor:
    """Weights (B, S, C) as far from even ones as ``share``, (B, 1, 1) in [0, 1], asks (Geisler et al., 2024, algorithm 3).

    Where they are closer, they go straight away from the even ones, onto a sphere of those whose Gini entropy is by this
    share lower than the highest. What is left of 1 is a weight, too.
    """
    whole = torch.cat([weights, (1 - weights.sum(2, keepdim=True)).clamp_min(0)], 2)
    held = (whole > 0).to(whole.dtype)
    count = held.sum(2, keepdim=True)
    even = held / count
    away = whole - even
    distance, radius = away.norm(dim=2, keepdim=True), (share * (count - 1) / count).clamp_min(0).sqrt()
    moved = even + away * radius / distance.clamp_min(torch.finfo(whole.dtype).tiny)
    # Of what is not held nothing may come to be.
    moved = torch.where(held > 0, moved, -torch.inf)
    onto = (moved - water_level(moved)).clamp_min(0)
    return torch.where((distance < radius) & (distance > 0), onto, whole)[:, :, :-1]
