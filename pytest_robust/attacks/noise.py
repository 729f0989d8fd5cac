"""Random points: what a model should stand without any attack."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pytest_robust import keyed
from pytest_robust.attacks.checks import checked_counts
from pytest_robust.attacks.live import Live
from pytest_robust.attacks.protocol import BaseAttack
from pytest_robust.threats import Threat


@dataclass(frozen=True)
class Noise(BaseAttack):
    """A new random point of the region at every step. It shows what chance alone breaks; surviving it is no evidence.

    Attributes:
        n_steps: random points.
    """

    n_steps: int = 20

    name = "noise"
    uses_gradients = False
    evidence = False

    def __post_init__(self) -> None:
        checked_counts(n_steps=self.n_steps)

    def begin(self, threat: Threat, live: Live) -> None:
        live.x = threat.start(live.region, live.key)

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        live.x = threat.start(live.region, keyed.child(live.key, live.step))
