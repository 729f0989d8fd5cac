"""A metric under random edits as plain JSON values, of the form of a check: what counts examples there is a sum here."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from pytest_robust.reports.record import TEXTS, Record, threat_record

if TYPE_CHECKING:
    from pytest_robust.evaluation.means import Fluctuation, Worst


def mean_record(
    found: Fluctuation, name: str, id: str, *, floor: float | None, confidence: float | None, profile: str
) -> Record:
    """The record of one metric; see ``record``.

    ``k`` of accuracies is the sum of the values of the texts, without edits and with the worst of each, and ``needed`` what
    it has to come to.

    Args:
        confidence: with it the lower limit of the interval has to reach the floor, else the mean itself.
    """
    metric, outcomes = found[name], found.outcomes(name)
    n, worst = len(metric.rows), found.worst_texts(name)
    sums = {"clean": n * metric.clean, "robust": n * metric.worst}
    least = metric.worst if confidence is None else metric.interval(confidence=confidence)[0]
    needed = None if floor is None else n * (floor + metric.worst - least)
    identity = found.identity
    return {
        "id": id,
        "name": name,
        "model": found.model,
        "metric": name,
        "samples": found.k,
        "confidence": confidence,
        "threat": threat_record(found.threat),
        "objective": name,
        "profile": profile,
        "attacks": list(outcomes.schedule),
        "seed": found.seed,
        "device": found.device,
        "n": n,
        "decided": n,
        "bound": "exact",
        "sample": None,
        **{which: {"k": k, "n": n, **_limits(found, name, which)} for which, k in sums.items()},
        "floor": floor,
        "needed": needed,
        "verdict": "report" if needed is None else "pass" if sums["robust"] >= needed else "fail",
        "believable": True,
        "health": {"level": "trusted", "checks": []},
        "broken_by": {},
        "weakest": None,
        "classes": [],
        "stages": [],
        "cost": asdict(found.cost),
        "cached": False,
        "schedule": list(outcomes.schedule),
        "comparison": None,
        "retrained": None,
        "curve": [],
        "key": None,
        "digests": {"attack": identity.attack, "data": identity.data, "model": identity.model},
        "notes": list(_notes(found, name)),
        "examples": {
            "ids": list(outcomes.ids),
            "labels": [0] * n,
            "correct": list(outcomes.clean),
            "robust": list(outcomes.robust),
            "broken_by": [None] * n,
            "predicted": [0] * n,
            "texts": [_text(one) for one in worst[:TEXTS]],
        },
    }


def _limits(found: Fluctuation, name: str, which: str) -> Record:
    low, high = found[name].interval("worst" if which == "robust" else "clean")
    return {"low": low, "high": high}


def _text(worst: Worst) -> Record:
    """As a broken text is shown: from what its metric fell, and to what."""
    figures = {"label_name": _percent(worst.before), "predicted_name": _percent(worst.after)}
    changed = {"clean": [worst.text], "changed": [worst.edit]}
    return {"index": worst.row, "label": 0, "predicted": 1, **figures, "by": "random edit", **changed}


def _notes(found: Fluctuation, name: str) -> list[str]:
    """What else was measured."""
    metric = found[name]
    lost = f"the worst edit takes {_percent(metric.drop)} of a text's {name} on average"
    notes = [f"mean of all edits {_percent(metric.mean)}; {lost}"]
    others = [
        f"{other.name} {_percent(other.clean)} -> {_percent(other.worst)}"
        for other in found.metrics.values()
        if other is not metric
    ]
    notes += [f"without edits, and with the worst: {', '.join(others)}"] if others else []
    if found.hallucinations is not None:
        notes.append(
            f"{found.hallucinations} hallucinations, {found.true_successes} true successes of {len(found.texts)} texts"
        )
    if found.fixed:
        notes.append(f"nothing can be edited in {found.fixed} of {len(found.texts)} texts: they count as stable")
    if len(found.texts) < found.of:
        notes.append(f"a subset of {len(found.texts)} of {found.of} texts, chosen by content and seed {found.seed}")
    return notes


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
