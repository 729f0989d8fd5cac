"""The outcome of every example so far, and whether the verdict is already certain."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import numpy as np
from torch import Tensor

from pytest_robust.evaluation.result import CLEAN, UNDECIDED


class Tally:
    """Counts what is broken and what has survived the whole schedule.

    Attributes:
        broken_by: per example: an attack's name, ``"clean"``, or None while it stands.
        witnesses: per broken example the verified adversarial point, on the CPU. predicted: the class predicted there.
    """

    def __init__(self, correct: Tensor, predicted: Tensor, floor: Fraction | None, *, early: bool) -> None:
        self.broken_by: list[str | None] = [None if right else CLEAN for right in correct.tolist()]
        self.predicted = predicted.numpy().astype(np.int64)
        self.witnesses: dict[int, Tensor] = {}
        self.survived: set[int] = set()
        self._standing = int(correct.sum())
        # The smallest count that meets the floor, exact.
        self._needed = None if floor is None or not early else -(-floor.numerator * len(correct) // floor.denominator)

    @property
    def standing(self) -> int:
        """How many examples are right so far."""
        return self._standing

    def broke(self, row: int, attack: str, witness: Tensor, predicted: int) -> None:
        self.broken_by[row] = attack
        self.witnesses[row] = witness
        self.predicted[row] = predicted
        self._standing -= 1

    def rows_standing(self) -> list[int]:
        return [row for row, by in enumerate(self.broken_by) if by is None]

    @property
    def bound(self) -> Literal["exact", "upper", "lower"]:
        """``"upper"`` when the floor can no longer be met, ``"lower"`` when enough have survived everything.

        ``"exact"`` while neither is certain, or nothing is left undecided.
        """
        if self._needed is None or len(self.survived) == self._standing:
            return "exact"
        if self._standing < self._needed:
            return "upper"
        return "lower" if len(self.survived) >= self._needed else "exact"

    @property
    def certain(self) -> bool:
        return self.bound != "exact"

    def final(self) -> tuple[list[str | None], np.ndarray[tuple[int], np.dtype[np.bool_]]]:
        """``broken_by`` with the undecided named, and who counts as robust under the bound."""
        bound = self.bound
        open_ = {row for row in self.rows_standing() if row not in self.survived} if bound != "exact" else set()
        by = [UNDECIDED if row in open_ else name for row, name in enumerate(self.broken_by)]
        robust = [name is None or (name == UNDECIDED and bound == "upper") for name in by]
        return by, np.array(robust, dtype=np.bool_)
