"""How numbers and verdicts of a record read, the same in every report."""

from __future__ import annotations

from collections import Counter

from pytest_robust.regression import ACCURACY
from pytest_robust.reports import texts
from pytest_robust.reports.record import Record

_DIGITS = (1, 2, 4)


def percent(k: float, n: int) -> str:
    return f"{100 * k / n:.1f}%"


def told_apart(one: float, other: float) -> tuple[str, str]:
    """Two shares in percent, with as many digits as it takes: 39.96% >= 40.0% must not read as 40.0% >= 40.0%."""
    texts = [(f"{100 * one:.{digits}f}%", f"{100 * other:.{digits}f}%") for digits in _DIGITS]
    return next((pair for pair in texts if pair[0] != pair[1] or one == other), texts[-1])


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
    if rate["low"] is None:
        return "-"  # it is 1 by definition
    return f"{100 * rate['low']:.1f} - {100 * rate['high']:.1f}"


def is_mean(check: Record) -> bool:
    """Whether it is a mean under random edits, and counts nothing."""
    return check.get("samples") is not None  # runs kept by an earlier version have none


def figure(check: Record) -> str:
    """What its figures are of: ``accuracy``, ``ndcg@10``."""
    return str(check.get("metric", ACCURACY))  # runs kept by an earlier version have none


def worst_of(check: Record) -> str:
    return f"worst of {check['samples']} random edits"


def threat(check: Record) -> str:
    """``linf 8/255``."""
    return f"{check['threat']['norm']} {check['threat']['eps']}"


def misses_floor(check: Record) -> bool:
    # So that what is no number meets no floor.
    return check["needed"] is not None and not check["robust"]["k"] >= check["needed"]


def floor(check: Record) -> str:
    return "-" if check["floor"] is None else f"{100 * check['floor']:.1f}%"


def written(check: Record) -> str:
    """Where its floor may be written."""
    return "min_ndcg, min_consistency" if is_mean(check) else "min_accuracy, --robust-fail-under"


def conditions(check: Record) -> str:
    """``(linf 8/255, n=1000, 95% CI 28.3-34.2)``, or that it is a bound and on how many examples it rests."""
    if check["sample"] is not None:
        sure = f"{100 * check['sample']['confidence']:g}% sure of {_sampled(check)} from {check['sample']['drawn']} drawn"
        return f"({threat(check)}, n={check['n']}, {sure})"
    if check["bound"] != "exact":
        side = "at most" if check["bound"] == "upper" else "at least"
        return f"({threat(check)}, n={check['n']}, {side}: decided on {check['decided']} of {check['n']})"
    low, high = (100 * check["robust"][side] for side in ("low", "high"))
    how = f"{worst_of(check)}, " if is_mean(check) else ""
    return f"({how}{threat(check)}, n={check['n']}, 95% CI {low:.1f}-{high:.1f})"


def _sampled(check: Record) -> str:
    """The interval of the sample in percent of all examples."""
    return "{:.1f}-{:.1f}".format(*(100 * check["sample"][side] / check["n"] for side in ("least", "most")))


def missed_floor(check: Record) -> str:
    """The sentence of a missed floor.

    It has the form of a failed assert, for pytest then prints it without the name of the exception. After an early
    decision it holds for the best that was still possible, and the conditions say so.
    """
    accuracy, wanted = percent(check["robust"]["k"], check["n"]), f"{100 * check['floor']:.1f}%"
    if is_mean(check):
        sure = check["confidence"]
        accuracy, wanted = told_apart(check["robust"]["k"] / check["n"], check["floor"])
        least = "" if sure is None else f", {100 * sure:g}% sure of {_least(check)},"
        return f"assert {figure(check)} {accuracy}{least} >= {wanted} {conditions(check)}"
    if accuracy == wanted:  # rounding hides the gap: counts do not
        accuracy, wanted = f"{check['robust']['k']} of {check['n']}", f"{check['needed']}"
    return f"assert robust accuracy {accuracy} >= {wanted} {conditions(check)}"


def _least(check: Record) -> str:
    """The lower limit that has to reach the floor."""
    return percent(check["robust"]["k"] + check["n"] * check["floor"] - check["needed"], check["n"])


def not_evidence(check: Record) -> str:
    """The sentence of an evaluation that cannot be believed."""
    return f"not evidence: {worst_finding(check)} (robust {figure(check)} {bounded(check)}, {threat(check)})"


def suspicion(check: Record) -> str:
    """The sentence of an evaluation that something may have weakened."""
    return f"{check['id']}: robust {figure(check)} {bounded(check)} is suspicious: {worst_finding(check)}"


def worst_finding(check: Record) -> str:
    """The first finding of the level that the health comes to."""
    level = check["health"]["level"]
    worst = next(c for c in check["health"]["checks"] if c["level"] == level and not c["waived"])
    return f"{worst['name']}: {worst['detail']}"


def failure(check: Record) -> str | None:
    """The sentence of a check that is to fail, by its floor, its baseline or its health; None where it is not."""
    if misses_floor(check):
        return missed_floor(check)
    if regressed(check):
        return regression(check)
    return not_evidence(check) if check["floor"] is not None and not check["believable"] else None


def regressed(check: Record) -> bool:
    return check["comparison"] is not None and check["comparison"]["verdict"] == "regressed"


def seen_together(check: Record) -> bool:
    """Whether it takes the run as a whole to see what is wrong with the check."""
    monotone = any(found["name"] == "eps-monotone" for found in check["health"]["checks"])
    return regressed(check) or monotone


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
    if words in ("FAIL REGRESSED", "FAIL not evidence") and check["outcome"] == "passed" and seen_together(check):
        return f"{words} (seen in the run as a whole)"
    if words.startswith("FAIL"):
        if check["tier"] == "advisory" and check["outcome"] != "failed":
            return f"advisory: {words}"
        return words + unfailed(check["outcome"])
    return words if check["profile"] != "smoke" else f"{words} (smoke: no evidence)"


def verdict_in_full(check: Record) -> str:
    """The same; of a missed floor with what it was, and how far away."""
    if not misses_floor(check):
        return verdict(check)
    more = check["needed"] - check["robust"]["k"]
    if is_mean(check):
        return verdict(check).replace("FAIL floor", f"FAIL floor {floor(check)} ({100 * more / check['n']:.1f} pt short)", 1)
    must = f"{more} more example{'' if more == 1 else 's'} must survive"
    if check["bound"] == "upper":
        # It is always one example short: attacks stop there, and the number would look like a near miss.
        must = f"certain after {check['decided']} of {check['n']}; --robust-profile release says how far below"
    if check["bound"] == "sampled":
        must = f"{conditions(check)[1:-1].split(', ')[-1]}; --robust-profile release decides every example"
    return verdict(check).replace("FAIL floor", f"FAIL floor {floor(check)} ({must})", 1)


def threat_in_full(check: Record) -> str:
    """The threat, where it moves what, and what counts as broken."""
    facts = check["threat"]
    if is_mean(check):
        return f"{threat(check)}, {worst_of(check)} of each text, seed {check['seed']}: a measure, no search"
    if facts["space"] == "text":
        seen = "white box" if check["cost"]["backward"] else "black box"
        return f"{threat(check)}, edits of texts, {check['objective']}, {seen}"
    inputs = "inputs unbounded" if facts["bounds"] == "unbounded" else f"inputs in {facts['bounds']}"
    if facts["space"] == "transform":
        # What has no range of its own needs none.
        seen = "image transform" if facts["bounds"] == "unbounded" else f"image transform, {inputs}"
        return f"{threat(check)}, {seen}, {check['objective']}, white box"
    where = "token embeddings" if facts["space"] == "embedding" else inputs
    where = facts["space"] if facts["space"].startswith("hidden states") else where
    return f"{facts['norm']} eps={facts['eps']}, {where}, {check['objective']}, white box"


def class_name(entry: Record) -> str:
    """Its name; a bare number would read as one more figure."""
    return f"class {entry['name']}" if entry["name"] == str(entry["label"]) else str(entry["name"])


def turned(hit: Record) -> str:
    """``dog -> cat``."""
    return " -> ".join(class_name({"label": hit[key], "name": hit[f"{key}_name"]}) for key in ("label", "predicted"))


def weakest(check: Record) -> str:
    """The weakest hit: ``#7 dog -> cat, flips at eps <= 0.9/255``; of a text how many edits, and which."""
    entry, facts = check["weakest"], check["threat"]
    where = f"#{entry['index']} {turned(entry)}, flips at"
    if facts["space"] == "text":
        edits = f"{entry['norm']:g} edit{'' if entry['norm'] == 1 else 's'}"
        found = next((text for text in check["examples"]["texts"] if text["index"] == entry["index"]), None)
        line = "" if found is None else f': "{texts.in_line(found, facts["norm"])}"'
        return f"{where} {edits}{line}"
    # Of a transform it is the share of all its limits.
    size = f"{entry['eps']} of {facts['eps']}" if facts["space"] == "transform" else f"eps <= {entry['eps']}"
    return f"{where} {size}"


def worst_text(check: Record) -> str:
    """Of a mean the text that loses the most: ``#6 99.0% -> 30.0%: "par[>n]king"``."""
    found = check["examples"]["texts"][0]
    return f'#{found["index"]} {turned(found)}: "{texts.in_line(found, check["threat"]["norm"])}"'


def commands(check: Record) -> list[tuple[str, str]]:
    """How to run it again: the weakest hit alone, where it is stored, and the whole check."""
    replay = check.get("replay")  # runs kept by an earlier version have none
    whole = str(check["reproduce"])
    return [("reproduce", whole)] if replay is None else [("reproduce", replay), ("rerun", whole)]


def paired(check: Record) -> str | None:
    """How many examples changed since the baseline; None where they are not compared."""
    change = check["comparison"] and check["comparison"]["robust"]
    if change is None:
        return None
    words = ("worse", "better", "texts") if is_mean(check) else ("newly broken", "newly robust", "examples")
    same = change["n"] - change["newly_broken"] - change["newly_robust"]
    return (
        f"{change['newly_broken']} {words[0]}, {change['newly_robust']} {words[1]}, {same} unchanged of the same "
        f"{change['n']} {words[2]}"
    )


def retrained(check: Record) -> list[str]:
    """What became of a model that was retrained, in sentences; none where none was."""
    found = check.get("retrained")  # runs kept by an earlier version have none
    if found is None:
        return []
    if found["error"] is not None:
        return [f"it was not retrained: {found['error']}"]
    told = ", ".join(f"{name} {_gain(found[name])}" for name in ("robust", "clean"))
    passes = (
        "it passes this check" if found["met"] else f"it still fails this check: {found['doubt'] or 'the floor is missed'}"
    )
    spent = f"by {found['method']}, {found['epochs']:.0f} epochs of standard training"
    return [told, f"{passes}; {spent}; saved in {found['folder']}", *found["events"]]


def _gain(found: Record) -> str:
    """``10.4% -> 76.0% (+65.6 pt, 90% CI +62.0 to +69.1)``."""
    before, after = (percent(found[when]["k"], found[when]["n"]) for when in ("before", "after"))
    rise, low, high = (0.0 + 100 * found["change"][name] for name in ("rise", "low", "high"))
    sure = f"{100 * found['change']['confidence']:g}% CI {low:+.1f} to {high:+.1f}"
    return f"{before} -> {after} ({rise:+.1f} pt, {sure})"


def cost(check: Record, *, seconds: bool = True) -> str:
    """Passes and device; without the seconds it is equal for equal runs."""
    spent = check["cost"]
    time = f"{spent['seconds']:.1f} s " if seconds else ""
    cached = "cached; it took " if check["cached"] and seconds else ""
    return f"{cached}{time}on {check['device']}, {spent['forward']:,} forward, {spent['backward']:,} backward"


def outcomes(check: Record) -> tuple[dict[str, int], dict[str, int]]:
    """How many examples each attack broke, and what became of the others."""
    attacks = dict(check["broken_by"])
    clean = attacks.pop("clean", 0)
    undecided = check["n"] - check["decided"]
    survivors = check["n"] - undecided - clean - sum(attacks.values())
    return attacks, {"wrong without attack": clean, "survivors": survivors, "undecided": undecided}


def worst_classes(check: Record) -> list[Record]:
    """The classes, the least robust first."""
    return sorted(check["classes"], key=lambda c: (c["k"] / c["n"], c["label"]))


def findings(check: Record) -> tuple[list[Record], list[Record]]:
    """What health found: what is against the evaluation, the worst first; what the user has set aside."""
    checks = check["health"]["checks"]
    against = [c for level in ("invalid", "suspicious") for c in checks if c["level"] == level and c["waived"] is None]
    return against, [c for c in checks if c["waived"] is not None]


def good(check: Record) -> bool | None:
    """Whether a check is good (True), bad (False) or neither (None)."""
    if check["verdict"] == "fail":
        return False if check["outcome"] == "failed" else None
    return True if check["verdict"] == "pass" and check["profile"] != "smoke" else None


def names(run: Record) -> dict[str, str]:
    """Ids without their files where that stays unique."""
    # A check may have a row of its own beside the error that failed its test.
    ids = {*(entry["id"] for entry in (*run["checks"], *run["errors"])), *run["missing"], *run["absent"]}
    short = {id: id.split("::", 1)[-1] for id in ids}
    seen = Counter(short.values())
    return {id: name if seen[name] == 1 else id for id, name in short.items()}


def unanswered(run: Record) -> list[tuple[str, str, str, bool | None]]:
    """What has no check to show: the id, what happened, the message, and whether it is bad (False) or neither (None)."""
    rows: list[tuple[str, str, str, bool | None]] = [
        (e["id"], f"ERROR{unfailed(e['outcome'])}", e["message"], False if e["outcome"] == "failed" else None)
        for e in run["errors"]
    ]
    rows += [(id, "MISSING", "no result arrived", False) for id in run["missing"]]
    absent = run["absent"] if run["gate"]["kind"] == "release" else []
    return rows + [(id, "MISSING", "it has a baseline and did not run", False) for id in absent]
