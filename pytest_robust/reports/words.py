"""How numbers and verdicts of a record read, the same in every report."""

from __future__ import annotations

from pytest_robust.reports.record import Record


def percent(k: int, n: int) -> str:
    return f"{100 * k / n:.1f}%"


def bounded(check: Record) -> str:
    """Robust accuracy, with ``<=``, ``>=`` or ``~`` where the verdict was certain before every example was decided."""
    sign = {"exact": "", "upper": "<= ", "lower": ">= ", "sampled": "~ "}[check["bound"]]
    return sign + percent(check["robust"]["k"], check["n"])


def interval(check: Record, which: str = "robust") -> str:
    """The 95 % interval in percent; that of a sample; a bound has none: how many examples it was decided on."""
    if which == "robust" and check["sample"] is not None:
        return f"{_sampled(check)}, {check['sample']['drawn']} of {check['n']} drawn"
    if which == "robust" and check["bound"] != "exact":
        return f"decided on {check['decided']} of {check['n']}"
    rate = check[which]
    return f"{100 * rate['low']:.1f} - {100 * rate['high']:.1f}"


def threat(check: Record) -> str:
    """``linf 8/255``."""
    return f"{check['threat']['norm']} {check['threat']['eps']}"


def misses_floor(check: Record) -> bool:
    return check["needed"] is not None and check["robust"]["k"] < check["needed"]


def floor(check: Record) -> str:
    return "-" if check["floor"] is None else f"{100 * check['floor']:.1f}%"


def conditions(check: Record) -> str:
    """``(linf 8/255, n=1000, 95% CI 28.3-34.2)``, or that it is a bound and on how many examples it rests."""
    if check["sample"] is not None:
        sure = f"{100 * check['sample']['confidence']:g}% sure of {_sampled(check)} from {check['sample']['drawn']} drawn"
        return f"({threat(check)}, n={check['n']}, {sure})"
    if check["bound"] != "exact":
        side = "at most" if check["bound"] == "upper" else "at least"
        return f"({threat(check)}, n={check['n']}, {side}: decided on {check['decided']} of {check['n']})"
    low, high = (100 * check["robust"][side] for side in ("low", "high"))
    return f"({threat(check)}, n={check['n']}, 95% CI {low:.1f}-{high:.1f})"


def _sampled(check: Record) -> str:
    """The interval of the sample in percent of all examples."""
    return "{:.1f}-{:.1f}".format(*(100 * check["sample"][side] / check["n"] for side in ("least", "most")))


def missed_floor(check: Record) -> str:
    """The sentence of a missed floor.

    It has the form of a failed assert, for pytest then prints it without the name of the exception. After an early
    decision it holds for the best that was still possible, and the conditions say so.
    """
    accuracy, wanted = percent(check["robust"]["k"], check["n"]), f"{100 * check['floor']:.1f}%"
    if accuracy == wanted:  # rounding hides the gap: counts do not
        accuracy, wanted = f"{check['robust']['k']} of {check['n']}", f"{check['needed']}"
    return f"assert robust accuracy {accuracy} >= {wanted} {conditions(check)}"


def not_evidence(check: Record) -> str:
    """The sentence of an evaluation that cannot be believed."""
    level = check["health"]["level"]
    worst = next(c for c in check["health"]["checks"] if c["level"] == level and not c["waived"])
    return f"not evidence: {worst['name']}: {worst['detail']} (robust accuracy {bounded(check)}, {threat(check)})"


def regressed(check: Record) -> bool:
    return check["comparison"] is not None and check["comparison"]["verdict"] == "regressed"


def regression(check: Record) -> str:
    """The sentence of a regression against the baseline."""
    comparison = check["comparison"]
    told = comparison["sentence"].removeprefix("REGRESSED: ")
    return f"regressed against {comparison['against']}: {told} ({threat(check)})"


def drop(check: Record) -> str:
    """The drop of robust accuracy against the baseline, or why there is none: ``-14.7 pt``, ``new``; ``-`` without one."""
    comparison = check["comparison"]
    if comparison is None:
        return "-"
    change = comparison["robust"]
    if change is None:
        return str(comparison["unlike"])
    text = f"{0.0 - 100 * change['drop']:+.1f} pt"
    if comparison["verdict"] == "inconclusive":
        deciding = max(c["deciding"] for c in (change, comparison["clean"]) if c is not None)
        return f"{text} (n ~ {deciding} decides)" if deciding > change["n"] else f"{text} (inconclusive)"
    return text


def unfailed(outcome: str) -> str:
    """Why the test of what went wrong did not fail, in parentheses; empty where it did."""
    return {"passed": " (caught by the test)", "skipped": " (skipped by the test)", "xfailed": " (xfail)"}.get(outcome, "")


def verdict(check: Record) -> str:
    """The verdict in words, as tables show it."""
    words = "pass"
    if misses_floor(check) and regressed(check):
        words = "FAIL floor, REGRESSED"
    elif misses_floor(check):
        words = "FAIL floor"
    elif regressed(check):
        words = "FAIL REGRESSED"
    elif not check["believable"]:
        words = "FAIL not evidence"
    elif check["verdict"] == "fail":
        words = "FAIL assertion"
    elif check["verdict"] == "report" and check["comparison"] is not None:
        words = "no regression" if check["comparison"]["verdict"] == "pass" else str(check["comparison"]["verdict"])
    elif check["verdict"] == "report":
        words = f"report only (no floor for {threat(check)})" if check["lacks_floor"] else "report only"
    if words == "FAIL REGRESSED" and check["outcome"] == "passed":
        return f"{words} (seen in the run as a whole)"
    if words.startswith("FAIL"):
        if check["tier"] == "advisory" and check["outcome"] != "failed":
            return f"advisory: {words}"
        return words + unfailed(check["outcome"])
    return words if check["profile"] != "smoke" else f"{words} (smoke: no evidence)"
