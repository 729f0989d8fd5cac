"""What an evaluation found, per example; everything else is derived from that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from numbers import Integral
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pytest_robust.data.examples import Text
from pytest_robust.evaluation.rate import Rate
from pytest_robust.evaluation.sequential import Sample
from pytest_robust.levels import LEVELS, Level, believable
from pytest_robust.threats.summary import ThreatSummary

Verdict = Literal["pass", "fail", "report"]
Bound = Literal["exact", "upper", "lower", "sampled"]
CLEAN, UNDECIDED = "clean", "undecided"
"""Values of ``broken_by`` that name no attack: wrong without attack; not decided when the verdict was certain."""


@dataclass(frozen=True)
class HealthCheck:
    """One finding about whether the evaluation itself can be believed."""

    name: str
    level: Level
    detail: str
    waived: str | None = None
    """The reason for which the user set this finding aside; it then no longer counts."""

    def set_aside(self, reasons: Mapping[str, str]) -> HealthCheck:
        """With the user's reason, where there is one and something to set aside."""
        return self if self.level == "trusted" else replace(self, waived=reasons.get(self.name))


@dataclass(frozen=True)
class Health:
    """All findings; the level is the worst of those not waived. It can take a PASS away, never a FAIL."""

    checks: tuple[HealthCheck, ...] = ()

    @property
    def level(self) -> Level:
        return max((c.level for c in self.checks if c.waived is None), key=LEVELS.index, default="trusted")

    @property
    def worst(self) -> HealthCheck | None:
        """The first finding of the worst level, None when there is nothing to say."""
        counted = [c for c in self.checks if c.waived is None]
        return max(counted, key=lambda c: LEVELS.index(c.level), default=None)


@dataclass(frozen=True)
class Cost:
    """Forward and backward passes, one per example and pass, and wall-clock seconds."""

    forward: int
    backward: int
    seconds: float


@dataclass(frozen=True)
class Stage:
    """What one attack of the schedule found for what it spent."""

    attack: str
    attacked: int
    broken: int
    cost: Cost

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Stage:
        """What ``dataclasses.asdict`` made plain."""
        return cls(**{**plain, "cost": Cost(**plain["cost"])})

    def and_more(self, other: Stage) -> Stage:
        """The same attack on these and on other examples."""
        a, b = self.cost, other.cost
        cost = Cost(a.forward + b.forward, a.backward + b.backward, a.seconds + b.seconds)
        return Stage(self.attack, self.attacked + other.attacked, self.broken + other.broken, cost)


def add_stage(stages: dict[str, Stage], stage: Stage) -> None:
    """To ``stages`` by attack: what it did here, added to what the same attack did for other examples."""
    before = stages.get(stage.attack)
    stages[stage.attack] = stage if before is None else before.and_more(stage)


@dataclass(frozen=True)
class Weakest:
    """Of the examples that attacks broke, the one that a smallest change breaks, as far as was looked: an upper bound.

    Attributes:
        index, id, label: the example. predicted: the class at the point found. norm: of the change, in the threat's norm.
        eps: the same, rounded up and written as the budget was typed.
    """

    index: int
    id: str
    label: int
    predicted: int
    norm: float
    eps: str


@dataclass(frozen=True)
class Identity:
    """What an evaluation is of, as digests; None where something cannot be seen through, so that nothing is concluded.

    Attributes:
        attack: of the threat, the objective, the attacks with all their parameters, the seed, and the code. data: of the
            examples, whatever their order. model: of weights, buffers, attributes and source. check: of all of these, and
            of what else has a say in the outcome.
    """

    attack: str | None
    data: str
    model: str | None
    check: str | None


@dataclass(frozen=True)
class Evaluation:
    """The outcome of one check.

    Attributes:
        name: the check's name. model: the model's name. threat, objective, profile, attacks, seed, device: what was run.
        ids: content ids, in data order. labels: (n,) int64. classes: class names where known.
        correct: (n,) bool, right without attack. robust: (n,) bool, right under every attack that was run.
        broken_by: per example the attack that broke it, ``"clean"`` when it was wrong without attack, None when it
            survived, ``"undecided"`` when the verdict was certain before its turn.
        predicted: (n,) int64, the class predicted at the adversarial example; the clean prediction where there is none.
        floor: the accuracy asked for, exact, or None.
        bound: ``"exact"``; ``"upper"`` when stopped because the floor could no longer be met (``robust`` then counts the
            undecided as robust); ``"lower"`` when stopped because it was met for certain (they count as broken);
            ``"sampled"`` when a sample was enough. sample: what it says about all examples, else None.
        passes: (n,) int64, forward and backward passes of the attacks on each example; health is not in it.
        weakest: of the broken, the example that breaks at the smallest norm found; None where attacks broke none.
        identity: what was evaluated, as digests. cached: it was finished before, and not run again.
        shown: by row, the clean and the adversarial input of a few broken examples, (2, ...) each; none for text.
        changed: by row, where texts were edited, each broken text as it was and as it broke the model; the first is that
            of ``weakest``.
        schedule: the attacks asked for, with their parameters. stages: one per attack run. health, cost: see there.
        notes: what the user should know, in sentences.
    """

    name: str
    model: str
    threat: ThreatSummary
    objective: str
    profile: str
    attacks: tuple[str, ...]
    seed: int
    device: str
    ids: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...] | None
    correct: npt.NDArray[np.bool_]
    robust: npt.NDArray[np.bool_]
    broken_by: tuple[str | None, ...]
    predicted: npt.NDArray[np.int64]
    floor: Fraction | None
    bound: Bound
    stages: tuple[Stage, ...]
    health: Health
    cost: Cost
    notes: tuple[str, ...] = ()
    sample: Sample | None = None
    weakest: Weakest | None = None
    identity: Identity | None = None
    cached: bool = False
    schedule: tuple[str, ...] = ()
    passes: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)
    witnesses: Mapping[int, Tensor] = field(default_factory=dict, repr=False)
    shown: Mapping[int, Tensor] = field(default_factory=dict, repr=False)
    changed: Mapping[int, tuple[Text, Text]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def accuracy(self) -> Rate:
        """Robust accuracy: right without attack and under every attack that was run. An upper bound of the truth.

        After a sample was enough, the estimate from it.
        """
        if self.sample is not None:
            k, about = self.sample.estimate, str(self.threat)
            return Rate(k, len(self), "robust accuracy", about, doubt=self.doubt, sample=self.sample)
        least = sum(by is None for by in self.broken_by)
        undecided = len(self) - self.decided
        span = (least, least + undecided)
        return Rate(int(self.robust.sum()), len(self), "robust accuracy", str(self.threat), span, self.doubt)

    @property
    def clean_accuracy(self) -> Rate:
        """Accuracy without attack."""
        return Rate(int(self.correct.sum()), len(self), "clean accuracy")

    @property
    def decided(self) -> int:
        """How many examples have an outcome; all, unless the verdict was certain earlier."""
        return sum(by != UNDECIDED for by in self.broken_by)

    @property
    def meets_floor(self) -> bool | None:
        """Whether robust accuracy reaches the floor, by exact count; None without a floor."""
        return None if self.floor is None else Fraction(self.accuracy.k, self.accuracy.n) >= self.floor

    @property
    def verdict(self) -> Verdict:
        """``fail`` under the floor, or over it with an evaluation that cannot be believed; ``report`` without a floor."""
        if self.floor is None:
            return "report"
        return "pass" if self.meets_floor and self.believable else "fail"

    @property
    def believable(self) -> bool:
        """Whether a PASS may rest on it, see ``levels.believable``."""
        return believable(self.health.level, self.profile)

    def accuracy_of(self, name: str | Integral | int) -> Rate:
        """Robust accuracy on the examples of one class, by name or label; where classes have no names, ``"8"`` is label 8.

        Raises:
            LookupError: no such class, no example of it, or not every example was decided.
        """
        if self.bound != "exact":
            raise LookupError(
                f"robust accuracy of {name!r} is not known: the verdict was certain after {self.decided} of {len(self)} "
                "examples; leave min_accuracy out, or use profile='release', to decide all of them"
            )
        label = int(name) if isinstance(name, Integral) else self._label(str(name))
        here = self.labels == label
        if not here.any():
            raise LookupError(f"no example has label {label} ({name!r}); labels here: {sorted(set(self.labels.tolist()))}")
        k, n = int(self.robust[here].sum()), int(here.sum())
        return Rate(k, n, f"robust accuracy of {name}", str(self.threat), doubt=self.doubt)

    def adversarial(self, i: int) -> Tensor:
        """The verified adversarial example found for example ``i``, in the space attacked, on the CPU.

        Raises:
            LookupError: none was found: the example survived, or was wrong without attack.
        """
        if i not in self.witnesses:
            why = {None: "it survived every attack", CLEAN: "the model is wrong on it without attack"}
            raise LookupError(f"no adversarial example for example {i}: {why.get(self.broken_by[i], 'it was not decided')}")
        return self.witnesses[i].clone()

    def broken_counts(self) -> dict[str, int]:
        """How many examples each attack broke, in the order of the schedule; ``"clean"`` first."""
        counts = Counter(by for by in self.broken_by if by is not None and by != UNDECIDED)
        return {name: counts[name] for name in (CLEAN, *self.attacks) if counts[name]}

    def class_name(self, label: int) -> str:
        return self.classes[label] if self.classes is not None and 0 <= label < len(self.classes) else str(label)

    @property
    def doubt(self) -> str | None:
        """Why no figure of it is evidence; None where it can be believed."""
        worst = self.health.worst
        return f"{worst.name}: {worst.detail}" if worst is not None and not self.believable else None

    def _label(self, name: str) -> int:
        if self.classes is None and name.isdecimal():
            return int(name)
        if self.classes is None or name not in self.classes:
            known = ", ".join(self.classes) if self.classes else "none; pass classes=[...] or use the label's number"
            raise LookupError(f"no class is called {name!r}; known classes: {known}")
        return self.classes.index(name)
