"""A whole run as plain JSON values: the checks, what went wrong, and the gate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_robust.reports import words
from pytest_robust.reports.record import Record

SCHEMA = 1
Outcome = Literal["passed", "failed", "skipped", "xfailed"]
Run = dict[str, Any]


@dataclass
class ItemResult:
    """What is known about one robust test.

    Attributes:
        nodeid: pytest's id. outcome: pytest's verdict. records: one per check, in the order of their calls.
        message: the first line of the failure, where there is one.
    """

    nodeid: str
    outcome: Outcome = "passed"
    records: list[Record] = field(default_factory=list)
    message: str = ""


def run(items: Iterable[ItemResult], *, missing: Sequence[str], complete: bool, version: str) -> Run:
    """The run of these robust tests, in this order.

    Args:
        missing: ids of tests that were collected and never reported. complete: False when the session was cut short.
    """
    checks: list[Record] = []
    errors: list[Record] = []
    counts: Counter[str] = Counter(missing=len(missing))
    for item in items:
        own = judged(item)
        checks += own
        if not own and item.outcome == "failed":
            errors.append({"id": item.nodeid, "message": item.message})
        counts["skipped"] += item.outcome in ("skipped", "xfailed") and not own
        counts["advisory"] += sum(check["tier"] == "advisory" and check["verdict"] == "fail" for check in own)
        if item.outcome == "failed":
            counts.update(_reasons(own) or ["error"])
    return {
        "schema": SCHEMA,
        "tool": {"name": "pytest-robust", "version": version},
        "complete": complete and not missing,
        "gate": _gate(counts, bool(checks), complete),
        "checks": checks,
        "errors": errors,
        "missing": list(missing),
    }


def judged(item: ItemResult) -> list[Record]:
    """The test's checks, with what pytest made of the test.

    What a test asserts itself is unknown here: when it fails and no check of it explains that, all that it only reported
    count as failed.
    """
    explained = any(check["verdict"] == "fail" or check["health"]["level"] == "invalid" for check in item.records)
    checks = []
    for check in item.records:
        verdict = check["verdict"]
        if verdict == "report" and item.outcome == "failed":
            verdict = "fail" if not explained or check["health"]["level"] == "invalid" else "report"
        checks.append(check | {"nodeid": item.nodeid, "outcome": item.outcome, "verdict": verdict})
    return checks


def gate_line(run: Run) -> str:
    """``robust gate: FAIL, 1 floor, 1 error``."""
    gate, checks = run["gate"], run["checks"]
    word = {"pass": "pass", "fail": "FAIL", "incomplete": "INCOMPLETE", "none": "no check was decided"}[gate["verdict"]]
    parts = [word, *([_counted(len(checks), "check")] if gate["verdict"] in ("pass", "incomplete") else [])]
    parts += [_counted(gate[noun], noun) for noun in ("floor", "assertion", "error") if gate[noun]]
    parts += [
        f"{gate[key]} {key.replace('_', ' ')}" for key in ("not_evidence", "missing", "advisory", "skipped") if gate[key]
    ]
    if gate["verdict"] != "fail":
        floorless = sum(check["floor"] is None for check in checks)
        parts += [f"{floorless} without a floor"] if floorless else []
        parts += ["smoke profile: no evidence"] if any(check["profile"] == "smoke" for check in checks) else []
    caught = sum(
        check["verdict"] == "fail"
        and check["outcome"] == "passed"
        and words.misses_floor(check)
        and check["tier"] != "advisory"
        for check in checks
    )
    if caught:
        parts.append(f"{_counted(caught, 'missed floor')} caught by {'its test' if caught == 1 else 'their tests'}")
    if not run["complete"] and gate["verdict"] == "fail":
        parts.append("incomplete")
    return f"robust gate: {', '.join(parts)}"


def _reasons(checks: list[Record]) -> list[str]:
    """Why a test that failed did so, one word per failed check; empty when none of its checks explains it."""
    reasons = []
    for check in checks:
        if check["verdict"] == "fail" and check["tier"] != "advisory":
            invalid = check["health"]["level"] == "invalid"
            reasons.append("floor" if words.misses_floor(check) else "not_evidence" if invalid else "assertion")
    return reasons


def _gate(counts: Counter[str], any_check: bool, complete: bool) -> Record:
    """``fail``; ``incomplete``: nothing failed, but the session was cut short; ``pass``; ``none``: no check was decided."""
    failing = ("floor", "not_evidence", "assertion", "error", "missing")
    verdict = (
        "fail" if any(counts[key] for key in failing) else "none" if not any_check else "pass" if complete else "incomplete"
    )
    return {"verdict": verdict} | {key: counts[key] for key in (*failing, "advisory", "skipped")}


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
