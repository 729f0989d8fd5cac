"""Whether an evaluation can be believed: an attack that could not work is no evidence of robustness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pytest_robust import keyed
from pytest_robust.attacks import Attack
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.result import HealthCheck
from pytest_robust.evaluation.subjects import Subjects
from pytest_robust.evaluation.votes import FEW, MANY
from pytest_robust.levels import RUINOUS, Level

_SAMPLE = 8
"""Examples on which the model is run again: two more forward passes each."""
_SAME = 1e-3
"""Difference of logits, as a share of their spread, that rounding alone does not make."""
_RANDOM = (
    "the model is random, and a survivor may only have been lucky; switch the noise off, fix its seed inside forward(), or, "
    "where the noise is meant, let draws of it vote: draws=10",
    "draws are not repeatable, so the noise has a generator of its own; use the global ones of torch, numpy or random",
)
"""What it means, and what to do, without and with draws."""


@dataclass(frozen=True)
class Doubts:
    """Survivors that may have survived only because the attack could not work on them.

    Attributes:
        survivors: rows that outlived the attacks. needed: how many the floor asks for; None without a floor.
        by_gradients: some attack used them. masked: they were zero, or NaN. unstable: logits were NaN or infinite.
        rejected: broken in a batch and not alone. immovable: nothing of the example may move. contested: at some point most
            draws of a random model were wrong, by a majority that luck explains; None for other models.
    """

    survivors: Sequence[int]
    by_gradients: bool
    masked: set[int]
    unstable: set[int]
    rejected: set[int]
    immovable: set[int]
    needed: int | None
    contested: set[int] | None = None

    def checks(self) -> list[HealthCheck]:
        """One finding each. A doubt is invalid from 5 % of the survivors on, or when the floor rests on the doubtful."""
        return [
            self._check(
                "gradients",
                self.masked,
                "gradients usable on every survivor" if self.by_gradients else "no attack needed gradients",
                "had gradients that were zero or NaN: the attack could not work there; look for rounding, quantisation, "
                "saturation, .detach(), an argmax, or a where() around a square root in the forward pass; "
                "non_differentiable=[...] lets gradients past a submodule",
            ),
            self._check(
                "finite",
                self.unstable,
                "logits finite under attack",
                "had logits that were NaN or infinite under attack; torch.autograd.set_detect_anomaly(True) helps to find "
                "the operation that overflows",
            ),
            self._check(
                "verified",
                self.rejected,
                "every adversarial example was broken again when run alone",
                "were broken in a batch and not when run alone: predictions depend on the batch, on chance, or on rounding",
                # One in a hundred may sit within rounding of the decision boundary.
                tolerated=0.01,
            ),
            self._check(
                "room",
                self.immovable,
                "every survivor could be moved",
                "could not be moved at all: the mask forbids it, eps is below the spacing of floats there, the text "
                "has no word that may be edited, or is so long that no word behind it is read",
            ),
            *([] if self.contested is None else [self._votes(self.contested)]),
        ]

    def _votes(self, contested: set[int]) -> HealthCheck:
        return self._check(
            "votes",
            contested,
            "at the points where attacks on survivors ended, most draws are right",
            "were broken on most draws at a point found, by a majority that may be luck: they are neither broken nor robust",
            tolerated=0.01,
            # They are known one by one: where the floor is met without them, nothing else rests on them.
            ruinous=RUINOUS if self.needed is None else 2.0,
        )

    def _check(
        self, name: str, rows: set[int], fine: str, wrong: str, *, tolerated: float = 0.0, ruinous: float = RUINOUS
    ) -> HealthCheck:
        count = len(rows.intersection(self.survivors))
        if not count:
            return HealthCheck(name, "trusted", fine)
        share = count / len(self.survivors)
        level: Level = "invalid" if share >= ruinous or self._decisive else "suspicious" if share > tolerated else "trusted"
        detail = f"{count} of {len(self.survivors)} survivors {wrong}"
        if self._decisive:
            detail += "; without them the floor is missed"
        return HealthCheck(name, level, detail)

    @property
    def doubtful(self) -> set[int]:
        """The survivors with any of these doubts."""
        doubts = (self.masked, self.unstable, self.rejected, self.immovable, self.contested or set())
        return set().union(*doubts).intersection(self.survivors)

    @property
    def _decisive(self) -> bool:
        count = len(self.survivors)
        return self.needed is not None and count - len(self.doubtful) < self.needed <= count


def repeatable(subjects: Subjects, passes: Passes, logits: torch.Tensor) -> list[HealthCheck]:
    """The model run again on a few examples, one at a time: do the logits depend on chance, or on the batch?"""
    chosen = keyed.order(subjects.seed, subjects.examples.ids)[:_SAMPLE]
    alone, again = (_alone(subjects, passes, chosen) for _ in range(2))
    scale = subjects.scale[chosen]
    chance = (alone - again).abs().amax(1) / scale
    batch = (alone - logits[chosen]).abs().amax(1) / scale
    random = bool((chance > _SAME).any())
    dependent = bool((batch > _SAME).any()) and not random
    return [
        HealthCheck(
            "determinism",
            "invalid" if random else "trusted",
            f"the same input gave logits that differ by {100 * chance.max():.2g}% of their spread: {_RANDOM[passes.random]}"
            if random
            else f"the mean of the same {passes.draws} draws gives the same logits, and votes of other draws decide"
            if passes.random
            else "the same input gives the same logits",
        ),
        HealthCheck(
            "batch-independence",
            "invalid" if dependent else "trusted",
            f"alone and in a batch, logits differ by {100 * batch.max():.2g}% of their spread: examples influence each "
            "other; look for batch statistics (BatchNorm without running averages) or operations across dimension 0"
            if dependent
            else "every draw is made for one example alone"
            if passes.random
            else "logits do not depend on the batch",
        ),
    ]


def random_or_not(subjects: Subjects, passes: Passes) -> list[str]:
    """What to say about the draws of a model that was called random: it may not be."""
    if not passes.random:
        return []
    for row in keyed.order(subjects.seed, subjects.examples.ids)[:_SAMPLE]:
        x, context, _ = subjects.place([row])
        one, other = passes.votes(x, context, range(2))
        if not torch.equal(one, other):
            return [
                f"random model: means of {passes.draws} draws guide the attacks, votes of {FEW} to {MANY} other draws decide"
            ]
    return [f"draws={passes.draws} was given, but different draws gave the same logits: leave it out, it only costs passes"]


def _alone(subjects: Subjects, passes: Passes, rows: Sequence[int]) -> torch.Tensor:
    results = []
    for row in rows:
        x, context, _ = subjects.place([row])
        results.append(passes.logits(x, context).cpu())
    return torch.cat(results)


def strength(attacks: Sequence[Attack], *, proof: bool, survivors: bool, exhausted: bool) -> HealthCheck:
    """A few gradient steps, or a few random queries, are no attack to pass a model on.

    Args:
        attacks: those that ran on anything. proof: enough was broken to miss the floor, by whatever it was.
        survivors: some examples count as having survived. exhausted: every change that the threat allows was tried.
    """
    if not attacks and survivors:
        detail = "none of the attacks could be run on this model: with two classes there is no second target"
        return HealthCheck("strength", "invalid", detail)
    if not attacks:
        return HealthCheck("strength", "trusted", "no attack was run: the verdict was certain without")
    names = ", ".join(attack.name for attack in attacks)
    if exhausted:
        return HealthCheck("strength", "trusted", f"every change that the threat allows was tried, by {names}")
    if survivors and not proof and all(map(_weak, attacks)):
        detail = (
            f"only {names} was run: fewer than 10 steps, or 100 without gradients, or no real search; that is no evidence; "
            "add an iterative attack"
        )
        return HealthCheck("strength", "suspicious", detail)
    return HealthCheck("strength", "trusted", f"attacked with {names}")


def _weak(attack: Attack) -> bool:
    return not attack.evidence or attack.n_steps < (10 if attack.uses_gradients else 100)
