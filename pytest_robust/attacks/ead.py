"""Elastic net: few features by shrinkage."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_robust.attacks.checks import checked_counts, checked_loss
from pytest_robust.attacks.live import Live
from pytest_robust.attacks.nearest import extent, weight
from pytest_robust.attacks.pgd import started
from pytest_robust.attacks.protocol import BaseAttack
from pytest_robust.threats import Threat


@dataclass(frozen=True)
class EAD(BaseAttack):
    """Elastic-net attack (Chen et al., AAAI 2018, algorithm 1): ``shrinkage * |d|_1 + |d|_2^2 - weight * margin`` by FISTA.

    ``d`` is the change in units of the region's size. Each step ends with the shrinkage, which leaves features that matter
    little where they are, and with the projection on the region.

    Attributes:
        loss: ``"margin"``, or with ``n_targets`` ``"margin-t"``; any other loss works, too.
        n_steps: gradient steps per run. n_restarts: runs; the first starts at the clean point.
        weight: of the loss at the beginning of a run; in the end it is a hundred times as much.
        shrinkage: weight of the L1 norm (beta in the paper).
        rate: length of the first step per gradient; it falls to 0 like a square root.
        n_targets: drive towards so many of the most promising other classes, in turn. 0: no target.
    """

    loss: str = "margin"
    n_steps: int = 100
    n_restarts: int = 1
    weight: float = 0.5
    shrinkage: float = 0.01
    rate: float = 0.1
    n_targets: int = 0

    name = "ead"

    def __post_init__(self) -> None:
        checked_counts(n_steps=self.n_steps, n_restarts=self.n_restarts)
        checked_loss(self.loss, targeted=self.n_targets > 0)

    def begin(self, threat: Threat, live: Live) -> None:
        live.x = started(threat, live, always=False)
        live.state = {"settled": live.x, "extent": torch.ones_like(live.closest, dtype=live.x.dtype)}

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        state, rows, region = live.state, live.rows, live.region
        state["extent"] = torch.where(live.step == 0, extent(threat, live, grad), state["extent"])
        size, step = rows(state["extent"]), live.step.to(live.x.dtype)
        rate = rows(self.rate * (1 - step / self.n_steps).sqrt())
        change = (live.x - region.origin) / size
        factor = rows(weight(self.weight, step / self.n_steps))
        change = change - rate * (2 * change - factor * size * grad)
        change = change.sign() * (change.abs() - rate * self.shrinkage).clamp_min(0)
        settled = threat.project(region.origin + size * change, region)
        ahead = settled + rows(step / (step + 3)) * (settled - state["settled"])
        state["settled"], live.x = settled, threat.project(ahead, region)
