"""The marker ``robust(...)``: what a test declares, checked when it is collected."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from fractions import Fraction
from numbers import Integral
from typing import Any, Literal, get_args

import pytest

from pytest_robust.budget import Budget, Number, exact, parse_confidence, parse_floor, parse_margin
from pytest_robust.pytest_plugin.options import NORMS, PROFILES
from pytest_robust.waivers import checked_waivers

Tier = Literal["critical", "advisory"]
Floors = Fraction | dict[Budget, Fraction]
MEANS = {"min_ndcg": ("ndcg@10",), "min_consistency": ("consistency", "rbo")}
"""Floors of means, and the metric that each is of: the first of these that the model and data have."""


class Default(Enum):
    """Stands for "not given" where None has a meaning: ``bounds=None`` is unbounded."""

    BOUNDS = "default bounds"


@dataclass(frozen=True)
class Declared:
    """What markers declare; None (for bounds: ``Default.BOUNDS``) where they are silent."""

    norm: str | None = None
    eps: tuple[Budget, ...] | None = None
    min_accuracy: Floors | None = None
    attacks: tuple[Any, ...] | None = None
    n: int | None = None
    bounds: Any = Default.BOUNDS
    profile: str | None = None
    tier: Tier | None = None
    confidence: float | None = None
    waive: dict[str, str] | None = None
    draws: int | None = None
    max_drop: float | None = None
    min_ndcg: Fraction | None = None
    min_consistency: Fraction | None = None

    def over(self, other: Declared) -> Declared:
        """This declaration, filled up by one farther away."""
        # ``is``, for bounds may be tensors, which do not compare to a truth value.
        filled = {f.name: getattr(other, f.name) for f in fields(self) if getattr(self, f.name) is f.default}
        return replace(self, **filled)


def robust(
    norm: str | None = None,
    eps: Number | Budget | Sequence[Number | Budget] | None = None,
    *,
    min_accuracy: Number | Mapping[Number, Number] | None = None,
    attacks: str | Sequence[Any] | None = None,
    n: int | None = None,
    bounds: Any = Default.BOUNDS,
    profile: str | None = None,
    tier: Tier | None = None,
    confidence: Number | None = None,
    max_drop: Number | None = None,
    waive: Mapping[str, str] | None = None,
    draws: int | None = None,
    min_ndcg: Number | None = None,
    min_consistency: Number | None = None,
) -> Declared:
    """The arguments of ``@pytest.mark.robust``.

    Args:
        norm: linf, l2, l1, l0, or characters for texts.
        eps: one budget or several; with several the test runs once for each.
        min_accuracy: the floor of robust accuracy, or a floor for each budget: ``{"2/255": 0.7, "8/255": 0.4}``; a budget
            without one has the floor of the run, if there is one.
        attacks: names that replace the profile's attacks. n: number of examples. bounds: see ``Linf``.
        profile: smoke, standard or release.
        max_drop: drop of robust accuracy against the baseline that is too much, instead of the run's margin.
        confidence: see ``pytest_robust.evaluate``; for checks with a floor. draws: see there, too.
        tier: a ``critical`` check (the default) fails its test; an ``advisory`` one warns, and shows in the table.
        waive: findings to set aside, with the reason: ``{"chance": "ten examples only"}``.
        min_ndcg, min_consistency: for ``robust.fluctuation(...)``: the least nDCG@10 of queries, and the least consistency
            of translations or rank-biased overlap of results, that the mean over the worst random edits may come to.

    Raises:
        TypeError, ValueError: an argument that cannot be used.
    """
    _member("norm", norm, NORMS)
    _member("profile", profile, PROFILES)
    _member("tier", tier, get_args(Tier))
    for what, count in (("n", n), ("draws", draws)):
        if count is not None and (isinstance(count, bool) or not isinstance(count, Integral) or count < 1):
            raise ValueError(f"{what} must be a whole number, at least 1, got {count!r}")
    reasons = None if waive is None else checked_waivers(waive)
    budgets, floors = read_eps(eps), read_floors(min_accuracy)
    if budgets is not None and isinstance(floors, dict):
        for budget in floors:
            if not any(budget.is_that(other) for other in budgets):
                names = ", ".join(map(str, budgets))
                raise ValueError(f"min_accuracy has a floor for {budget}, which is not among the budgets ({names})")
    sure = None if confidence is None else parse_confidence(confidence)
    drop = None if max_drop is None else parse_margin(max_drop)
    means = [
        None if floor is None else _mean(what, floor) for what, floor in zip(MEANS, (min_ndcg, min_consistency), strict=True)
    ]
    return Declared(
        norm, budgets, floors, read_attacks(attacks), n, bounds, profile, tier, sure, reasons, draws, drop, *means
    )


def _mean(what: str, floor: Number) -> Fraction:
    """Raises ValueError for what is no number from 0 to 1."""
    value = exact(floor)
    if not 0 <= value <= 1:
        raise ValueError(f"{what} lies in [0, 1], got {floor!r}")
    return value


def read_eps(eps: Number | Budget | Iterable[Number | Budget] | None) -> tuple[Budget, ...] | None:
    """One budget or several, without doubles.

    Raises:
        ValueError: not budgets, or none.
    """
    if eps is None:
        return None
    several = eps if isinstance(eps, Iterable) and not isinstance(eps, str) else (eps,)
    budgets = tuple(dict.fromkeys(Budget.parse(e) for e in several))
    if not budgets:
        raise ValueError("eps is empty; name a budget such as '8/255'")
    return budgets


def read_floors(floors: Number | Mapping[Number, Number] | None) -> Floors | None:
    """One floor, or one for each budget.

    Raises:
        ValueError: a budget or floor that is not a number in its range, or a mapping of none.
    """
    if floors is None:
        return None
    try:
        if isinstance(floors, Mapping):
            if not floors:
                raise ValueError("the mapping is empty; name a floor for a budget, or leave it out")
            return {Budget.parse(eps): parse_floor(floor) for eps, floor in floors.items()}
        return parse_floor(floors)
    except ValueError as error:
        raise ValueError(f"min_accuracy: {error}") from None


def floor_of(floors: Floors | None, budget: Budget) -> Fraction | None:
    """The floor of a budget, None where none is named; ``8/255`` as a float is the budget "8/255" too."""
    if not isinstance(floors, dict):
        return floors
    return next((floor for known, floor in floors.items() if known.is_that(budget)), None)


def read_attacks(attacks: str | Iterable[Any] | None) -> tuple[Any, ...] | None:
    """Attack names, or attacks. Raises ValueError when empty."""
    if attacks is None:
        return None
    several = tuple(name.strip() for name in attacks.split(",")) if isinstance(attacks, str) else tuple(attacks)
    if not several:
        raise ValueError("attacks is empty; leave it out for the profile's attacks")
    return several


def declared(node: pytest.Item | pytest.Function) -> Declared:
    """What the markers of a node declare together, the closest first for each argument.

    Raises:
        pytest.UsageError: a marker that cannot be used; the message names the test.
    """
    marks = node.iter_markers("robust")
    try:
        return functools.reduce(Declared.over, (robust(*mark.args, **mark.kwargs) for mark in marks), Declared())
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(f"{node.nodeid}: marker robust(...): {error}") from None


def _member(name: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
