"""One evaluation as plain JSON values: what reports are made of, and what an xdist worker sends to its controller."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_robust.regression import ACCURACY

if TYPE_CHECKING:
    from pytest_robust.evaluation import Evaluation, Rate
    from pytest_robust.evaluation.result import Cost
    from pytest_robust.threats.summary import ThreatSummary

Record = dict[str, Any]
TEXTS = 6
"""Broken texts that reports show."""


def record(evaluation: Evaluation, id: str) -> Record:
    """The record of an evaluation; ``json.dumps`` takes it, and nothing in it but ``seconds`` varies between equal runs.

    ``needed`` is the smallest number of robust examples that meets the floor; accuracies are counts, with the exact 95 %
    interval as fractions; the lists under ``examples`` are in data order, but for ``texts``: a few broken texts, the weakest
    first.
    """
    e = evaluation
    return {
        "id": id,
        "name": str(e.name),
        "model": e.model,
        "metric": ACCURACY,
        "samples": None,
        "confidence": None,
        "threat": threat_record(e.threat),
        "objective": e.objective,
        "profile": e.profile,
        "attacks": list(e.attacks),
        "seed": int(e.seed),  # what the user passes may be a numpy integer, which is no JSON
        "device": e.device,
        "n": len(e),
        "decided": e.decided,
        "bound": e.bound,
        "sample": None if e.sample is None else asdict(e.sample),
        "clean": _rate(e.clean_accuracy),
        "robust": _rate(e.accuracy, exact=e.bound == "exact"),
        "floor": None if e.floor is None else float(e.floor),
        "needed": None if e.floor is None else math.ceil(e.floor * len(e)),
        "verdict": e.verdict,
        "believable": e.believable,
        "health": {
            "level": e.health.level,
            "checks": [
                {"name": c.name, "level": c.level, "detail": c.detail, "waived": c.waived and str(c.waived)}
                for c in e.health.checks
            ],
        },
        "broken_by": e.broken_counts(),
        "weakest": None if e.weakest is None else _named(e, asdict(e.weakest)),
        "classes": _classes(e),
        "stages": [
            {"attack": s.attack, "attacked": s.attacked, "broken": s.broken, "cost": _cost(s.cost)} for s in e.stages
        ],
        "cost": _cost(e.cost),
        "cached": e.cached,
        "schedule": list(e.schedule),
        "comparison": None,
        "retrained": None,
        "curve": [],
        "key": None if e.identity is None else e.identity.check,
        "digests": None if e.identity is None else {k: getattr(e.identity, k) for k in ("attack", "data", "model")},
        "notes": list(e.notes),
        "examples": {
            "ids": list(e.ids),
            "labels": e.labels.tolist(),
            "correct": [int(right) for right in e.correct],
            "robust": [int(right) for right in e.robust],
            "broken_by": list(e.broken_by),
            "predicted": e.predicted.tolist(),
            "texts": _texts(e),
        },
    }


def threat_record(threat: ThreatSummary) -> Record:
    """``ThreatSummary`` takes it back."""
    return asdict(threat)


def _texts(e: Evaluation) -> list[Record]:
    """A few of the texts that edits have broken; a pair has two parts."""
    return [
        _named(e, {"index": row, "label": int(e.labels[row]), "predicted": int(e.predicted[row])})
        | {"by": e.broken_by[row], "clean": _parts(clean), "changed": _parts(changed)}
        for row, (clean, changed) in list(e.changed.items())[:TEXTS]
    ]


def _parts(text: str | tuple[str, ...]) -> list[str]:
    return [text] if isinstance(text, str) else list(text)


def _named(e: Evaluation, hit: Record) -> Record:
    """With what the classes are called."""
    return hit | {"label_name": e.class_name(hit["label"]), "predicted_name": e.class_name(hit["predicted"])}


def _rate(rate: Rate, *, exact: bool = True) -> Record:
    """Counts and interval; a bound is no estimate, so it has no interval."""
    low, high = rate.interval()
    return {"k": rate.k, "n": rate.n, "low": low if exact else None, "high": high if exact else None}


def _cost(cost: Cost) -> Record:
    return {"forward": cost.forward, "backward": cost.backward, "seconds": cost.seconds}


def _classes(e: Evaluation) -> list[Record]:
    """Robust examples per class that occurs, by label; none after an early decision, which says nothing of a class."""
    if e.bound != "exact":
        return []
    counts = {label: e.robust[e.labels == label] for label in sorted(set(e.labels.tolist()))}
    return [{"label": c, "name": e.class_name(c), "k": int(robust.sum()), "n": len(robust)} for c, robust in counts.items()]
