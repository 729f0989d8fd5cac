"""Edits of texts taken by degrees: gradient ascent between texts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.attacks.checks import checked_counts, checked_loss
from pytest_robust.attacks.live import Live
from pytest_robust.attacks.neighbours import checked_edits, silent
from pytest_robust.attacks.protocol import BaseAttack
from pytest_robust.threats import Region, Threat

_HALVINGS = 30


@dataclass(frozen=True)
class RelaxedPGD(BaseAttack):
    """Projected gradient ascent over edits that are taken by degrees (TextGrad: Hou et al., ICLR 2023), and texts out of it.

    At each site the options have weights of at least 0 that sum up to at most 1, over all sites to at most k; between texts
    the model is run on the embeddings mixed by these weights. That is where the gradient is followed, and where nothing
    counts: every few steps edits are drawn by their weights, first the heaviest, and the text that they make is tried.

    Attributes:
        loss: ``"margin"``, ``"ce"`` or ``"dlr"``. n_steps: points tried per run; each costs a forward and a backward pass.
        n_restarts: runs: the first from the text as it is; others, and where its gradient says nothing, from random weights.
        step_size: the most that a step adds to a weight at first; it falls like one over the root of the number of steps.
        every: one of so many points is a text.
    """

    loss: str = "margin"
    n_steps: int = 30
    n_restarts: int = 1
    step_size: float = 0.5
    every: int = 2
    label: str = "relaxed-pgd"

    roams = True

    def __post_init__(self) -> None:
        checked_counts(n_steps=self.n_steps, n_restarts=self.n_restarts, every=self.every)
        checked_loss(self.loss, targeted=False)
        if not 0 < self.step_size <= 1:
            raise ValueError(f"step_size is the most that a weight grows by, above 0 and at most 1, got {self.step_size!r}")

    @property
    def name(self) -> str:
        return self.label

    def begin(self, threat: Threat, live: Live) -> None:
        """Raises ThreatError for a threat that is not edits of texts."""
        checked_edits(self.name, threat)
        live.x = torch.where(live.rows(live.restart > 0), random_weights(live), live.region.origin)
        live.state = {"weights": live.x}

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        state, there = live.state, live.region.upper > 0
        largest = grad.abs().flatten(1).amax(1)
        step = self.step_size / (1 + live.step // self.every).sqrt()
        by = grad * live.rows(step / torch.where(largest > 0, largest, 1.0))
        risen = spread_out(torch.where(there, state["weights"] + by, 0.0), live.region)
        risen = torch.where(live.rows(silent(grad, live)), random_weights(live), risen)
        state["weights"] = weights = torch.where(live.rows(self._at_text(live.step)), state["weights"], risen)
        tried = live.step + 1
        luck = keyed.uniform(keyed.child(live.key, tried), tuple(live.x.shape[1:])).to(weights.dtype)
        # Each divided by a random number of the exponential distribution: the largest is drawn by the weights.
        drawn = weights / torch.where(live.rows(tried < self.every), 1.0, (-torch.log1p(-luck)).clamp_min(1e-6))
        text = threat.maximise(drawn, live.region)
        live.x = torch.where(live.rows(self._at_text(tried)), text, weights)

    def _at_text(self, step: Tensor) -> Tensor:
        return (step % self.every == self.every - 1) | (step == self.n_steps)


def random_weights(live: Live) -> Tensor:
    """(B, S, C) weights as they may be, by the keys of the slots."""
    weights = keyed.uniform(live.key, tuple(live.x.shape[1:])).to(live.x.dtype)
    return spread_out(torch.where(live.region.upper > 0, weights, 0.0), live.region)


def spread_out(weights: Tensor, region: Region) -> Tensor:
    """The nearest weights, (B, S, C), of at least 0 that sum up to at most 1 at each site, and in all to at most k."""
    own = water_level(weights).clamp_min(0)
    low = torch.zeros(len(weights), 1, 1, dtype=weights.dtype, device=weights.device)
    high = weights.flatten(1).amax(1).clamp_min(0).view_as(low)
    most = region.radius.to(weights.dtype).view_as(low)

    def above(level: Tensor) -> Tensor:
        return (weights - torch.maximum(own, level)).clamp_min(0)

    fine = above(low).sum((1, 2), keepdim=True) <= most
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        over = above(middle).sum((1, 2), keepdim=True) > most
        low, high = torch.where(over, middle, low), torch.where(over, high, middle)
    return above(torch.where(fine, 0.0, high))


def water_level(weights: Tensor) -> Tensor:
    """(B, S, 1), at which what is above it sums up to 1 at each site of (B, S, C) (Duchi et al., ICML 2008, figure 1)."""
    ordered = weights.sort(dim=2, descending=True).values
    count = torch.arange(1, weights.shape[2] + 1, device=weights.device)
    levels = (ordered.cumsum(2) - 1) / count
    # The last at which what is above it still sticks out.
    last = (ordered > levels).sum(2, keepdim=True).clamp_min(1) - 1
    return levels.gather(2, last)
