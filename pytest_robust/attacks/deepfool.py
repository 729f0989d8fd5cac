"""DeepFool: steps just long enough to cross the linearised boundary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_robust.attacks.checks import checked_counts
from pytest_robust.attacks.live import Live
from pytest_robust.attacks.protocol import BaseAttack
from pytest_robust.threats import Threat

_OVERSHOOT = 0.02
"""How much farther than the linearised boundary a step goes, as in the paper."""


@dataclass(frozen=True)
class DeepFool(BaseAttack):
    """DeepFool (Moosavi-Dezfooli et al., CVPR 2016, algorithm 2) inside the region, towards one rival at a time.

    The paper takes the rival whose linearised boundary is nearest, anew at each step; here each rival has a run of its own.
    How long the step to that boundary is, is found in every norm alike: a step of one radius gains
    ``<gradient, step>``, and a shorter one gains at least its share of that.

    Attributes:
        n_steps: steps at most per rival. n_targets: so many of the most promising rivals, in turn.
    """

    n_steps: int = 50
    n_targets: int = 9

    name = "deepfool"
    loss = "margin-t"

    def __post_init__(self) -> None:
        checked_counts(n_steps=self.n_steps, n_targets=self.n_targets)

    def begin(self, threat: Threat, live: Live) -> None:
        live.x = live.region.origin

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        whole = torch.ones(len(live), device=live.x.device, dtype=live.x.dtype)
        farthest = threat.step(live.x, grad, whole, live.region)
        gain = (grad * (farthest - live.x)).flatten(1).sum(1)
        share = -(1 + _OVERSHOOT) * loss / torch.where(gain > 0, gain, 1.0)
        # Where the boundary is out of reach the whole step is the best there is.
        share = torch.where((gain > 0) & (share < 1), share.clamp_min(0), 1.0).to(live.x.dtype)
        live.x = threat.step(live.x, grad, share, live.region)
