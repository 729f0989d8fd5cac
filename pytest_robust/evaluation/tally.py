"""The outcome of every example so far, and whether the verdict is already certain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from torch import Tensor

from pytest_robust.evaluation.result import CLEAN, UNDECIDED, Bound
from pytest_robust.evaluation.sequential import ConfidenceSequence, Sample


@dataclass(frozen=True)
class Break:
    """A verified adversarial example.

    Attributes:
        attack: the one that found it. witness: the point, on the CPU. predicted: the class there.
        distance: of the point from the clean one, in the norm of the threat.
    """

    attack: str
    witness: Tensor
    predicted: int
    distance: float


class Tally:
    """Counts what is broken and what has survived the whole schedule.

    Outcomes arrive in any order, as examples share batches; they count in the order of the stage. So what has counted
    when the verdict becomes certain does not depend on the size of the batches.

    Attributes:
        broken_by: per example: an attack's name, ``"clean"``, or None while it stands.
        breaks: per example that attacks broke, how. predicted: the class there; the clean prediction where there is none.
        survived: rows that outlived the last stage. needed: how many must, None without a floor.
        doubtful: rows at which the attacks may not have worked: surviving makes no verdict certain there.
        sequence: where a sample may decide, what it says about all examples that are right without attack.
        sample: the last look at it. drawn: rows whose turn has come.
        told: what the stage has made of rows so far, counted or not.
    """

    def __init__(
        self, correct: Tensor, predicted: Tensor, floor: Fraction | None, *, early: bool, confidence: float | None = None
    ) -> None:
        """
        Args:
            correct: (n,) bool, right without attack. predicted: (n,) classes without attack. floor: of robust accuracy.
            early: stop when the verdict is certain. confidence: with which a sample makes it so; None: only counts do.
        """
        self.broken_by: list[str | None] = [None if right else CLEAN for right in correct.tolist()]
        self.predicted = predicted.numpy().astype(np.int64)
        self.breaks: dict[int, Break] = {}
        self.survived: set[int] = set()
        self.doubtful: set[int] = set()
        self.standing = int(correct.sum())
        # The smallest count that meets the floor, exact.
        self.needed = None if floor is None else -(-floor.numerator * len(correct) // floor.denominator)
        self._early = early
        sampling = early and confidence is not None and self.needed is not None and self.standing > 0
        self.sequence = ConfidenceSequence(self.standing, confidence) if sampling and confidence is not None else None
        self.sample: Sample | None = None
        self.drawn: set[int] = set()
        self._order: Sequence[int] = ()
        self._counted = 0
        self.told: dict[int, Break | None] = {}
        self._last = False

    def draw(self, rows: Sequence[int]) -> None:
        """It is the turn of these rows now, beside those drawn before."""
        self.drawn.update(rows)
        self.sample = None

    def look(self) -> None:
        """What the rows drawn so far, all of them decided, say about the others; doubtful survivors count either way."""
        if self.sequence is not None:
            drawn, survived, doubtful = len(self.drawn), len(self.survived), len(self.survived & self.doubtful)
            least, _ = self.sequence.interval(survived - doubtful, drawn)
            _, most = self.sequence.interval(survived, drawn)
            self.sample = Sample(drawn, survived, self.sequence.total, self.sequence.confidence, least, most)

    def begin(self, order: Sequence[int], *, last: bool) -> None:
        """A stage that attacks these rows, in this order. Who outlives the last stage has survived."""
        self._order, self._counted, self.told, self._last = order, 0, {}, last

    def settle(self, row: int, outcome: Break | None) -> None:
        """What the stage made of an example: a break, or None when it outlived it."""
        self.told[row] = outcome
        while not self.certain and self._counted < len(self._order) and self._order[self._counted] in self.told:
            self._count(self._order[self._counted])
            self._counted += 1

    def reopen(self) -> None:
        """Nobody has survived yet: one more stage follows for all that stand."""
        self.survived.clear()
        self.sample = None

    def revoke(self, row: int, outcome: Break) -> None:
        """A survivor was broken after all, outside the stages."""
        self.survived.discard(row)
        self._break(row, outcome)

    @property
    def witnesses(self) -> dict[int, Tensor]:
        """Per example that attacks broke, the verified adversarial point."""
        return {row: found.witness for row, found in self.breaks.items()}

    @property
    def undecided(self) -> list[int]:
        """Rows drawn that stand and have not survived the last stage."""
        return [row for row in self.rows_standing if row in self.drawn and row not in self.survived]

    @property
    def rows_standing(self) -> list[int]:
        return [row for row, by in enumerate(self.broken_by) if by is None]

    @property
    def outlived(self) -> list[int]:
        """Rows that stand after the latest stage, as far as it has counted."""
        return [row for row in self._order[: self._counted] if self.broken_by[row] is None]

    @property
    def bound(self) -> Bound:
        """``"upper"`` when the floor can no longer be met, ``"lower"`` when enough have survived everything.

        ``"sampled"`` when a sample is enough to say which. ``"exact"`` while none of these holds, or nothing is left
        undecided.
        """
        if self.needed is None or not self._early or len(self.survived) == self.standing:
            return "exact"
        if self.standing < self.needed:
            return "upper"
        if len(self.survived) - len(self.survived & self.doubtful) >= self.needed:
            return "lower"
        sample = self.sample
        return "sampled" if sample is not None and not sample.least < self.needed <= sample.most else "exact"

    @property
    def fails(self) -> bool:
        """Enough is broken for the floor to be missed, whatever is still undecided."""
        sampled = self.bound == "sampled" and self.sample is not None and self.sample.most < (self.needed or 0)
        return sampled or self.bound == "upper"

    @property
    def certain(self) -> bool:
        return self.bound != "exact"

    def final(self) -> tuple[list[str | None], np.ndarray[tuple[int], np.dtype[np.bool_]]]:
        """``broken_by`` with the undecided named, and who counts as robust under the bound."""
        bound = self.bound
        open_ = set(self.rows_standing) - self.survived if bound != "exact" else set()
        by = [UNDECIDED if row in open_ else name for row, name in enumerate(self.broken_by)]
        robust = [name is None or (name == UNDECIDED and bound == "upper") for name in by]
        return by, np.array(robust, dtype=np.bool_)

    def _count(self, row: int) -> None:
        outcome = self.told[row]
        if outcome is not None:
            self._break(row, outcome)
        elif self._last:
            self.survived.add(row)

    def _break(self, row: int, outcome: Break) -> None:
        self.broken_by[row] = outcome.attack
        self.breaks[row] = outcome
        self.predicted[row] = outcome.predicted
        self.standing -= 1
