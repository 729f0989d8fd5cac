"""Saliency maps: one feature after the other, the most telling first."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_robust.attacks.checks import checked_counts
from pytest_robust.attacks.live import Live
from pytest_robust.attacks.protocol import BaseAttack
from pytest_robust.errors import ThreatError
from pytest_robust.threats import Threat


@dataclass(frozen=True)
class JSMA(BaseAttack):
    """Jacobian-based saliency map attack (Papernot et al., EuroS&P 2016, algorithm 3), towards one rival at a time.

    At each step the most salient feature goes to its bound: that by which the linearised margin towards the rival rises
    most. It may be moved up or down, and may take the place of one that was moved before and is worth less by now.

    Attributes:
        n_steps: steps per rival; where the threat allows more features, several go at a time. n_targets: so many of the most
            promising rivals, in turn.
    """

    n_steps: int = 40
    n_targets: int = 9

    name = "jsma"
    loss = "margin-t"

    def __post_init__(self) -> None:
        checked_counts(n_steps=self.n_steps, n_targets=self.n_targets)

    def begin(self, threat: Threat, live: Live) -> None:
        if threat.norm != "l0":
            raise ThreatError(
                f"jsma counts the features that it changes, and {threat.norm} does not limit their number: "
                "use it under L0(k), and deepfool or cw under other norms"
            )
        live.x = live.region.origin

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        share = torch.full((len(live),), 1 / self.n_steps, device=live.x.device, dtype=live.x.dtype)
        live.x = threat.step(live.x, grad, share, live.region)
