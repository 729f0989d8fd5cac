"""Attack configurations: drawn by Hypothesis, run by the engine, and shrunk to the weakest that breaks the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from pytest_robust import threats
from pytest_robust.attacks import PGD
from pytest_robust.budget import Number
from pytest_robust.data import load
from pytest_robust.errors import EvidenceError, ThreatError
from pytest_robust.evaluation.alone import Alone, attack_alone
from pytest_robust.evaluation.result import CLEAN
from pytest_robust.objectives import LOSSES
from pytest_robust.strategies.forward import logits_of
from pytest_robust.threats import Bounds, Threat

_LEVELS = 16
"""Into how many equal parts a budget is divided, where the user does not say."""
_MOST_SEEDS = 2**16


@dataclass(frozen=True)
class AttackConfig:
    """A gradient attack in full: equal configurations do the same to an example.

    What Hypothesis prints of it can be pasted into ``@example``.

    Attributes:
        threat: what the attack may do. n_steps, n_restarts, loss: see ``PGD``. seed: of the random starts; the first run
            starts at the clean point.
    """

    threat: Threat
    n_steps: int = 1
    n_restarts: int = 1
    loss: str = "margin"
    seed: int = 0

    @property
    def attack(self) -> PGD:
        """The search. Its steps fall from eps, and the first one, from the clean point, is exact on a linear model."""
        return PGD(
            self.loss,
            n_steps=self.n_steps,
            n_restarts=self.n_restarts,
            step_size=1.0,
            schedule="cosine",
            random_start=False,
        )


def attacks(
    norm: str = "linf",
    max_eps: Number | None = None,
    *,
    bounds: Bounds = (0, 1),
    threat: Threat | None = None,
    levels: int | None = None,
    max_steps: int = 20,
    max_restarts: int = 2,
    losses: Sequence[str] = ("margin", "ce", "dlr"),
) -> st.SearchStrategy[AttackConfig]:
    """Attacks up to a budget. They shrink to the smallest eps first, then to the fewest steps and restarts.

    Args:
        norm, max_eps, bounds: the largest threat, as for the fixture ``robust``. threat: the same in full, for one with a
            mask, or for text.
        levels: eps is one of ``0, 1, ... levels`` parts of the largest, exactly: ``"8/255"`` has ``"0.5/255"`` among its 16
            parts, which is what is drawn when left out. L0 counts features, one by one.
        max_steps, max_restarts, losses: the most of each, and which losses, the simplest first.

    Raises:
        ValueError: levels, steps or restarts below 1, or an unknown loss. ThreatError: no budget, or one that is unusable.
    """
    if threat is not None and max_eps is None:
        largest = threat
    elif max_eps is not None and threat is None:
        largest = threats.make(norm, max_eps, bounds=bounds)
    else:
        raise ThreatError("attacks() needs the largest budget: give max_eps='8/255', or a threat in full, one of the two")
    whole = largest.budget
    if levels is None:
        levels = int(whole.value) if largest.norm == "l0" else _LEVELS
    for what, count in (("levels", levels), ("max_steps", max_steps), ("max_restarts", max_restarts)):
        if count < 1:
            raise ValueError(f"{what} must be at least 1, got {count}")
    unknown = [loss for loss in losses if loss not in LOSSES or loss.endswith("-t")]
    if unknown or not losses:
        known = ", ".join(loss for loss in LOSSES if not loss.endswith("-t"))
        raise ValueError(f"losses must be some of {known}; got {', '.join(unknown) or 'none'}")

    # A choice of exact parts, and not a float: bounds of floats must be exact in float32, which 8/255 is not. As text, since
    # that is what Hypothesis then prints.
    parts = [str(whole.part(Fraction(level, levels))) for level in range(levels + 1)]
    return st.builds(
        AttackConfig,
        threat=st.sampled_from([largest.with_eps(part) for part in parts]),
        n_steps=st.integers(1, max_steps),
        n_restarts=st.integers(1, max_restarts),
        loss=st.sampled_from(list(losses)),
        seed=st.integers(0, _MOST_SEEDS),
    )


def indices(data: object, model: object | None = None, **options: Any) -> st.SearchStrategy[int]:
    """Places in the data; they shrink to the first.

    Args:
        data: in any form that ``evaluate`` takes. model: with one, only examples that it gets right are drawn, for which it
            is run once over the data. options: ``device``, ``normalize`` and ``classes``, see ``evaluate``.

    Raises:
        ValueError: the model gets none right.
    """
    examples = load(data, classes=options.get("classes"))
    if model is None:
        return st.integers(0, len(examples) - 1)
    right = logits_of(model, examples, **options).argmax(1) == examples.labels
    if not bool(right.any()):
        raise ValueError(f"the model gets none of {len(examples)} examples right: labels or preprocessing wrong?")
    return st.sampled_from([int(i) for i in right.nonzero()])


def breaks(model: object, x: object, y: object, attack: AttackConfig, **options: Any) -> bool:
    """Whether the model is wrong on one example under an attack. It is, too, when it is wrong without one.

    The engine runs as in ``evaluate``: an adversarial example is verified by itself, and nothing of the model is changed.
    That one example survives one attack says little; ``evaluate`` judges by many whether the attacks work at all.

    Args:
        x, y: one input, without batch dimension, and its label. options: ``device``, ``normalize``, ``classes``,
            ``non_differentiable``, ``objective`` and ``waive``, see ``evaluate``.

    Raises:
        EvidenceError: not broken, and the attack could not have worked. Otherwise what ``evaluate`` raises.
    """
    return _attacked(model, x, y, attack, **options).broken_by[0] is not None


def assert_robust(model: object, x: object, y: object, attack: AttackConfig, **options: Any) -> None:
    """The assertion that an attack does not break the model on one example. See ``breaks`` for the arguments.

    Raises:
        AssertionError: it does; the message says how.
    """
    __tracebackhide__ = True
    found = _attacked(model, x, y, attack, **options)
    (by,), (label,), (predicted,) = found.broken_by, found.labels, found.predicted
    if by is None:
        return
    if by == CLEAN:
        raise AssertionError(
            f"wrong without attack: class {label} is taken for {predicted}; indices(data, model) draws right ones only"
        )
    size = f", at a change of {found.weakest.eps}" if found.weakest is not None else ""
    steps, runs = (f"{n} {what}{'s' * (n > 1)}" for n, what in ((attack.n_steps, "step"), (attack.n_restarts, "run")))
    raise AssertionError(
        f"{attack.threat.summary()} turns class {label} into {predicted}{size}, "
        f"by {by} with {steps}, {runs}, seed {attack.seed}"
    )


def _attacked(model: object, x: object, y: object, attack: AttackConfig, **options: Any) -> Alone:
    found = attack_alone(model, [(x, y)], attack.threat, attack.attack, seed=attack.seed, **options)
    if found.doubt is not None:
        raise EvidenceError(f"{attack} broke nothing, but it could not have: {found.doubt.name}: {found.doubt.detail}")
    return found
