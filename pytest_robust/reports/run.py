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
        message: the first line of the failure, where there is one. raised: it is an error, and no assertion.
        errors: by id, the first line of what went wrong in a check that has no record, caught by the test or not.
    """

    nodeid: str
    outcome: Outcome = "passed"
    records: list[Record] = field(default_factory=list)
    message: str = ""
    errors: dict[str, str] = field(default_factory=dict)
    raised: bool = False


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
        failed = item.outcome == "failed"
        reasons = _reasons(own) if failed else []
        found = item.errors or ({item.nodeid: item.message} if failed and not reasons else {})
        errors += [{"id": id, "message": message, "outcome": item.outcome} for id, message in found.items()]
        counts["skipped"] += item.outcome in ("skipped", "xfailed") and not own and not found
        counts["advisory"] += sum(check["tier"] == "advisory" and check["verdict"] == "fail" for check in own)
        if failed:
            counts.update([*reasons, *("error" for _ in found)])
    checks = with_curves(checks)
    return {
        "schema": SCHEMA,
        "tool": {"name": "pytest-robust", "version": version},
        "complete": complete and not missing,
        "gate": _gate(counts, any(check["floor"] is not None for check in checks), complete)
        | {"unfailed": _unfailed(checks, errors)},
        "checks": checks,
        "errors": errors,
        "missing": list(missing),
    }


def judged(item: ItemResult) -> list[Record]:
    """The test's checks, with what pytest made of the test.

    What a test asserts itself is unknown here: when an assertion fails and no check explains it, all that it only reported
    count as failed.
    """
    explained = item.raised or any(check["verdict"] == "fail" or not check["believable"] for check in item.records)
    checks = []
    for check in item.records:
        verdict = check["verdict"]
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
    parts += [
        f"{gate[key]} {key.replace('_', ' ')}" for key in ("not_evidence", "missing", "advisory", "skipped") if gate[key]
    ]
    if gate["verdict"] != "fail":
        suspicious = sum(check["verdict"] != "fail" and check["health"]["level"] == "suspicious" for check in checks)
        parts += [f"{suspicious} suspicious"] if suspicious else []
        floorless = sum(check["floor"] is None for check in checks)
        parts += [f"{floorless} without a floor"] if floorless and gate["verdict"] != "none" else []
        parts += ["smoke profile: no evidence"] if any(check["profile"] == "smoke" for check in checks) else []
    for outcome, found in gate["unfailed"].items():
        for noun, number in found.items():
            tests = "its test" if number == 1 else "their tests"
            fates = {"passed": f"caught by {tests}", "skipped": f"skipped by {tests}", "xfailed": "expected (xfail)"}
            parts.append(f"{_counted(number, noun)} {fates[outcome]}")
    if not run["complete"] and gate["verdict"] != "incomplete":
        parts.append("incomplete")
    return f"robust gate: {', '.join(parts)}"


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
            reasons.append("floor" if words.misses_floor(check) else "not_evidence" if invalid else "assertion")
    return reasons


def _gate(counts: Counter[str], any_floor: bool, complete: bool) -> Record:
    """``fail``; ``incomplete``: nothing failed, but the session was cut short; ``none``: no check has a floor; ``pass``."""
    failing = ("floor", "not_evidence", "assertion", "error", "missing")
    verdict = (
        "fail" if any(counts[key] for key in failing) else "none" if not any_floor else "pass" if complete else "incomplete"
    )
    return {"verdict": verdict} | {key: counts[key] for key in (*failing, "advisory", "skipped")}


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
