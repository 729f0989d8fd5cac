"""An attack with a witness: where it goes, and what it touches that is not its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pytest_robust.attacks import Attack, Live
from pytest_robust.conformance.legality import excess
from pytest_robust.conformance.trace import random_states
from pytest_robust.threats import Threat


class Watched:
    """Another attack, looked at after each of its moves. For data in [0, 1] and one budget per example.

    Attributes:
        farthest: how far outside ball or box it went, in eps (L0: features, by its budget); with a budget of 0, how
            far it moved.
        draws: whether a global random state was another one after a move.
        rewrites: whether it changed the clean points, which it must only read.
    """

    def __init__(self, attack: Attack) -> None:
        self._attack = attack
        self.name, self.loss, self.uses_gradients = attack.name, attack.loss, attack.uses_gradients
        self.n_steps, self.n_restarts = attack.n_steps, attack.n_restarts
        self.n_targets, self.first_target = attack.n_targets, attack.first_target
        self.roams, self.evidence = attack.roams, attack.evidence
        self.farthest, self.draws, self.rewrites = 0.0, False, False

    def wants_gradient(self, live: Live) -> Tensor | None:
        return self._attack.wants_gradient(live)

    def begin(self, threat: Threat, live: Live) -> None:
        self._watch(threat, live, lambda: self._attack.begin(threat, live))

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        self._watch(threat, live, lambda: self._attack.update(threat, live, loss, grad))

    def _watch(self, threat: Threat, live: Live, move: Callable[[], None]) -> None:
        clean, states, eps = live.region.origin.clone(), random_states(), float(threat.budget)
        move()
        if not self.roams:  # what lies outside counts for nothing then
            self.farthest = max(self.farthest, float(excess(threat.norm, eps, clean, live.x).max()) / (eps or 1))
        self.draws |= random_states() != states
        self.rewrites |= not torch.equal(live.region.origin, clean)
