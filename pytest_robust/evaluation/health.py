"""Whether an evaluation can be believed: an attack that could not work is no evidence of robustness."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pytest_robust import keyed
from pytest_robust.attacks import Attack
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.result import HealthCheck, Level
from pytest_robust.evaluation.subjects import Subjects

_SAMPLE = 8
"""Examples on which the model is run again: two more forward passes each."""
_SAME = 1e-3
"""Difference of logits, as a share of their spread, that rounding alone does not make."""


def _judged(name: str, share: float, suspicious: float, detail: str) -> HealthCheck:
    """Trusted at no share, invalid from 5 % on: that much of the survivors could be broken and not be seen to be."""
    level: Level = "invalid" if share >= 0.05 else "suspicious" if share > suspicious else "trusted"
    return HealthCheck(name, level, detail)


def gradients(survivors: Sequence[int], usable: set[int]) -> HealthCheck:
    """Survivors whose every gradient was zero or not finite were never attacked."""
    masked = [row for row in survivors if row not in usable]
    share = len(masked) / max(1, len(survivors))
    if not masked:
        return HealthCheck("gradients", "trusted", "gradients usable on every survivor")
    detail = (
        f"gradients are zero or not finite on {len(masked)} of {len(survivors)} survivors: the attack could not work there; "
        "look for rounding, quantisation, saturation, .detach() or an argmax in the forward pass"
    )
    return _judged("gradients", share, 0.0, detail)


def finite(survivors: Sequence[int], unstable: set[int]) -> HealthCheck:
    """Survivors at which the model returned NaN or infinity while under attack."""
    count = len(unstable.intersection(survivors))
    if not count:
        return HealthCheck("finite", "trusted", "logits finite under attack")
    detail = (
        f"logits were NaN or infinite under attack on {count} of {len(survivors)} survivors; "
        "find the operation that overflows, torch.autograd.set_detect_anomaly(True) names it"
    )
    return HealthCheck("finite", "invalid", detail)


def verified(survivors: Sequence[int], rejected: set[int]) -> HealthCheck:
    """Survivors that were broken in a batch, but not when run alone."""
    count = len(rejected.intersection(survivors))
    share = count / max(1, len(survivors))
    detail = (
        f"{count} of {len(survivors)} survivors were broken in a batch and not when run alone: predictions depend on "
        "the batch or on chance"
        if count
        else "every adversarial example was broken again when run alone"
    )
    # One in a hundred may sit within rounding of the decision boundary.
    return _judged("verified", share, 0.01, detail)


def repeatable(subjects: Subjects, passes: Passes, logits: torch.Tensor, survivors: Sequence[int]) -> list[HealthCheck]:
    """The model run again on a few survivors, one at a time: do the logits depend on chance, or on the batch?"""
    chosen = [survivors[i] for i in keyed.order(subjects.seed, [subjects.examples.ids[row] for row in survivors])][:_SAMPLE]
    alone, again = (_alone(subjects, passes, chosen) for _ in range(2))
    scale = subjects.scale[chosen]
    chance = ((alone - again).abs().amax(1) / scale) if chosen else torch.zeros(1)
    batch = ((alone - logits[chosen]).abs().amax(1) / scale) if chosen else torch.zeros(1)
    random = bool((chance > _SAME).any())
    dependent = bool((batch > _SAME).any()) and not random
    return [
        HealthCheck(
            "determinism",
            "invalid" if random else "trusted",
            f"the same input gave logits that differ by {100 * chance.max():.2g}% of their spread: the model is random, "
            "and a survivor may only have been lucky; switch the noise off, or fix its seed inside forward()"
            if random
            else "the same input gives the same logits",
        ),
        HealthCheck(
            "batch-independence",
            "invalid" if dependent else "trusted",
            f"alone and in a batch, logits differ by {100 * batch.max():.2g}% of their spread: examples influence each "
            "other; look for batch statistics (BatchNorm without running averages) or operations across dimension 0"
            if dependent
            else "logits do not depend on the batch",
        ),
    ]


def _alone(subjects: Subjects, passes: Passes, rows: Sequence[int]) -> torch.Tensor:
    results = []
    for row in rows:
        x, context, _ = subjects.place([row])
        results.append(passes.logits(x, context).cpu())
    return torch.cat(results) if results else torch.zeros(0, 2)


def strength(attacks: Sequence[Attack]) -> HealthCheck:
    """One gradient step is no attack to pass a model on."""
    names = ", ".join(attack.name for attack in attacks)
    if max(attack.n_steps for attack in attacks) < 10:
        detail = f"only {names} was run, of fewer than 10 steps: that is no evidence; add an iterative attack"
        return HealthCheck("strength", "suspicious", detail)
    return HealthCheck("strength", "trusted", f"attacked with {names}")
