"""A metric under random edits as plain JSON values, of the form of a check: what counts examples there is a sum here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from pytest_robust.levels import LEVELS, Level, believable
from pytest_robust.regression import ALIKE
from pytest_robust.reports.record import TEXTS, Record, threat_record
from pytest_robust.reports.words import percent

if TYPE_CHECKING:
    from pytest_robust.evaluation.means import Fluctuation, Worst


def mean_record(
    found: Fluctuation,
    name: str,
    id: str,
    *,
    floor: float | None,
    confidence: float | None,
    profile: str,
    waive: Mapping[str, str],
) -> Record:
    """The record of one metric; see ``record``.

    ``k`` of accuracies is the sum of the values of the texts, without edits and with the worst of each, and ``needed`` what
    it has to come to.

    Args:
        confidence: with it the lower limit of the interval has to reach the floor, else the mean itself. waive: reasons by
            the names of findings that are set aside.
    """
    metric, outcomes = found[name], found.outcomes(name)
    n, worst = len(metric.rows), found.worst_texts(name)
    sums = {"clean": n * metric.clean, "robust": n * metric.worst}
    least = metric.worst if confidence is None else metric.interval(confidence=confidence)[0]
    needed = None if floor is None else n * (floor + metric.worst - least)
    met = needed is None or sums["robust"] >= needed
    findings = list(_findings(found, name, floor, waive))
    counted: list[Level] = [finding["level"] for finding in findings if finding["waived"] is None]
    level = max(counted, key=LEVELS.index, default=LEVELS[0])
    credible = believable(level, profile)
    identity = found.identity
    return {
        "id": id,
        "name": name,
        "model": found.model,
        "metric": name,
        "samples": found.k,
        "confidence": confidence,
        "threat": threat_record(found.threat),
        "objective": outcomes.objective,
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
        "verdict": "report" if needed is None else "pass" if met and credible else "fail",
        "believable": credible,
        # Not "trusted": nothing was searched.
        "health": {"level": level if counted else "measure", "checks": findings},
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


def _findings(found: Fluctuation, name: str, floor: float | None, waive: Mapping[str, str]) -> Iterator[Record]:
    """What speaks against the figure: a floor must not be met by what was not tried, or not asked."""
    metric, n = found[name], len(found.texts)
    still = [row in found.fixed for row in metric.rows]
    if any(still):
        moved = [value for value, fixed in zip(metric.worst_edits, still, strict=True) if not fixed]
        # Would it be met by those alone that can be edited?
        decisive = not moved or (floor is not None and sum(moved) / len(moved) < floor)
        detail = f"nothing can be edited in {sum(still)} of {len(still)} texts, which count as stable"
        yield _finding(
            "room", decisive, detail + ("; without them the floor is missed" if decisive and moved else ""), waive
        )
    if len(metric.rows) < n:
        detail = f"{name} is of {len(metric.rows)} of {n} texts: the others have nothing that they are held against"
        yield _finding("references", len(metric.rows) < n / 2, detail, waive)


def _finding(name: str, invalid: bool, detail: str, waive: Mapping[str, str]) -> Record:
    return {"name": name, "level": "invalid" if invalid else "suspicious", "detail": detail, "waived": waive.get(name)}


def _limits(found: Fluctuation, name: str, which: str) -> Record:
    if which == "clean" and name in ALIKE:
        return {"low": None, "high": None}
    low, high = found[name].interval("worst" if which == "robust" else "clean")
    return {"low": low, "high": high}


def _text(worst: Worst) -> Record:
    """As a broken text is shown: from what its metric fell, and to what."""
    figures = {"label_name": percent(worst.before, 1), "predicted_name": percent(worst.after, 1)}
    changed = {"clean": [worst.text], "changed": [worst.edit]}
    return {"index": worst.row, "label": 0, "predicted": 1, **figures, "by": "random edit", **changed}


def _notes(found: Fluctuation, name: str) -> list[str]:
    """What else was measured."""
    metric = found[name]
    lost = f"the worst edit takes {percent(metric.drop, 1)} of a text's {name} on average"
    notes = [f"mean of all edits {percent(metric.mean, 1)}; {lost}"]
    others = [
        f"{other.name} {percent(other.clean, 1)} -> {percent(other.worst, 1)}"
        for other in found.metrics.values()
        if other is not metric
    ]
    notes += [f"without edits, and with the worst: {', '.join(others)}"] if others else []
    if found.hallucinations is not None:
        notes.append(
            f"{found.hallucinations} hallucinations, {found.true_successes} true successes of {len(found['chrf'].rows)} "
            "texts with references"
        )
    if len(found.texts) < found.of:
        notes.append(f"a subset of {len(found.texts)} of {found.of} texts, chosen by content and seed {found.seed}")
    return notes
