"""What a random model says at a point: the vote of many draws, with a test against luck."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from pytest_robust.evaluation.passes import Passes

FEW, MANY = 20, 200
"""Draws of a vote: few where they leave no doubt, else many."""
_WRONG = {1: 1, FEW: 18, MANY: 117}
"""How many draws must be wrong for a point to count as broken, by a one-sided binomial test against one half: 18 of 20 or
more come with probability 0.0002, 117 of 200 or more with 0.0097. So a point at which no more than half of all draws are
wrong passes for broken with a probability below 1 %. A model that is not random has one vote."""
_RIGHT = 4
"""How many of few may be wrong for the point to count as right without asking many: as few come with probability 0.006."""


@dataclass(frozen=True)
class Ballot:
    """The votes at one point: how many are wrong, of how many, and the class that most of the wrong name, else of all."""

    wrong: int
    of: int
    predicted: int

    @property
    def broken(self) -> bool:
        """More than half of all draws are wrong, beyond what luck explains."""
        return self.wrong >= _WRONG[self.of]

    @property
    def contested(self) -> bool:
        """More than half of these draws are wrong, but luck could explain it."""
        return not self.broken and 2 * self.wrong > self.of

    @property
    def right(self) -> bool:
        """More than half of these draws are right."""
        return 2 * self.wrong < self.of


def vote(
    passes: Passes, x: Tensor, context: dict[str, Tensor], broken: Callable[[Tensor, Tensor], Tensor], goal: Tensor
) -> Ballot:
    """The ballot at one point, by fresh passes of its own; of a model that is not random, one pass.

    Args:
        x: (1, ...). context: of ``x``. broken, goal: as of an objective, for one example. Logits that are not finite break
            nothing.
    """

    def count(logits: Tensor) -> Ballot:
        wrong = broken(logits, goal) & logits.isfinite().all(1)
        named = logits[wrong] if bool(wrong.any()) else logits
        return Ballot(int(wrong.sum()), len(logits), int(named.argmax(1).mode().values))

    if not passes.random:
        return count(passes.logits(x, context))
    ballot = count(passes.votes(x, context, range(FEW)))
    if _RIGHT < ballot.wrong < _WRONG[FEW]:
        ballot = count(passes.votes(x, context, range(MANY)))
    return ballot
