"""Comparisons with baselines as plain JSON values, and those of a run judged as one family."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_robust.regression import ACCURACY, Change, Comparison, Paired, PairedMeans, corrected
from pytest_robust.reports.record import Record

ALPHA = 0.05
"""Probability that an unchanged model regresses somewhere in a run, at most."""


def plain(comparison: Comparison, against: str) -> Record:
    """A comparison as JSON values."""
    changes = {"robust": comparison.robust, "clean": comparison.clean}
    return {
        "against": against,
        "verdict": comparison.verdict,
        "unlike": comparison.unlike,
        "reasons": list(comparison.reasons),
        "sentence": str(comparison),
        "metric": comparison.metric,
        **{name: None if change is None else _plain(change) for name, change in changes.items()},
    }


def _plain(change: Change) -> Record:
    low, high = change.interval
    return {
        "n": change.paired.n,
        "newly_broken": change.paired.newly_broken,
        "newly_robust": change.paired.newly_robust,
        "drop": change.paired.drop,
        "flip_rate": change.paired.flip_rate,
        "low": low,
        "high": high,
        "margin": change.margin,
        "confidence": change.confidence,
        "by_chance": change.by_chance,
        "same_model": change.same_model,
        "deciding": change.deciding,
        "verdict": change.verdict,
    }


def _comparison(record: Record) -> Comparison:
    metric = record["metric"]
    robust, clean = (None if record[name] is None else _change(record[name], metric) for name in ("robust", "clean"))
    return Comparison(robust, clean, record["unlike"], tuple(record["reasons"]), metric)


def _change(record: Record, metric: str) -> Change:
    n, broken, better = (record[name] for name in ("n", "newly_broken", "newly_robust"))
    paired = (
        Paired(n, broken, better)
        if metric == ACCURACY
        else PairedMeans(n, broken, better, record["drop"], record["flip_rate"])
    )
    return Change(paired, record["margin"], record["confidence"], same_model=record["same_model"])


def judged_together(checks: Sequence[Record]) -> list[Record]:
    """The checks of a run, with their comparisons judged as one family."""
    rows = [i for i, check in enumerate(checks) if check.get("comparison")]
    family = corrected((_comparison(checks[i]["comparison"]) for i in rows), ALPHA)
    judged = list(checks)
    for i, comparison in zip(rows, family, strict=True):
        before = checks[i]["comparison"]
        # Its test has failed for it: many checks in one test must not make that undone.
        if before["verdict"] != "regressed":
            found = plain(comparison, before["against"])
            verdict = "fail" if found["verdict"] == "regressed" else checks[i]["verdict"]
            judged[i] = checks[i] | {"comparison": found, "verdict": verdict}
    return judged
