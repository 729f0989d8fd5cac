"""Checks against their baselines: compared where they run, accepted where the run is gathered."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_robust.pytest_plugin.gating import Gating
from pytest_robust.regression import Change, under_schedule
from pytest_robust.reports.comparison import ALPHA, plain
from pytest_robust.reports.record import Record
from pytest_robust.reports.run import Run
from pytest_robust.store.baseline import Baseline, Source

if TYPE_CHECKING:
    from pytest_robust.evaluation import Evaluation, Outcomes
    from pytest_robust.threats import Threat


def compared(gating: Gating, id: str, evaluation: Evaluation | Outcomes, margin: float | None, family: int) -> Record | None:
    """The comparison of a check with its baseline as plain JSON; None where nothing is compared.

    Args:
        margin: of this check, else that of the run. family: accuracies that the run compares, about.

    Raises:
        BaselineError: the baseline is there and cannot be read.
    """
    if gating.source is None or gating.update:
        return None
    from pytest_robust.evaluation.comparison import compare
    from pytest_robust.store.outcomes import of_baseline

    baseline = gating.source.find(id)
    old = None if baseline is None else of_baseline(baseline)
    comparison = compare(old, evaluation, margin=margin or gating.margin, clean_margin=gating.clean_margin)
    # What Holm's procedure rejects first it rejects at this level: such a regression fails its test at once.
    alone = [_at_once(change, family) for change in (comparison.robust, comparison.clean)]
    return plain(replace(comparison, robust=alone[0], clean=alone[1]), str(gating.source))


def _at_once(change: Change | None, family: int) -> Change | None:
    return None if change is None else replace(change, by_chance=change.paired.p_value > ALPHA / max(1, family))


def at_baseline(gating: Gating, id: str, threat: Threat) -> Threat:
    """The threat with what its baseline has measured its budget as, where that is in a unit of the model.

    Raises:
        BaselineError: the baseline is there and cannot be read.
    """
    if gating.source is None or gating.update or threat.budget.unit is None or threat.space != "embedding":
        return threat
    from pytest_robust.threats import EmbeddingBall, ThreatSummary

    baseline = gating.source.find(id)
    if baseline is None or not isinstance(threat, EmbeddingBall):
        return threat
    earlier = ThreatSummary(**baseline.threat)
    same = threat.measured(earlier.value).summary()
    return replace(threat, earlier=earlier) if (same.norm, same.eps) == (earlier.norm, earlier.eps) else threat


def critical(source: Source) -> list[str]:
    """Ids of the checks that must not go missing.

    Raises:
        BaselineError: a baseline cannot be read.
    """
    return [found.id for found in source.all() if found.tier == "critical"]


def unsettled(source: Source, run: Run) -> list[str]:
    """Of each critical check that neither passed the comparison nor regressed: the file, what is the matter, the way out."""
    lines = []
    for check in run["checks"]:
        comparison = check["comparison"]
        if comparison is None or check["tier"] == "advisory" or comparison["verdict"] in ("pass", "regressed"):
            continue
        file, verdict = source.named_file(check["id"]), comparison["verdict"]
        if verdict == "new":
            lines.append(f"{check['id']}: new: there is no {file}; accept the check: pytest --robust-update, and commit")
            continue
        told = comparison["sentence"].partition(": ")[2]
        lines.append(f"{check['id']}: {verdict} with {file}: {told}{_WAYS_OUT.get(verdict, '')}")
    # Only a release needs them all.
    absent = run["absent"] if run["gate"]["kind"] == "release" else []
    gone = "select it, or where it is gone for good: pytest-robust baseline prune"
    lines += [f"{id}: MISSING: it has a baseline, {source.named_file(id)}, and did not run; {gone}" for id in absent]
    return lines


_WAYS_OUT = {
    "incomparable": "; evaluate as the baseline was, or the accepted model as now: pytest --robust-update, and commit",
    "inconclusive": "; give the check more examples, or a wider margin",
}


def accepted(source: Source, checks: Sequence[Record], commit: Mapping[str, Any] | None) -> tuple[list[Path], list[str]]:
    """Write the baselines of the checks that met their floor; the files, and for each of the others why there is none.

    Raises:
        BaselineError: one cannot be written.
    """
    written, refused = [], []
    for check in checks:
        why = _unfit(check)
        if why is None:
            written.append(source.write(_baseline(check, commit)))
        else:
            refused.append(f"{check['id']}: {why}")
    return written, refused


def _unfit(check: Record) -> str | None:
    if check["verdict"] == "fail" or check["outcome"] != "passed":
        return "its test did not pass"
    if not check["believable"]:
        return "it is no evidence, see health"
    if check["bound"] != "exact":
        return "not every example was decided"
    if check["digests"] is None or check["digests"]["attack"] is None:
        return "what its attack is cannot be told: something in it has neither source nor plain values"
    return None


def _baseline(check: Record, commit: Mapping[str, Any] | None) -> Baseline:
    examples = check["examples"]
    order = sorted(range(check["n"]), key=lambda i: examples["ids"][i])
    robust, digests = under_schedule(examples["robust"], examples["broken_by"]), check["digests"]
    return Baseline(
        id=check["id"],
        tier=check["tier"],
        key=check["key"],
        threat=check["threat"],
        objective=check["objective"],
        attack={
            "profile": check["profile"],
            "names": check["schedule"],
            "seed": check["seed"],
            "digest": digests["attack"],
        },
        data=digests["data"],
        model=digests["model"],
        ids=tuple(examples["ids"][i] for i in order),
        clean=tuple(examples["correct"][i] for i in order),
        robust=tuple(robust[i] for i in order),
        environment={
            "python": platform.python_version(),
            "pytest-robust": version("pytest-robust"),
            "torch": version("torch"),
            "device": check["device"],
        },
        commit=commit,
        metric=check["metric"],
    )
