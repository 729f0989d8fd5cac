"""The checks of one test, and what reports say of each besides its figures."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from pytest_robust.budget import Budget
from pytest_robust.pytest_plugin.call import ungrouped, without_file
from pytest_robust.pytest_plugin.retraining import Failed
from pytest_robust.pytest_plugin.settings import Settings
from pytest_robust.reports.record import Record

if TYPE_CHECKING:
    from pytest_robust.evaluation import Curve, Evaluation
    from pytest_robust.evaluation.means import Fluctuation


@dataclass
class Checks:
    """The checks of one test so far, by id. They outlive a rerun of the test, which can so not turn a failure green."""

    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)
    shares: dict[str, Record] = field(default_factory=dict)
    """In a shard, what it has attacked of each check, instead of the records."""
    errors: dict[str, str] = field(default_factory=dict)
    """What went wrong in the checks that have no evaluation. Kept here, for the test may catch the exception."""
    fluctuations: dict[str, tuple[Fluctuation, tuple[str, ...]]] = field(default_factory=dict)
    """What the test measured under random edits, and the ids of its records."""
    failed: list[Failed] = field(default_factory=list)
    """Those whose models are still to be retrained."""
    witnesses: int = 0
    """Stored adversarial examples that the model was held against."""
    missed: str | None = None
    """The sentence with which an earlier run of the test failed: no later run may avoid it."""


def error_line(error: BaseException) -> str:
    """The first line of what went wrong, after its kind."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def reproduce(item: pytest.Item, settings: Settings, budget: Budget | None) -> str:
    """The command that runs this test again as it was run."""
    arguments, target = dict(settings.arguments), f'"{ungrouped(item.nodeid)}"'
    if without_file(item):
        # There is no path to name: the options are all there is of it.
        target = ""
        if budget is not None:
            arguments["--robust-eps"] = str(budget)
    return " ".join(word for word in ("pytest", target, *itertools.chain(*arguments.items())) if word)


def properties(check: Record) -> list[tuple[str, str | float]]:
    """Scalars for junit: anything else is printed as Python's repr there, or kills an xdist worker."""
    figures = {"": "robust", "clean_": "clean"}
    return [
        ("robust.check", check["id"]),
        ("robust.model", check["model"]),
        ("robust.norm", check["threat"]["norm"]),
        ("robust.eps", check["threat"]["eps"]),
        ("robust.n", check["n"]),
        *((f"robust.{of}{check['metric']}", check[which]["k"] / check["n"]) for of, which in figures.items()),
        ("robust.bound", check["bound"]),
        ("robust.health", check["health"]["level"]),
        ("robust.verdict", check["verdict"]),
    ]
