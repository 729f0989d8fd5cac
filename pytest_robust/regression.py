"""Has an accuracy, or a mean, dropped? Two evaluations of the same examples, judged by an interval of the paired difference.

Plain arithmetic without torch, numpy and scipy: whoever only gathers verdicts need not import them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

ComparisonVerdict = Literal["pass", "inconclusive", "new", "missing", "incomparable", "regressed"]
VERDICTS: tuple[ComparisonVerdict, ...] = ("pass", "inconclusive", "new", "missing", "incomparable", "regressed")
"""From best to worst."""

ACCURACY = "accuracy"
"""The metric of a check that counts examples; others are means of a value of each text."""
ALIKE = ("overlap@10", "rbo", "top-1", "consistency")
"""Metrics of how much of a result edits leave: 1 without edits by definition, so there nothing is compared."""

REPLAY = "replay"
"""How reports call what broke an example again that an earlier run had found."""

_POWER = 0.8
"""Of the comparison for which ``Change.deciding`` counts examples."""


@dataclass(frozen=True)
class Paired:
    """How the outcomes of ``n`` examples changed: right before and wrong now, the other way round, or not at all.

    Raises:
        ValueError: counts that cannot be.
    """

    n: int
    newly_broken: int
    newly_robust: int

    def __post_init__(self) -> None:
        if self.n < 1 or min(self.newly_broken, self.newly_robust, self.n - self.newly_broken - self.newly_robust) < 0:
            raise ValueError(
                f"{self.newly_broken} newly broken and {self.newly_robust} newly robust of {self.n} examples cannot be"
            )

    @property
    def drop(self) -> float:
        """Old accuracy minus new, as a fraction."""
        return (self.newly_broken - self.newly_robust) / self.n

    @property
    def flip_rate(self) -> float:
        """The share of examples whose outcome changed."""
        return (self.newly_broken + self.newly_robust) / self.n

    def interval(self, confidence: float = 0.90) -> tuple[float, float]:
        """Two-sided score interval of the drop, the difference of paired proportions (Tango, Stat. Med. 17, 1998).

        Of Tango's statistic, the drop minus a supposed one by its standard error under that supposition, it holds all
        supposed drops at which it is at most ``z``. Neither 0 nor ``n`` changes are a special case.

        Raises:
            ValueError: confidence is no probability between 0 and 1.
        """
        z = _deviate(confidence)
        # The lower limit of a drop is minus the upper limit of the rise.
        return -_upper(self.newly_robust, self.newly_broken, self.n, z), _upper(
            self.newly_broken, self.newly_robust, self.n, z
        )

    def unchanged(self, margin: float, z: float) -> int:
        """So many examples pass where none changes: there the upper limit is z^2 / (n + z^2)."""
        return math.floor(z**2 * (1 - margin) / margin) + 1

    @property
    def p_value(self) -> float:
        """One-sided, of "there is no drop": Tango's statistic at 0, which is McNemar's. Half of it lies above no change.

        The lower limit of ``interval(confidence)`` is above 0 where this is below (1 - confidence) / 2.
        """
        changed = self.newly_broken + self.newly_robust
        statistic = (self.newly_broken - self.newly_robust) / math.sqrt(changed) if changed else 0.0
        return math.erfc(statistic / math.sqrt(2)) / 2


@dataclass(frozen=True)
class PairedMeans:
    """How a value from 0 to 1 of each of ``n`` texts changed.

    Attributes:
        newly_broken, newly_robust: texts whose value fell, and rose.
        drop: old mean minus new. flip_rate: the mean square of a difference; of values 0 and 1 the share that changed.

    Raises:
        ValueError: figures that cannot be.
    """

    n: int
    newly_broken: int
    newly_robust: int
    drop: float
    flip_rate: float

    def __post_init__(self) -> None:
        changed = self.newly_broken + self.newly_robust
        if self.n < 1 or not 0 <= changed <= self.n or not self.drop**2 - 1e-9 <= self.flip_rate <= 1:
            raise ValueError(f"{self} cannot be")

    @classmethod
    def of(cls, pairs: Sequence[tuple[float, float]]) -> PairedMeans:
        """Of the old and the new value of each text."""
        falls = [old - new for old, new in pairs]
        return cls(
            len(falls),
            sum(fall > 0 for fall in falls),
            sum(fall < 0 for fall in falls),
            math.fsum(falls) / len(falls),
            math.fsum(fall * fall for fall in falls) / len(falls),
        )

    def interval(self, confidence: float = 0.90) -> tuple[float, float]:
        """Two-sided interval of the drop: Student's, each limit with one text more than there is.

        Values that do not vary say nothing of those not seen. So the upper limit counts one more text that lost all it
        could, and a drop is not ruled out by few texts that are alike; the lower limit one that gained all it could, and
        none is proved by them. Without any change it is about Tango's interval for as many examples.

        Raises:
            ValueError: confidence is no probability between 0 and 1.
        """
        student = _student(_deviate(confidence), self.n)
        (low, low_error), (high, high_error) = self._with(-1), self._with(1)
        return max(-1.0, low - student * low_error), min(1.0, high + student * high_error)

    @property
    def p_value(self) -> float:
        """One-sided, of "there is no drop", by the statistic of the lower limit."""
        drop, error = self._with(-1)
        z = _normal(abs(drop) / error, self.n)
        return math.erfc(math.copysign(z, drop) / math.sqrt(2)) / 2

    def _with(self, fall: int) -> tuple[float, float]:
        """The mean, and its standard error, with one more text whose value fell by so much."""
        mean = (self.n * self.drop + fall) / (self.n + 1)
        square = (self.n * self.flip_rate + 1) / (self.n + 1)
        # All texts like this one: as little spread as there is in numbers of this kind.
        return mean, math.sqrt(max(1e-12, square - mean * mean) / self.n)

    def unchanged(self, margin: float, z: float) -> int:
        """So many texts pass where none changes: more than (1 + Student's quantile) / margin."""
        n = 1
        while (1 + _student(z, n)) / (n + 1) >= margin:
            n += max(1, n // 64)
        return n


@dataclass(frozen=True)
class Change:
    """What became of one accuracy, or of one mean, and whether it may.

    Attributes:
        paired: how it changed. margin: the drop that would be too much, a fraction. confidence: of the two-sided interval.
        same_model: it is the very same model, so that where nothing is newly broken nothing can have dropped.
        by_chance: among many comparisons such a drop is to be expected (see ``corrected``): it is no regression.
    """

    paired: Paired | PairedMeans
    margin: float
    confidence: float = 0.90
    by_chance: bool = False
    same_model: bool = False

    @property
    def interval(self) -> tuple[float, float]:
        """Of the drop."""
        return self.paired.interval(self.confidence)

    @property
    def verdict(self) -> Literal["pass", "regressed", "inconclusive"]:
        """``pass``: the whole interval is below the margin. ``regressed``: it is above 0, and not below the margin.

        So without a drop one in twenty is called ``regressed`` at most, and at a drop of the margin one in twenty
        ``pass`` (at a confidence of 0.90).
        """
        low, high = self.interval
        if high < self.margin or (self.same_model and not self.paired.newly_broken):
            return "pass"
        return "regressed" if low > 0 and not self.by_chance else "inconclusive"

    @property
    def deciding(self) -> int:
        """So many examples let four of five comparisons pass where nothing has dropped, at the flip rate seen.

        To pass, the drop seen must lie at least ``z`` standard errors below the margin. Where nothing has dropped the
        standard error is sqrt(flip rate / n), and in 80 % of all cases the drop seen is below ``z80`` standard errors. So
        margin = (z + z80) sqrt(flip rate / n), which at a confidence of 0.90 is n = 6.18 flip rate / margin^2. The upper
        limit without any flip must be below the margin, too.
        """
        z, power = (NormalDist().inv_cdf(p) for p in ((1 + self.confidence) / 2, _POWER))
        flips = (z + power) ** 2 * self.paired.flip_rate / self.margin**2
        return max(math.floor(flips) + 1, self.paired.unchanged(self.margin, z))


@dataclass(frozen=True)
class Comparison:
    """A check against its baseline.

    Attributes:
        robust, clean: robust accuracy, and accuracy without attack; None where they cannot be compared.
        unlike: ``"new"`` without a baseline, ``"missing"`` without a result, ``"incomparable"`` where one or both cannot
            be compared; else None.
        reasons: why, in sentences without a full stop. metric: what is compared.
    """

    robust: Change | None = None
    clean: Change | None = None
    unlike: Literal["new", "missing", "incomparable"] | None = None
    reasons: tuple[str, ...] = ()
    metric: str = ACCURACY

    @property
    def verdict(self) -> ComparisonVerdict:
        """The worst of what is known, in the order of ``VERDICTS``."""
        found: list[ComparisonVerdict] = [change.verdict for change in self.changes]
        return max([*found, *([self.unlike] if self.unlike else [])], key=VERDICTS.index)

    @property
    def changes(self) -> tuple[Change, ...]:
        return tuple(change for change in (self.robust, self.clean) if change is not None)

    def __str__(self) -> str:
        """The verdict and all that led to it, in one line."""
        parts = [*self.reasons]
        for name, words, change in (
            ("robust", ("newly broken", "newly robust"), self.robust),
            ("clean", ("newly wrong", "newly right"), self.clean),
        ):
            if change is not None:
                said = words if self.metric == ACCURACY else ("worse", "better")
                parts.append(f"{name} {self.metric} {_told(change, *said)}")
        return f"{self.verdict.upper()}: {'; '.join(parts)}"


def under_schedule(robust: Iterable[float], broken_by: Iterable[str | None]) -> tuple[float, ...]:
    """For each example, right under the attacks of the schedule; of a metric its value, which no attack has a say in.

    What only an adversarial example of an earlier run breaks stands here: another model did not face it.
    """
    return tuple(right or by == REPLAY for right, by in zip(robust, broken_by, strict=True))


def untried(stages: Iterable[str], broken_by: Sequence[str | None]) -> int:
    """How many examples the schedule was not tried on, for an adversarial example of an earlier run broke them first.

    Args:
        stages: names of what was run, in that order.
    """
    return broken_by.count(REPLAY) if next(iter(stages), None) == REPLAY else 0


def holm(p_values: Sequence[float], alpha: float = 0.05) -> list[bool]:
    """Which hypotheses are rejected, so that with probability 1 - alpha none of them is true.

    Holm (Scandinavian Journal of Statistics 6, 1979); valid however the tests depend on each other.

    Raises:
        ValueError: a value outside [0, 1], or alpha outside (0, 1).
    """
    wrong = [p for p in p_values if not 0 <= p <= 1]
    if wrong or not 0 < alpha < 1:
        raise ValueError(f"p-values lie in [0, 1] and alpha in (0, 1), got {wrong[0] if wrong else alpha!r}")
    rejected = [False] * len(p_values)
    for done, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[i] > alpha / (len(p_values) - done):
            break
        rejected[i] = True
    return rejected


def corrected(comparisons: Iterable[Comparison], alpha: float = 0.05) -> list[Comparison]:
    """The checks of one run, so that with probability 1 - alpha none of them is called regressed without a drop.

    Twenty checks of an unchanged model would otherwise regress somewhere more often than not. Holm's procedure runs over all
    accuracies compared, not over the suspicious ones alone, and takes for chance what it does not reject. It only takes
    ``regressed`` back, to ``inconclusive``. That all must pass needs no correction: one wrong pass is not enough for it
    (Berger, Technometrics 24, 1982).
    """
    family = list(comparisons)
    rejected = iter(holm([change.paired.p_value for one in family for change in one.changes], alpha))

    def judged(change: Change | None) -> Change | None:
        return None if change is None else replace(change, by_chance=not next(rejected))

    # In the order of ``changes``.
    return [replace(one, robust=judged(one.robust), clean=judged(one.clean)) for one in family]


def _deviate(confidence: float) -> float:
    """Of the normal distribution, for a two-sided interval. Raises ValueError for what is no probability."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1, got {confidence!r}; 90 % is 0.9")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _normal(t: float, freedom: int) -> float:
    """The normal deviate as far out as ``t`` >= 0 of Student's distribution (Wallace, Ann. Math. Stat. 30, 1959)."""
    return (8 * freedom + 1) / (8 * freedom + 3) * math.sqrt(freedom * math.log1p(t * t / freedom))


def _student(z: float, freedom: int) -> float:
    """The inverse of ``_normal``."""
    far = z * (8 * freedom + 3) / (8 * freedom + 1)
    return math.sqrt(freedom * math.expm1(far * far / freedom))


def _upper(b: int, c: int, n: int, z: float) -> float:
    """The largest supposed drop that ``b`` against ``c`` of ``n`` do not contradict, by bisection."""
    inside, outside = (b - c) / n, 1.0
    # The statistic falls from 0 at the drop seen, so the limit is where it passes -z.
    while inside < (middle := (inside + outside) / 2) < outside:
        if b - c - n * middle + z * math.sqrt(n * _variance(b, c, n, middle)) >= 0:
            inside = middle
        else:
            outside = middle
    return outside


def _variance(b: int, c: int, n: int, drop: float) -> float:
    """Of the change of one example, at the likeliest rates of both changes whose difference is ``drop``.

    With ``q`` the rate of the rarer it is 2 q + drop (1 - drop), and ``q`` solves a quadratic equation (Tango, 1998,
    equation 3).
    """
    if drop < 0:
        b, c, drop = c, b, -drop
    linear, constant = (2 * n - b + c) * drop - b - c, c * drop * (1 - drop)
    root = math.sqrt(linear**2 + 8 * n * constant)
    # Two forms of the positive solution: each without a difference of nearly equal numbers.
    q = (root - linear) / (4 * n) if linear <= 0 else 2 * constant / (root + linear)
    return 2 * q + drop * (1 - drop)


def _told(change: Change, worse: str, better: str) -> str:
    """``fell by 14.7 points (90% CI 12.7 to 16.8, margin 2), regressed: 163 newly broken, 16 newly robust of 1000``."""
    paired, (low, high) = change.paired, change.interval
    way = "rose" if paired.drop < 0 else "fell"
    moved = f"{way} by {100 * abs(paired.drop):.1f} points" if paired.drop else "did not change"
    span = f"{100 * change.confidence:g}% CI of the drop {100 * low:.1f} to {100 * high:.1f}, margin {100 * change.margin:g}"
    counts = f"{paired.newly_broken} {worse}, {paired.newly_robust} {better} of {paired.n}"
    told = f"{moved} ({span}), {change.verdict}: {counts}"
    if change.verdict != "inconclusive":
        return told
    if change.by_chance and low > 0:
        return f"{told}; among so many comparisons that may be chance"
    if change.deciding > paired.n:
        return f"{told}; about {change.deciding} examples would decide"
    return f"{told}; enough examples if nothing had dropped: there may be a drop close to the margin"
