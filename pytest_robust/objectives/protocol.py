"""What the engine asks of an objective."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Objective(Protocol):
    """What "broken" means, and the losses that drive towards it. Shapes: logits (B, C), labels and goals (B,)."""

    @property
    def name(self) -> str: ...
    def goal(self, labels: Tensor) -> Tensor:
        """The class that the attack is about."""
        ...

    def attackable(self, labels: Tensor) -> Tensor:
        """Bool: examples at which the attack has something to do."""
        ...

    def broken(self, logits: Tensor, goal: Tensor) -> Tensor:
        """Bool: the attack has succeeded."""
        ...

    def margin(self, logits: Tensor, goal: Tensor) -> Tensor:
        """(B,) signed distance of the logits to the decision: negative while the attack has not succeeded."""
        ...

    def rivals(self, logits: Tensor, goal: Tensor, most: int) -> Tensor:
        """(B, R) classes worth driving towards, most promising first."""
        ...

    def divergence(self, logits: Tensor, clean: Tensor) -> Tensor:
        """(B,) how far the prediction is from that of the clean logits, whatever the goal; zero where it is the same."""
        ...

    def loss(self, name: str, logits: Tensor, goal: Tensor, rival: Tensor) -> Tensor:
        """(B,) losses to be maximised."""
        ...
