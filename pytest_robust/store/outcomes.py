"""What comparisons need to know of checks that are kept as plain values."""

from __future__ import annotations

from pytest_robust.evaluation.comparison import Outcomes
from pytest_robust.regression import ACCURACY, under_schedule, untried
from pytest_robust.reports.record import Record
from pytest_robust.reports.words import worst_finding
from pytest_robust.store.baseline import Baseline
from pytest_robust.threats.summary import ThreatSummary


def of_baseline(baseline: Baseline) -> Outcomes:
    attack = baseline.attack
    return Outcomes(
        ids=baseline.ids,
        clean=baseline.clean,
        robust=baseline.robust,
        threat=ThreatSummary(**baseline.threat),
        objective=baseline.objective,
        seed=attack["seed"],
        schedule=tuple(attack["names"]),
        digest=attack["digest"],
        model=baseline.model,
        metric=baseline.metric,
    )


def of_record(check: Record) -> Outcomes:
    """Those of a check in a run or a JSON report, under the schedule alone as in ``Outcomes.of``."""
    examples, metric = check["examples"], check.get("metric", ACCURACY)  # runs kept by an earlier version have none
    digests = check["digests"] or {"attack": None, "model": None}
    first = untried((stage["attack"] for stage in check["stages"]), examples["broken_by"])
    return Outcomes(
        ids=tuple(examples["ids"]),
        clean=tuple(examples["correct"]),
        robust=under_schedule(examples["robust"], examples["broken_by"]),
        threat=ThreatSummary(**check["threat"]),
        objective=check["objective"],
        seed=check["seed"],
        schedule=tuple(check["schedule"]),
        digest=digests["attack"],
        model=digests["model"],
        undecided=check["n"] - check["decided"] + first,
        doubt=None if check["believable"] else worst_finding(check),
        metric=metric,
    )
