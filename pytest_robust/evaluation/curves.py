"""Robust accuracy at every budget, in one run: for each example a bisection over the budgets."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import torch

from pytest_robust.attacks import Attack
from pytest_robust.budget import Budget, Number
from pytest_robust.evaluation.preflight import check_grain
from pytest_robust.evaluation.prepare import Prepared, opened
from pytest_robust.evaluation.progress import Report
from pytest_robust.evaluation.rate import Rate
from pytest_robust.evaluation.result import CLEAN, Cost, Evaluation, Health, HealthCheck, Stage, Weakest, add_stage
from pytest_robust.evaluation.tally import Break, Tally
from pytest_robust.evaluation.units import measured_alike
from pytest_robust.evaluation.verify import verified
from pytest_robust.evaluation.weakest import shrunk, weakest
from pytest_robust.levels import LEVELS
from pytest_robust.models import NonDifferentiable, Normalize
from pytest_robust.objectives import Objective
from pytest_robust.threats import Threat

_PARTS = 8
"""Budgets where none are named: so many equal parts of eps."""


@dataclass(frozen=True)
class Curve:
    """Robust accuracy at each of several budgets, and for each example the smallest change found that breaks it.

    Attributes:
        budgets: the smallest first. evaluations: one for each; all have the health and the cost of the whole curve.
        distances: (n,) norm of the smallest verified change that breaks the example; 0 where it is wrong without attack,
            inf where it survived the largest budget. Upper bounds, as every robust accuracy is.
        stages: what each attack found at all budgets together.
    """

    budgets: tuple[Budget, ...]
    evaluations: tuple[Evaluation, ...]
    distances: npt.NDArray[np.float64]
    stages: tuple[Stage, ...] = field(repr=False)
    _weakest: tuple[Weakest, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.budgets)

    @property
    def ids(self) -> tuple[str, ...]:
        return self.evaluations[-1].ids

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        return self.evaluations[-1].labels

    @property
    def witnesses(self) -> Mapping[int, torch.Tensor]:
        """For each example broken at all, the verified adversarial example of smallest norm, on the CPU."""
        return self.evaluations[-1].witnesses

    @property
    def health(self) -> Health:
        """Of all rounds of the bisection: of each finding the worst. It counts at every budget."""
        return self.evaluations[-1].health

    @property
    def cost(self) -> Cost:
        return self.evaluations[-1].cost

    @property
    def passes(self) -> npt.NDArray[np.int64]:
        """(n,) forward and backward passes of the attacks on each example."""
        return self.evaluations[-1].passes

    @property
    def clean_accuracy(self) -> Rate:
        """Accuracy without attack."""
        return self.evaluations[-1].clean_accuracy

    def at(self, eps: Number | Budget) -> Evaluation:
        """The evaluation at one of the budgets.

        Raises:
            LookupError: it is none of them; between two of them nothing was attacked.
        """
        budget = Budget.parse(eps)
        known = zip(self.budgets, self.evaluations, strict=True)
        found = next((e for other, e in known if other.is_that(budget)), None)
        if found is None:
            named = ", ".join(map(str, self.budgets))
            raise LookupError(f"eps {budget} is no budget of this curve, which has {named}; name it in budgets=[...]")
        return found

    def accuracy_at(self, eps: Number | Budget) -> Rate:
        """Robust accuracy at one of the budgets; at 0 the accuracy without attack.

        Raises:
            LookupError: it is none of them.
        """
        return self.clean_accuracy if Budget.parse(eps).value == 0 else self.at(eps).accuracy

    def points(self) -> tuple[tuple[Budget, Rate], ...]:
        """Each budget with the robust accuracy there, the smallest budget first."""
        return tuple((budget, e.accuracy) for budget, e in zip(self.budgets, self.evaluations, strict=True))

    def weakest(self, k: int = 1) -> tuple[Weakest, ...]:
        """The ``k`` examples that the smallest changes break, the smallest first; fewer where fewer were broken."""
        return self._weakest[:k]


def curve(
    model: object,
    data: object,
    threat: Threat,
    *,
    budgets: Sequence[Number | Budget] | None = None,
    objective: Objective | None = None,
    profile: str = "standard",
    attacks: Sequence[str | Attack] | str | Attack | None = None,
    n: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    device: str = "auto",
    classes: Sequence[str] | None = None,
    normalize: Normalize | None = None,
    non_differentiable: NonDifferentiable | None = None,
    waive: Mapping[str, str] | None = None,
    autocast: bool = False,
    name: str = "curve",
    progress: Report | None = None,
) -> Curve:
    """Attack a model on data at every budget up to the threat's, and say what survived at each.

    What breaks an example within a budget lies within every larger one, so each example is attacked by bisection: at the
    middle budget with the whole schedule, then, as it breaks or survives, below or above. Of ``m`` budgets that takes about
    log2(m + 1) evaluations. An example that survives a budget is taken to survive the smaller ones.

    Args:
        threat: the largest budget, and all else that limits the attack.
        budgets: those of the curve, none above the threat's; eight equal parts of it when left out.
        model, data, objective, profile, attacks, n, seed, batch_size, device, classes, normalize, non_differentiable, waive,
            autocast, name, progress: see ``evaluate``. There is no floor to stop at early: every example is decided.

    Raises:
        PreflightError, ModelError, ThreatError: see ``evaluate``. ValueError: an argument cannot be used.
    """
    typed = None if budgets is None else [Budget.parse(eps) for eps in budgets]
    with opened(
        model,
        data,
        threat,
        objective=objective,
        profile=profile,
        attacks=attacks,
        n=n,
        seed=seed,
        batch_size=batch_size,
        device=device,
        classes=classes,
        normalize=normalize,
        non_differentiable=non_differentiable,
        waive=waive,
        draws=None,
        autocast=autocast,
    ) as known:
        named = None if typed is None else [measured_alike(b, threat, known.adapted, known.examples) for b in typed]
        threats = [known.threat.with_eps(budget) for budget in _budgets(known.threat, named)]
        known = replace(known, threat=threats[-1])
        check_grain(known.adapted, known.encoded, threats[0])
        bisection = _Bisection(known.preflighted(), threats, name, progress)
        bisection.run()
        return bisection.curve(profile)


def _budgets(threat: Threat, named: Sequence[Budget] | None) -> list[Budget]:
    """In ascending order.

    Raises:
        ValueError: none, one that is 0, or one above the threat's.
    """
    largest = threat.budget
    if named is None:
        parts = [largest.part(Fraction(i, _PARTS)) for i in range(1, _PARTS + 1)]
        if threat.norm == "l0":  # features are counted
            parts = [Budget.parse(k) for k in dict.fromkeys(-(-part.value // 1) for part in parts)]
        named = [part for part in parts[:-1] if part.value < largest.value] + [largest]
    budgets = sorted(set(named), key=lambda budget: budget.value)
    if not budgets or budgets[0].value == 0:
        raise ValueError("a curve needs budgets above 0; accuracy without attack is part of every curve")
    if budgets[-1].value > largest.value:
        raise ValueError(f"budget {budgets[-1]} is above the threat's own, {largest}; give the threat the largest eps")
    return budgets


class _Bisection:
    """Between which budgets each example breaks, as far as is known."""

    def __init__(self, ready: Prepared, threats: Sequence[Threat], name: str, progress: Report | None) -> None:
        self.ready, self.threats, self.name, self.progress = ready, threats, name, progress
        self.values = [threat.budget.value for threat in threats]
        self.breaks: dict[int, Break] = {}
        self.checks: list[HealthCheck] = []
        self.stages: dict[str, Stage] = {}
        n = len(ready.encoded)
        self.passes = np.zeros(n, dtype=np.int64)
        self._survived = np.full(n, -1)  # the largest budget survived, by its place; -1: none
        self._broken = np.full(n, len(threats))  # the smallest at which it breaks; their number: none

    def run(self) -> None:
        """Every example to the end, a round at a time: each is attacked at the middle of the budgets still open to it."""
        while rows := self._open():
            self._attack(rows)
        self._shrink()

    def curve(self, profile: str) -> Curve:
        ready, health = self.ready, self.ready.health(_worst(self.checks))
        hits = self._hits()
        cost, top = ready.cost(), ready.subjects()
        attacks = tuple(dict.fromkeys([*(step.attack.name for step in ready.steps), *self.stages]))
        evaluations = []
        for place, threat in enumerate(self.threats):
            there = {row: self.breaks[row] for row in hits if self._broken[row] <= place}
            correct, predicted = ready.found.correct.numpy(), ready.found.predicted.numpy().copy()
            broken_by: list[str | None] = [None if right else CLEAN for right in correct]
            for row, found in there.items():
                broken_by[row], predicted[row] = found.attack, found.predicted
            evaluations.append(
                Evaluation(
                    **ready.facts(),
                    name=f"{self.name}@{threat.budget}",
                    threat=ready.summary(threat),
                    profile=profile,
                    attacks=attacks,
                    robust=np.array([by is None for by in broken_by]),
                    broken_by=tuple(broken_by),
                    predicted=predicted,
                    floor=None,
                    bound="exact",
                    stages=(),
                    health=health,
                    cost=cost,
                    notes=(
                        *ready.notes,
                        f"one of {len(self.threats)} budgets of a curve; cost and health are of all together",
                    ),
                    witnesses={row: found.witness for row, found in sorted(there.items())},
                    weakest=next((weakest(top, threat, (row, there[row])) for row in hits if row in there), None),
                    passes=self.passes,
                )
            )
        distances = np.where(ready.found.correct.numpy(), np.inf, 0.0)
        for row, found in self.breaks.items():
            distances[row] = found.distance
        nearest = filter(None, (weakest(top, self.threats[-1], (row, self.breaks[row])) for row in hits))
        budgets = tuple(threat.budget for threat in self.threats)
        return Curve(budgets, tuple(evaluations), distances, tuple(self.stages.values()), tuple(nearest))

    def _hits(self) -> list[int]:
        """The examples broken, from the smallest change to the largest."""
        ids = self.ready.encoded.ids
        return sorted(self.breaks, key=lambda row: (self.breaks[row].distance, ids[row], row))

    def _open(self) -> list[int]:
        """Rows that are right without attack, and between whose bounds lies a budget."""
        undecided = self.ready.found.correct.numpy() & (self._broken - self._survived > 1)
        return [int(row) for row in undecided.nonzero()[0]]

    def _middle(self, row: int) -> int:
        """The place of the budget in the middle of those still open to it."""
        return int(self._survived[row] + self._broken[row]) // 2

    def _break(self, row: int, found: Break) -> None:
        """A verified adversarial example: it counts at every budget that its own norm is within."""
        if row not in self.breaks or found.distance < self.breaks[row].distance:
            self.breaks[row] = found
        self._broken[row] = min(int(self._broken[row]), bisect_left(self.values, Fraction(found.distance)))
        # An attack at that budget may have missed it.
        self._survived[row] = min(self._survived[row], self._broken[row] - 1)

    def _attack(self, rows: Sequence[int]) -> None:
        """One round: the whole schedule, and a look at whether it could work."""
        ready, middle = self.ready, {row: self._middle(row) for row in rows}
        under = torch.zeros_like(ready.found.correct)
        under[list(rows)] = True
        tally = Tally(under, ready.found.predicted, None, early=False)
        subjects = ready.subjects({row: self.threats[place] for row, place in middle.items()})
        run = ready.run(self.name, subjects, tally, self.progress)
        run.attack()
        self.checks += run.health(ready.found.logits)
        self.passes += run.spent
        for stage in run.stages:
            add_stage(self.stages, stage)
        for row in rows:
            if row in tally.breaks:
                self._break(row, tally.breaks[row])
            else:
                self._survived[row] = middle[row]

    def _shrink(self) -> None:
        """Every adversarial example towards its clean point, as far as the model stays broken."""
        subjects, passes = self.ready.subjects(), self.ready.passes
        size = passes.most
        for group in subjects.examples.groups(sorted(self.breaks)):
            for start in range(0, len(group), size):
                rows = group[start : start + size]
                known = subjects.put(torch.stack([self.breaks[row].witness for row in rows]))
                points = shrunk(subjects, passes, rows, known)
                judged = verified(subjects, passes, rows, points, [self.breaks[row].attack for row in rows])
                for row, found in zip(rows, judged, strict=True):
                    if found is not None:
                        self._break(row, found)


def _worst(checks: Iterable[HealthCheck]) -> list[HealthCheck]:
    """Of the findings of each name the first of the worst level."""
    worst: dict[str, HealthCheck] = {}
    for check in checks:
        if check.name not in worst or LEVELS.index(check.level) > LEVELS.index(worst[check.name].level):
            worst[check.name] = check
    return list(worst.values())
