"""One attack on one example, where neither a rate nor a verdict is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_robust.attacks import Attack
from pytest_robust.evaluation.prepare import opened
from pytest_robust.evaluation.result import CLEAN, Health, HealthCheck, Weakest
from pytest_robust.evaluation.run import Run
from pytest_robust.evaluation.tally import Tally
from pytest_robust.evaluation.weakest import nearest, weakest
from pytest_robust.models import NonDifferentiable, Normalize
from pytest_robust.objectives import Objective
from pytest_robust.threats import Threat

_GRADIENT = "one example: whether its gradients were usable is asked when it has survived"


@dataclass(frozen=True)
class Single:
    """What an attack did to one example.

    Attributes:
        label, predicted: names of the classes, else their numbers; ``predicted`` at the adversarial example, where there is
            one.
        by: what broke it: the attack's name, ``"clean"`` when it is wrong without attack, None when it survived.
        weakest: the smallest change found that breaks it. doubt: why it may have survived although the attack is strong
            enough, None where nothing says so. passes: forward and backward passes of the attack.
    """

    label: str
    predicted: str
    by: str | None
    weakest: Weakest | None
    doubt: HealthCheck | None
    passes: int

    @property
    def correct(self) -> bool:
        """Whether it is right without attack."""
        return self.by != CLEAN


def attack_one(
    model: object,
    x: object,
    y: object,
    threat: Threat,
    attack: Attack,
    *,
    seed: int = 0,
    objective: Objective | None = None,
    device: str = "auto",
    classes: Sequence[str] | None = None,
    normalize: Normalize | None = None,
    non_differentiable: NonDifferentiable | None = None,
    waive: Mapping[str, str] | None = None,
) -> Single:
    """Attack one input, without batch dimension. It is prepared, attacked and verified as in ``evaluate``.

    No probes follow. They judge attacks by many survivors, and their searches would break what this attack could not.

    Raises: what ``evaluate`` raises.
    """
    with opened(
        model,
        [(x, y)],
        threat,
        objective=objective,
        profile="standard",
        attacks=attack,
        n=None,
        seed=seed,
        batch_size=None,
        device=device,
        classes=classes,
        normalize=normalize,
        # It stops an evaluation in which *no* example has a gradient, which one alone cannot tell.
        waive={"gradient": _GRADIENT, **(waive or {})},
        non_differentiable=non_differentiable,
        draws=None,
        autocast=False,
    ) as known:
        ready = known.preflighted()
        found, subjects = ready.found, ready.subjects()
        tally = Tally(found.correct, found.predicted, None, early=False)
        run = Run("one example", subjects, ready.passes, ready.steps, tally, None, probing=False)
        run.attack()
        checks = [check.set_aside(waive or {}) for check in run.health(found.logits)]
        weak = weakest(subjects, threat, nearest(subjects, ready.passes, tally.witnesses))
    worst = Health((*ready.findings, *checks)).worst
    names = ready.examples.classes or ready.model.classes
    label, predicted = (
        names[c] if names and c < len(names) else str(c) for c in (int(ready.examples.labels[0]), int(tally.predicted[0]))
    )
    (by,) = tally.broken_by
    doubt = worst if by is None and worst is not None and worst.level == "invalid" else None
    return Single(label, predicted, by, weak, doubt, int(run.spent[0]))
