"""What searches by random queries have in common."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_robust.attacks.checks import checked_counts, checked_loss
from pytest_robust.attacks.protocol import BaseAttack


@dataclass(frozen=True)
class Queries(BaseAttack):
    """A search that asks the model for outputs only, a point at a time.

    Attributes:
        loss: ``"margin"``, ``"ce"`` or ``"dlr"``. n_steps: queries of the model per run. n_restarts: runs.
        label: the name in reports; another name has other random numbers.
    """

    loss: str = "margin"
    n_steps: int = 1000
    n_restarts: int = 1
    label: str = "queries"

    uses_gradients = False

    def __post_init__(self) -> None:
        checked_counts(n_steps=self.n_steps, n_restarts=self.n_restarts)
        checked_loss(self.loss, targeted=False)

    @property
    def name(self) -> str:
        return self.label
