"""What the terminal shows: the section of one failed check, and the table at the end. Plain ASCII text, from records."""

from __future__ import annotations

from collections import Counter

from tabulate import tabulate

from pytest_robust.reports import words
from pytest_robust.reports.record import Record
from pytest_robust.reports.run import Run

WORST_CLASSES = 3


def section(check: Record) -> str:
    """The ``robust`` section of a failed check."""
    rows: list[str | tuple[str, str]] = [("verdict", _verdict(check)), ("threat", _threat(check))]
    rows += ["", *_accuracies(check), ""]
    rows.append(("broken by", _broken_by(check)))
    if check["bound"] == "exact" and len(check["classes"]) > 1:
        rows.append(("worst class", _worst_classes(check)))
    rows += [("health", line) for line in _health(check)]
    rows += [("note", note) for note in check["notes"]]
    rows += [("cost", _cost(check)), "", ("reproduce", check["reproduce"])]
    if words.misses_floor(check):
        rows.append(("accept", "lower the floor where it is written (min_accuracy, --robust-fail-under), and commit"))
    return _ascii("\n".join(row if isinstance(row, str) else f"{row[0]:<12} {row[1]}" for row in rows))


def table(run: Run) -> list[tuple[str, bool | None]]:
    """The lines of the table with, for each, whether it is good (True), bad (False) or neither (None)."""
    header = ("check", "clean", "robust", "95% CI", "floor", "health", "verdict")
    names = _names(run)
    rows = [
        (
            names[check["id"]],
            words.percent(check["clean"]["k"], check["n"]),
            words.bounded(check),
            words.interval(check),
            words.floor(check),
            check["health"]["level"],
            words.verdict(check),
        )
        for check in run["checks"]
    ]
    rows += [(names[error["id"]], "-", "-", "-", "-", "-", "ERROR") for error in run["errors"]]
    rows += [(names[nodeid], "-", "-", "-", "-", "-", "MISSING: no result arrived") for nodeid in run["missing"]]
    if not rows:
        return []
    align = ("left", "right", "right", "left", "right", "left", "left")
    # Without disable_numparse tabulate reads "0.310" as a number and prints 0.31.
    text = tabulate(rows, header, tablefmt="simple", disable_numparse=True, colalign=align)
    good: list[bool | None] = [None, None]
    good += [_good(check) for check in run["checks"]] + [False] * (len(run["errors"]) + len(run["missing"]))
    return list(zip(_ascii(text).splitlines(), good, strict=True))


def _good(check: Record) -> bool | None:
    if check["verdict"] == "fail":
        return False if check["outcome"] == "failed" else None
    return True if check["verdict"] == "pass" and check["profile"] != "smoke" else None


def _names(run: Run) -> dict[str, str]:
    """Ids without their files where that stays unique."""
    ids = [entry["id"] for entry in (*run["checks"], *run["errors"])] + run["missing"]
    short = {id: id.split("::", 1)[-1] for id in ids}
    seen = Counter(short.values())
    return {id: name if seen[name] == 1 else id for id, name in short.items()}


def _verdict(check: Record) -> str:
    if not words.misses_floor(check):
        return words.verdict(check)
    more = check["needed"] - check["robust"]["k"]
    least = "at least " if check["bound"] == "upper" else ""
    must = f"{least}{more} more example{'' if more == 1 else 's'} must survive"
    return words.verdict(check).replace("FAIL floor", f"FAIL floor {words.floor(check)} ({must})", 1)


def _threat(check: Record) -> str:
    threat = check["threat"]
    where = "token embeddings" if threat["space"] == "embedding" else f"inputs in {threat['bounds']}"
    return f"{threat['norm']} eps={threat['eps']}, {where}, {check['objective']}, white box"


def _accuracies(check: Record) -> list[str]:
    clean, robust = words.percent(check["clean"]["k"], check["n"]), words.bounded(check)
    return [
        f"{'':<12} {'accuracy':>9}  95% CI",
        f"{'  clean':<12} {clean:>9}  {words.interval(check, 'clean')}",
        f"{'  robust':<12} {robust:>9}  {words.interval(check)}",
    ]


def _broken_by(check: Record) -> str:
    counts = dict(check["broken_by"])
    clean = counts.pop("clean", 0)
    undecided = check["n"] - check["decided"]
    survivors = check["n"] - undecided - clean - sum(counts.values())
    attacks = ", ".join(f"{attack} {count:,}" for attack, count in counts.items()) or "no attack"
    rest = [("wrong without attack", clean), ("survivors", survivors), ("undecided", undecided)]
    return "; ".join([attacks, *(f"{name} {count:,}" for name, count in rest if count)])


def _worst_classes(check: Record) -> str:
    worst = sorted(check["classes"], key=lambda c: (c["k"] / c["n"], c["label"]))[:WORST_CLASSES]
    return "   ".join(f"{c['name']} {words.percent(c['k'], c['n'])} ({c['k']}/{c['n']})" for c in worst)


def _health(check: Record) -> list[str]:
    """The level; the findings behind it, the worst first; those set aside, with the reason."""
    health = check["health"]
    counted = [c for c in health["checks"] if c["waived"] is None]
    found = [c for level in ("invalid", "suspicious") for c in counted if c["level"] == level]
    lines = [f"{c['level']}: {c['name']}: {c['detail']}" for c in found]
    if not lines:
        details = "; ".join(c["detail"] for c in counted)
        lines = [f"trusted ({details})" if details else "trusted"]
    waived = (c for c in health["checks"] if c["waived"] is not None)
    return lines + [f"set aside: {c['name']}: {c['detail']} (reason: {c['waived']})" for c in waived]


def _cost(check: Record) -> str:
    cost = check["cost"]
    return f"{cost['seconds']:.1f} s on {check['device']}, {cost['forward']:,} forward, {cost['backward']:,} backward"


def _ascii(text: str) -> str:
    """Class names and the like may hold any character; a log may not."""
    return text.encode("ascii", "backslashreplace").decode()
