"""Virtual adversarial points: where the prediction changes most, whatever the label."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_robust.attacks.checks import checked_counts
from pytest_robust.attacks.live import Live
from pytest_robust.attacks.protocol import BaseAttack
from pytest_robust.threats import Threat

_STRIDE = 0.05
"""Length of the step on which the divergence is differentiated, as a share of the radius (xi in the paper)."""


@dataclass(frozen=True)
class VAT(BaseAttack):
    """Virtual adversarial direction (Miyato et al., ICLR 2016): power iteration on the divergence.

    Close to the clean point the Kullback-Leibler divergence is quadratic, and its gradient a step away is that step
    times the Hessian. After some iterations the step has the direction of the dominant eigenvector, up to its sign: the last
    two points are the region's best for it and for its opposite. The label is unknown, and the points are few: surviving
    them is no evidence.

    Attributes:
        n_iterations: power iterations per run. n_restarts: runs from different directions.
    """

    n_iterations: int = 5
    n_restarts: int = 1

    name = "vat"
    loss = "divergence"
    evidence = False

    def __post_init__(self) -> None:
        checked_counts(n_iterations=self.n_iterations, n_restarts=self.n_restarts)

    @property
    def n_steps(self) -> int:
        """The iterations, and the first of the two sides."""
        return self.n_iterations + 1

    def begin(self, threat: Threat, live: Live) -> None:
        origin = live.region.origin
        live.x = origin + _STRIDE * (threat.start(live.region, live.key) - origin)
        live.state = {"direction": torch.zeros_like(live.x)}

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        iterating = live.rows(live.step < self.n_iterations)
        direction = torch.where(iterating, grad, -live.state["direction"])
        near = threat.step(live.region.origin, direction, torch.full_like(loss, _STRIDE).to(grad.dtype), live.region)
        last = live.rows(live.step >= self.n_iterations - 1)
        live.x = torch.where(last, threat.maximise(direction, live.region), near)
        live.state["direction"] = direction
