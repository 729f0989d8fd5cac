"""One attack by itself, where neither a rate nor a verdict is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pytest_robust.attacks import Attack
from pytest_robust.evaluation.prepare import opened
from pytest_robust.evaluation.result import Health, HealthCheck, Weakest
from pytest_robust.evaluation.run import Run
from pytest_robust.evaluation.tally import Tally
from pytest_robust.evaluation.weakest import nearest, weakest
from pytest_robust.models import NonDifferentiable, Normalize
from pytest_robust.objectives import Objective
from pytest_robust.threats import Threat

_GRADIENT = "whether gradients were usable is asked of those that have survived"


@dataclass(frozen=True)
class Alone:
    """What an attack did to each example, in data order.

    Attributes:
        labels, predicted: names of the classes, else their numbers; ``predicted`` at the adversarial example, where there is
            one.
        broken_by: the attack's name, ``"clean"`` for those that are wrong without attack, None for survivors.
        weakest: the smallest change found that breaks one. witnesses: the verified adversarial examples, by place.
        doubt: why survivors may have survived although the attack is strong enough; None where nothing says so.
        passes: (n,) int64, forward and backward passes of the attack.
    """

    labels: tuple[str, ...]
    predicted: tuple[str, ...]
    broken_by: tuple[str | None, ...]
    weakest: Weakest | None
    doubt: HealthCheck | None
    witnesses: Mapping[int, Tensor] = field(repr=False)
    passes: npt.NDArray[np.int64] = field(repr=False)


def attack_alone(
    model: object,
    data: object,
    threat: Threat,
    attack: Attack | Sequence[Attack],
    *,
    seed: int = 0,
    objective: Objective | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    classes: Sequence[str] | None = None,
    normalize: Normalize | None = None,
    non_differentiable: NonDifferentiable | None = None,
    waive: Mapping[str, str] | None = None,
) -> Alone:
    """Attack data with one attack, or with several one after the other.

    The data are prepared, attacked and verified as in ``evaluate``, whose arguments these are.

    No probes follow. They judge attacks by many survivors, and their searches would break what this attack could not.

    Raises: what ``evaluate`` raises.
    """
    with opened(
        model,
        data,
        threat,
        objective=objective,
        profile="standard",
        attacks=attack,
        n=None,
        seed=seed,
        batch_size=batch_size,
        device=device,
        classes=classes,
        normalize=normalize,
        # It stops an evaluation in which *no* example has a gradient, which a few cannot tell.
        waive={"gradient": _GRADIENT, **(waive or {})},
        non_differentiable=non_differentiable,
        draws=None,
        autocast=False,
    ) as known:
        ready = known.preflighted()
        found, subjects = ready.found, ready.subjects()
        tally = Tally(found.correct, found.predicted, None, early=False)
        run = Run("alone", subjects, ready.passes, ready.steps, tally, None, probing=False)
        run.attack()
        checks = [check.set_aside(waive or {}) for check in run.health(found.logits)]
        weak = weakest(subjects, ready.threat, nearest(subjects, ready.passes, tally.witnesses))
    names = ready.examples.classes or ready.model.classes or ()
    labels, predicted = (
        tuple(names[c] if c < len(names) else str(c) for c in numbers)
        for numbers in (ready.examples.labels.tolist(), tally.predicted.tolist())
    )
    worst = Health((*ready.findings, *checks)).worst
    doubtful = None in tally.broken_by and worst is not None and worst.level == "invalid"
    return Alone(labels, predicted, tuple(tally.broken_by), weak, worst if doubtful else None, tally.witnesses, run.spent)
