"""Records to report on."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from pytest_robust.evaluation.result import CLEAN, UNDECIDED, Cost, Evaluation, Health, HealthCheck, Stage, Weakest
from pytest_robust.evaluation.sequential import Sample
from pytest_robust.regression import Change, Comparison, Paired
from pytest_robust.reports.comparison import plain
from pytest_robust.reports.record import Record, record
from pytest_robust.reports.run import ItemResult
from pytest_robust.threats.summary import ThreatSummary


def evaluation(**changes: Any) -> Evaluation:
    """Ten examples of two classes: one wrong at once, two broken by PGD, one by APGD, six survive."""
    values: dict[str, Any] = {
        "name": "release",
        "model": "Net",
        "threat": ThreatSummary("linf", "8/255", 8 / 255, "input", "[0, 1]"),
        "objective": "untargeted",
        "profile": "standard",
        "attacks": ("pgd", "apgd-ce"),
        "seed": 3,
        "device": "cpu",
        "ids": tuple(f"{i:016x}" for i in range(10)),
        "labels": np.array([0, 1] * 5),
        "classes": ("cat", "dog"),
        "correct": np.array([True] * 9 + [False]),
        "robust": np.array([True] * 6 + [False] * 4),
        "broken_by": (*[None] * 6, "pgd", "pgd", "apgd-ce", CLEAN),
        "predicted": np.array([0, 1] * 3 + [1, 0, 1, 0]),
        "floor": Fraction(7, 10),
        "bound": "exact",
        "stages": (Stage("pgd", 9, 2, Cost(90, 81, 0.1)), Stage("apgd-ce", 7, 1, Cost(70, 63, 0.2))),
        "health": Health(),
        "cost": Cost(1700, 1440, 0.3),
        "weakest": Weakest(7, f"{7:016x}", 1, 0, 0.9 / 255, "0.9/255"),
    }
    return Evaluation(**values | changes)


def check(id: str = "test_it.py::test_a", **changes: Any) -> Record:
    """A record as the plugin makes it of an evaluation."""
    extras = {
        "tier": "critical",
        "lacks_floor": False,
        "family": None,
        "curve": [],
        "reproduce": f'pytest "{id}"',
        "replay": None,
        "comparison": None,
        "outcome": "failed",
    }
    extras |= {key: changes.pop(key) for key in extras.keys() & changes.keys()}
    return record(evaluation(**changes), id) | extras


def comparison(newly_broken: int = 3, newly_robust: int = 0) -> Record:
    """With a baseline that was right without attack as often; of ten examples so many changed under attack."""
    robust, clean = Change(Paired(10, newly_broken, newly_robust), 0.02), Change(Paired(10, 0, 0), 0.01)
    return plain(Comparison(robust, clean), "main@4f2c9e1")


def item(nodeid: str = "test_it.py::test_a", outcome: Any = "failed", *records: Record, message: str = "") -> ItemResult:
    return ItemResult(nodeid, outcome, list(records), message)


def health(*levels: str, waived: str | None = None) -> Health:
    return Health(tuple(HealthCheck(f"check-{level}", level, f"it is {level}", waived) for level in levels))  # type: ignore[arg-type]


UNSURE = {
    "bound": "upper",
    "robust": np.array([True] * 6 + [False] * 4),
    "broken_by": (None, None, None, None, UNDECIDED, UNDECIDED, "pgd", "pgd", "pgd", CLEAN),
}
SAMPLED = UNSURE | {"bound": "sampled", "sample": Sample(7, 4, 9, 0.99, 4, 6)}
