"""What the terminal shows: the section of one failed check, and the table at the end. Plain ASCII text, from records."""

from __future__ import annotations

import textwrap
from collections import Counter

from tabulate import tabulate

from pytest_robust.reports import words
from pytest_robust.reports.record import Record
from pytest_robust.reports.run import Run

WORST_CLASSES = 3
LABEL, WIDTH = 12, 110


def section(check: Record, *, seconds: bool = True) -> str:
    """The ``robust`` section of a failed check; without the seconds it is equal for equal runs."""
    lines = [*_row("verdict", _verdict(check)), *_row("threat", _threat(check)), "", *_accuracies(check), ""]
    lines += _row("broken by", _broken_by(check))
    if check["curve"]:
        lines += _row("eps curve", "   ".join(f"{point['eps']} {words.bounded(point)}" for point in check["curve"]))
    if check["bound"] == "exact" and len(check["classes"]) > 1:
        lines += _row("worst class", _worst_classes(check))
    if check["weakest"] is not None:
        lines += _row("weakest hit", _weakest(check))
    for text in _health(check):
        lines += _row("health", text)
    for text in check["notes"]:
        lines += _row("note", text)
    # The command stays on one line, to be copied.
    lines += [*_row("cost", _cost(check, seconds)), "", f"{'reproduce':<{LABEL}} {check['reproduce']}"]
    if words.misses_floor(check):
        lines += _row("accept", "lower the floor where it is written (min_accuracy, --robust-fail-under), and commit")
    return _ascii("\n".join(lines))


def table(run: Run) -> list[tuple[str, bool | None]]:
    """The lines of the table with, for each, whether it is good (True), bad (False) or neither (None)."""
    compared = next((check["comparison"]["against"] for check in run["checks"] if check["comparison"]), None)
    versus = [] if compared is None else [f"vs {compared}"]
    header = ("check", "threat", "clean", "robust", "95% CI", "floor", *versus, "health", "verdict")
    names = _names(run)
    rows = [
        (
            names[check["id"]],
            words.threat(check),
            words.percent(check["clean"]["k"], check["n"]),
            words.bounded(check),
            words.interval(check),
            words.floor(check),
            *([words.drop(check)] if versus else []),
            check["health"]["level"],
            words.verdict(check),
        )
        for check in run["checks"]
    ]
    nothing = ["-"] * (6 + len(versus))
    rows += [(names[error["id"]], *nothing, f"ERROR{words.unfailed(error['outcome'])}") for error in run["errors"]]
    rows += [(names[nodeid], *nothing, "MISSING: no result arrived") for nodeid in run["missing"]]
    absent = run["absent"] if run["gate"]["kind"] == "release" else []
    rows += [(names[id], *nothing, "MISSING: it has a baseline and did not run") for id in absent]
    if not rows:
        return []
    align = ("left", "left", "right", "right", "left", "right", *("left" for _ in versus), "left", "left")
    # Without disable_numparse tabulate reads "0.310" as a number and prints 0.31.
    text = tabulate(rows, header, tablefmt="simple", disable_numparse=True, colalign=align)
    good: list[bool | None] = [None, None]
    good += [_good(check) for check in run["checks"]]
    good += [False if error["outcome"] == "failed" else None for error in run["errors"]] + [False] * len(run["missing"])
    good += [False] * len(absent)
    return list(zip(_ascii(text).splitlines(), good, strict=True))


def _good(check: Record) -> bool | None:
    if check["verdict"] == "fail":
        return False if check["outcome"] == "failed" else None
    return True if check["verdict"] == "pass" and check["profile"] != "smoke" else None


def _names(run: Run) -> dict[str, str]:
    """Ids without their files where that stays unique."""
    # A check may have a row of its own beside the error that failed its test.
    ids = {*(entry["id"] for entry in (*run["checks"], *run["errors"])), *run["missing"], *run["absent"]}
    short = {id: id.split("::", 1)[-1] for id in ids}
    seen = Counter(short.values())
    return {id: name if seen[name] == 1 else id for id, name in short.items()}


def _row(label: str, text: str) -> list[str]:
    """A label and its text, which goes on below itself where it is long."""
    return textwrap.wrap(text, WIDTH, initial_indent=f"{label:<{LABEL}} ", subsequent_indent=" " * (LABEL + 1))


def _verdict(check: Record) -> str:
    if not words.misses_floor(check):
        return words.verdict(check)
    more = check["needed"] - check["robust"]["k"]
    must = f"{more} more example{'' if more == 1 else 's'} must survive"
    if check["bound"] == "upper":
        # It is always one example short: attacks stop there, and the number would look like a near miss.
        must = f"certain after {check['decided']} of {check['n']}; --robust-profile release says how far below"
    if check["bound"] == "sampled":
        must = f"{words.conditions(check)[1:-1].split(', ')[-1]}; --robust-profile release decides every example"
    return words.verdict(check).replace("FAIL floor", f"FAIL floor {words.floor(check)} ({must})", 1)


def _threat(check: Record) -> str:
    threat = check["threat"]
    inputs = "inputs unbounded" if threat["bounds"] == "unbounded" else f"inputs in {threat['bounds']}"
    if threat["space"] == "transform":
        # What has no range of its own needs none.
        seen = "image transform" if threat["bounds"] == "unbounded" else f"image transform, {inputs}"
        return f"{words.threat(check)}, {seen}, {check['objective']}, white box"
    where = "token embeddings" if threat["space"] == "embedding" else inputs
    return f"{threat['norm']} eps={threat['eps']}, {where}, {check['objective']}, white box"


def _accuracies(check: Record) -> list[str]:
    clean, robust = words.percent(check["clean"]["k"], check["n"]), words.bounded(check)
    return [
        f"{'':<{LABEL}} {'accuracy':>9}  95% CI",
        f"{'  clean':<{LABEL}} {clean:>9}  {words.interval(check, 'clean')}",
        f"{'  robust':<{LABEL}} {robust:>9}  {words.interval(check)}",
        *_compared(check),
    ]


def _compared(check: Record) -> list[str]:
    """The rows of the comparison with a baseline."""
    comparison = check["comparison"]
    if comparison is None:
        return []
    title = f"against {comparison['against']}"
    lines = ["", f"{'':<{LABEL}} {title:<24} drop       interval          margin"]
    for name in ("clean", "robust"):
        change = comparison[name]
        if change is not None:
            sure = f"{100 * change['confidence']:g}% {100 * change['low']:.1f} to {100 * change['high']:.1f}"
            verdict = change["verdict"] if change["verdict"] != "regressed" else "REGRESSED"
            drop, margin = f"{100 * change['drop']:.1f} pt", f"{100 * change['margin']:g} pt"
            lines.append(f"{'  ' + name:<{LABEL}} {verdict:<24} {drop:<10} {sure:<17} {margin}")
    robust = comparison["robust"]
    if robust is not None:
        same = robust["n"] - robust["newly_broken"] - robust["newly_robust"]
        counts = f"{robust['newly_broken']} newly broken, {robust['newly_robust']} newly robust, {same} unchanged"
        lines.append(f"  paired: {counts} of the same {robust['n']} examples")
    for reason in comparison["reasons"]:
        lines += _row(f"  {comparison['unlike']}", reason)
    return lines


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
    return "   ".join(f"{_class(c)} {words.percent(c['k'], c['n'])} ({c['k']}/{c['n']})" for c in worst)


def _class(entry: Record) -> str:
    """Its name; a bare number would read as one more figure."""
    return f"class {entry['name']}" if entry["name"] == str(entry["label"]) else str(entry["name"])


def _weakest(check: Record) -> str:
    entry, threat = check["weakest"], check["threat"]
    label, predicted = (_class({"label": entry[key], "name": entry[f"{key}_name"]}) for key in ("label", "predicted"))
    # Of a transform it is the share of all its limits.
    size = f"{entry['eps']} of {threat['eps']}" if threat["space"] == "transform" else f"eps <= {entry['eps']}"
    return f"#{entry['index']} {label} -> {predicted}, flips at {size}"


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


def _cost(check: Record, seconds: bool) -> str:
    cost = check["cost"]
    time = f"{cost['seconds']:.1f} s " if seconds else ""
    cached = "cached; it took " if check["cached"] and seconds else ""
    return f"{cached}{time}on {check['device']}, {cost['forward']:,} forward, {cost['backward']:,} backward"


def _ascii(text: str) -> str:
    """Class names and the like may hold any character; a log may not."""
    return text.encode("ascii", "backslashreplace").decode()
