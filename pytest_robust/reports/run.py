"""A whole run as plain JSON values: the checks, what went wrong, and the gate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_robust.reports import words
from pytest_robust.reports.comparison import judged_together
from pytest_robust.reports.monotone import monotone
from pytest_robust.reports.record import Record

SCHEMA = 1
Outcome = Literal["passed", "failed", "skipped", "xfailed"]
Run = dict[str, Any]

_ALWAYS = ("floor", "not_evidence", "assertion", "error", "missing")
_COMPARED = (*_ALWAYS, "regressed")
_RELEASE = (*_COMPARED, "inconclusive", "incomparable", "new", "absent", "skipped", "untrusted")
FAILING = {"off": _ALWAYS, "no-regression": _COMPARED, "release": _RELEASE}
"""What fails each gate."""
_WORDS = {"not_evidence": "not evidence", "new": "without a baseline", "absent": "with a baseline not run"}


@dataclass
class ItemResult:
    """What is known about one robust test.

    Attributes:
        nodeid: pytest's id. outcome: pytest's verdict. records: one per check, in the order of their calls.
        message: the first line of the failure, where there is one. raised: it is an error, and no assertion.
        errors: by id, the first line of what went wrong in a check that has no record, caught by the test or not.
    """

    nodeid: str
    outcome: Outcome = "passed"
    records: list[Record] = field(default_factory=list)
    message: str = ""
    errors: dict[str, str] = field(default_factory=dict)
    raised: bool = False


def run(
    items: Iterable[ItemResult],
    *,
    missing: Sequence[str],
    complete: bool,
    version: str,
    gate: str = "off",
    absent: Sequence[str] = (),
) -> Run:
    """The run of these robust tests, in this order.

    Args:
        missing: ids of tests that were collected and never reported. complete: False when the session was cut short.
        gate: ``"off"``, ``"no-regression"`` or ``"release"``. absent: ids of baselines whose check did not run.
    """
    checks: list[Record] = []
    errors: list[Record] = []
    skipped: list[str] = []
    counts: Counter[str] = Counter(missing=len(missing), absent=len(absent))
    for item in items:
        own = judged(item)
        checks += own
        failed = item.outcome == "failed"
        reasons = _reasons(own) if failed else []
        found = item.errors or ({item.nodeid: item.message} if failed and not reasons else {})
        errors += [{"id": id, "message": message, "outcome": item.outcome} for id, message in found.items()]
        if item.outcome in ("skipped", "xfailed") and not own and not found:
            skipped.append(item.nodeid)
        counts["advisory"] += sum(check["tier"] == "advisory" and check["verdict"] == "fail" for check in own)
        if failed:
            # Regressions are counted below, with those that only the run as a whole shows.
            counts.update([*(reason for reason in reasons if reason != "regressed"), *("error" for _ in found)])
    counts["skipped"] = len(skipped)
    told = checks
    checks = monotone(judged_together(with_curves(checks)), _but_for_the_budget)
    for before, check in zip(told, checks, strict=True):
        # What no test could know by itself.
        counts["not_evidence"] += before["believable"] and not check["believable"] and check["tier"] != "advisory"
        critical = check["tier"] != "advisory"
        if check["comparison"] is not None and critical and check["comparison"]["verdict"] != "pass":
            counts[check["comparison"]["verdict"]] += 1
        counts["untrusted"] += (
            critical and check["health"]["level"] not in ("trusted", "measure") and check["verdict"] != "fail"
        )
    gated = any(check["floor"] is not None or check["comparison"] is not None for check in checks)
    return {
        "schema": SCHEMA,
        "tool": {"name": "pytest-robust", "version": version},
        "complete": complete and not missing,
        "gate": _gate(gate, counts, gated, complete) | {"unfailed": _unfailed(checks, errors)},
        "checks": checks,
        "errors": errors,
        "missing": list(missing),
        "skipped": skipped,
        "absent": list(absent),
    }


def judged(item: ItemResult) -> list[Record]:
    """The test's checks, with what pytest made of the test.

    What a test asserts itself is unknown here: when an assertion fails and no check explains it, all that it only reported
    count as failed.
    """
    explained = item.raised or any(
        check["verdict"] == "fail" or not check["believable"] or words.regressed(check) for check in item.records
    )
    checks = []
    for check in item.records:
        verdict = "fail" if words.regressed(check) else check["verdict"]
        if verdict == "report" and item.outcome == "failed":
            verdict = "fail" if not explained or not check["believable"] else "report"
        checks.append(check | {"nodeid": item.nodeid, "outcome": item.outcome, "verdict": verdict})
    return checks


def with_curves(checks: Iterable[Record]) -> list[Record]:
    """The checks, each with its ``curve``: the points of all that differ in the budget only, where there are several."""
    checks = list(checks)
    alike: dict[object, dict[float, Record]] = {}
    for check in checks:
        alike.setdefault(_but_for_the_budget(check), {})[check["threat"]["value"]] = {
            "eps": check["threat"]["eps"],
            "value": check["threat"]["value"],
            "n": check["n"],
            "bound": check["bound"],
            "robust": check["robust"],
        }
    curves = {key: [points[value] for value in sorted(points)] if len(points) > 1 else [] for key, points in alike.items()}
    return [check | {"curve": curves[_but_for_the_budget(check)]} for check in checks]


def _but_for_the_budget(check: Record) -> object:
    """What two points of one curve have in common; a check without a family has no other."""
    if check["family"] is None:
        return check["id"]
    facts = (check[key] for key in ("family", "model", "objective", "profile", "seed"))
    return (*facts, check["threat"]["norm"], check["threat"]["bounds"], *check["examples"]["ids"])


def gate_line(run: Run) -> str:
    """``robust gate: FAIL, 1 floor, 1 error``."""
    gate, checks = run["gate"], run["checks"]
    counted = _counted(len(checks), "check")
    none = f"no floor was set, {counted} reported only" if checks else "no check was decided"
    verdicts = {"pass": f"pass, {counted}", "fail": "FAIL", "incomplete": f"INCOMPLETE, {counted}", "none": none}
    parts = [verdicts[gate["verdict"]]]
    parts += [_counted(gate[noun], noun) for noun in ("floor", "assertion", "error") if gate[noun]]
    named = ["not_evidence", "missing", "regressed", "inconclusive", "incomparable", "new", "absent", "advisory", "skipped"]
    named += ["untrusted"] if gate["kind"] == "release" else []
    parts += [f"{gate[key]} {_WORDS.get(key, key)}" for key in named if gate[key]]
    if gate["verdict"] != "fail":
        suspicious = sum(check["verdict"] != "fail" and check["health"]["level"] == "suspicious" for check in checks)
        parts += [f"{suspicious} suspicious"] if suspicious else []
        floorless = sum(check["floor"] is None and check["comparison"] is None for check in checks)
        parts += [f"{floorless} without a floor"] if floorless and gate["verdict"] != "none" else []
        parts += ["smoke profile: no evidence"] if any(check["profile"] == "smoke" for check in checks) else []
    for outcome, found in gate["unfailed"].items():
        for noun, number in found.items():
            tests = "its test" if number == 1 else "their tests"
            fates = {"passed": f"caught by {tests}", "skipped": f"skipped by {tests}", "xfailed": "expected (xfail)"}
            parts.append(f"{_counted(number, noun)} {fates[outcome]}")
    if not run["complete"] and gate["verdict"] != "incomplete":
        parts.append("incomplete")
    kind = "" if gate["kind"] == "off" else f" ({gate['kind']})"
    return f"robust gate{kind}: {', '.join(parts)}"


def _unfailed(checks: list[Record], errors: list[Record]) -> dict[str, dict[str, int]]:
    """What went wrong and failed no test, counted by the test's outcome: a gate that passes says so."""
    found = {outcome: Counter[str]() for outcome in ("passed", "skipped", "xfailed")}
    for error in errors:
        if error["outcome"] in found:
            found[error["outcome"]]["error"] += 1
    for check in checks:
        missed = words.misses_floor(check)
        wrong = check["tier"] != "advisory" and (missed or not check["believable"])
        if wrong and check["outcome"] in found:
            found[check["outcome"]]["missed floor" if missed else "invalid check"] += 1
    return {outcome: dict(counts) for outcome, counts in found.items()}


def _reasons(checks: list[Record]) -> list[str]:
    """Why a test that failed did so, one word per failed check; empty when none of its checks explains it."""
    reasons = []
    for check in checks:
        if check["verdict"] == "fail" and check["tier"] != "advisory":
            invalid = not check["believable"]
            other = "regressed" if words.regressed(check) else "not_evidence" if invalid else "assertion"
            reasons.append("floor" if words.misses_floor(check) else other)
    return reasons


def _gate(kind: str, counts: Counter[str], gated: bool, complete: bool) -> Record:
    """``fail``; ``incomplete``: nothing failed, but the session was cut short; ``none``: nothing could fail; ``pass``."""
    failed = any(counts[key] for key in FAILING[kind])
    verdict = "fail" if failed else "none" if not gated else "pass" if complete else "incomplete"
    shown = dict.fromkeys((*FAILING["release"], "advisory"))
    return {"kind": kind, "verdict": verdict} | {key: counts[key] for key in shown}


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
