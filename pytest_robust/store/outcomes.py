"""What comparisons need to know of checks that are kept as plain values."""

from __future__ import annotations

from pytest_robust.evaluation.comparison import Outcomes
from pytest_robust.evaluation.replay import REPLAY
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
    )


def of_record(check: Record) -> Outcomes:
    """Those of a check in a run or a JSON report; what only an earlier run broke stands, see ``Outcomes.of``."""
    examples, stages = check["examples"], check["stages"]
    digests = check["digests"] or {"attack": None, "model": None}
    replayed = [by == REPLAY for by in examples["broken_by"]]
    untried = sum(replayed) if stages and stages[0]["attack"] == REPLAY else 0
    return Outcomes(
        ids=tuple(examples["ids"]),
        clean=tuple(map(bool, examples["correct"])),
        robust=tuple(bool(right) or found for right, found in zip(examples["robust"], replayed, strict=True)),
        threat=ThreatSummary(**check["threat"]),
        objective=check["objective"],
        seed=check["seed"],
        schedule=tuple(check["schedule"]),
        digest=digests["attack"],
        model=digests["model"],
        undecided=check["n"] - check["decided"] + untried,
        doubt=None if check["believable"] else worst_finding(check),
    )
