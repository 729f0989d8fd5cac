"""A stand-in for the engine: evaluations with known outcomes, at once. The plugin's tests are about the plugin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np

import pytest_robust
from pytest_robust import models
from pytest_robust.budget import parse_floor
from pytest_robust.evaluation.curves import Curve
from pytest_robust.evaluation.result import (
    CLEAN,
    UNDECIDED,
    Cost,
    Evaluation,
    Health,
    HealthCheck,
    Identity,
    Stage,
)
from pytest_robust.levels import Level

CALLS: list[SimpleNamespace] = []
"""What ``evaluate`` was called with, in this process."""


@dataclass
class Fake:
    """A model of known outcomes: of ``n`` examples ``clean`` are right, ``robust`` survive, ``undecided`` are open."""

    robust: int = 31
    n: int = 100
    clean: int = 94
    undecided: int = 0
    bound: Literal["exact", "upper", "lower"] = "exact"
    level: Level = "trusted"
    detail: str = "gradients are zero on 37% of inputs"
    space: str = "input"
    attack: str | None = "attack"
    model: str = "model"
    raises: BaseException | None = None
    during: Callable[[Any], object] | None = None


def outcome(model: Fake, threat: Any, *, min_accuracy: Any = None, **options: Any) -> Evaluation:
    """The evaluation of a fake model: the first examples survive, then come the broken, the open and the wrong."""
    n, index = model.n, np.arange(model.n)
    sure = model.robust - (model.undecided if model.bound == "upper" else 0)
    broken_by: list[str | None] = [None] * sure
    broken_by += [UNDECIDED] * model.undecided
    broken_by += ["apgd-ce"] * (model.clean - len(broken_by)) + [CLEAN] * (n - model.clean)
    checks = () if model.level == "trusted" else (HealthCheck("gradients", model.level, model.detail),)
    return Evaluation(
        name=options.get("name", "check"),
        model="Fake",
        threat=threat.summary(),
        objective="untargeted",
        profile=options.get("profile", "standard"),
        attacks=("apgd-ce", "apgd-dlr"),
        seed=options.get("seed", 0),
        device="cpu",
        ids=tuple(f"{i:016x}" for i in range(n)),
        labels=index % 3,
        classes=("cat", "dog", "deer"),
        correct=index < model.clean,
        robust=index < model.robust,
        broken_by=tuple(broken_by),
        predicted=index % 3,
        floor=None if min_accuracy is None else Fraction(parse_floor(min_accuracy)),
        bound=model.bound,
        stages=(Stage("apgd-ce", model.clean, model.clean - model.robust, Cost(2760, 2560, 0.5)),),
        health=Health(checks),
        cost=Cost(2760, 2560, 46.1),
        schedule=("apgd-ce", "apgd-dlr"),
        identity=Identity(model.attack, "data", model.model, None),
    )


def evaluate(model: Fake, data: Any, threat: Any, **options: Any) -> Evaluation:
    CALLS.append(SimpleNamespace(model=model, data=data, threat=threat, **options))
    if model.during is not None:
        model.during(options["progress"])
    if model.raises is not None:
        raise model.raises
    return outcome(model, threat, **options)


def curve(model: Fake, data: Any, threat: Any, *, budgets: Any, **options: Any) -> Curve:
    """Of each budget 0.01 fewer survive than of the one before."""
    CALLS.append(SimpleNamespace(model=model, data=data, threat=threat, budgets=budgets, **options))
    if model.raises is not None:
        raise model.raises
    steps = tuple(sorted(budgets or (threat.budget,), key=float))
    points = [replace(model, robust=model.robust - i) for i in range(len(steps))]
    found = [outcome(point, threat.with_eps(eps), **options) for point, eps in zip(points, steps, strict=True)]
    return Curve(steps, tuple(found), np.zeros(model.n), (), ())


def adapt(model: Any, **options: Any) -> Any:
    return model


def install(set_attribute: Callable[[object, str, object], object] = setattr) -> None:
    """Put the fake in the engine's place."""
    CALLS.clear()
    set_attribute(pytest_robust, "evaluate", evaluate)
    set_attribute(pytest_robust, "curve", curve)
    set_attribute(models, "adapt", adapt)
