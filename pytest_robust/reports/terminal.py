"""What the terminal shows: the section of one failed check, and the table at the end. Plain ASCII text, from records."""

from __future__ import annotations

import textwrap

from tabulate import tabulate

from pytest_robust.reports import words
from pytest_robust.reports.record import Record
from pytest_robust.reports.run import Run

WORST_CLASSES = 3
LABEL, WIDTH = 12, 110


def section(check: Record, *, seconds: bool = True) -> str:
    """The ``robust`` section of a failed check; without the seconds it is equal for equal runs."""
    lines = [
        *_row("verdict", words.verdict_in_full(check)),
        *_row("threat", words.threat_in_full(check)),
        "",
        *_accuracies(check),
        "",
    ]
    if not words.is_mean(check):
        lines += _row("broken by", _broken_by(check))
    elif check["examples"]["texts"]:
        lines += _row("worst text", words.worst_text(check))
    if check["curve"]:
        lines += _row("eps curve", "   ".join(f"{point['eps']} {words.bounded(point)}" for point in check["curve"]))
    if check["bound"] == "exact" and len(check["classes"]) > 1:
        lines += _row("worst class", _worst_classes(check))
    if check["weakest"] is not None:
        lines += _row("weakest hit", words.weakest(check))
    for text in _health(check) if check["health"]["checks"] or not words.is_mean(check) else ():
        lines += _row("health", text)
    for text in check["notes"]:
        lines += _row("note", text)
    for text in words.retrained(check):
        lines += _row("retrained", text)
    # Each command stays on one line, to be copied.
    lines += [*_row("cost", words.cost(check, seconds=seconds)), ""]
    lines += [f"{label:<{LABEL}} {command}" for label, command in words.commands(check)]
    if words.misses_floor(check):
        lines += _row("accept", f"lower the floor where it is written ({words.written(check)}), and commit")
    return _ascii("\n".join(lines))


def table(run: Run) -> list[tuple[str, bool | None]]:
    """The lines of the table with, for each, whether it is good (True), bad (False) or neither (None)."""
    compared = next((check["comparison"]["against"] for check in run["checks"] if check["comparison"]), None)
    versus = [] if compared is None else [f"vs {compared}"]
    header = ("check", "threat", "clean", "robust", "95% CI", "floor", *versus, "health", "verdict")
    names = words.names(run)
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
    others = words.unanswered(run)
    for id, what, message, _ in others:
        said = what if what.startswith("ERROR") else f"{what}: {message}"
        rows.append((names[id], *["-"] * (6 + len(versus)), said))
    if not rows:
        return []
    align = ("left", "left", "right", "right", "left", "right", *("left" for _ in versus), "left", "left")
    # Without disable_numparse tabulate reads "0.310" as a number and prints 0.31.
    text = tabulate(rows, header, tablefmt="simple", disable_numparse=True, colalign=align)
    good = [None, None, *(words.good(check) for check in run["checks"]), *(good for *_, good in others)]
    return list(zip(_ascii(text).splitlines(), good, strict=True))


def _row(label: str, text: str) -> list[str]:
    """A label and its text, which goes on below itself where it is long."""
    return textwrap.wrap(text, WIDTH, initial_indent=f"{label:<{LABEL}} ", subsequent_indent=" " * (LABEL + 1))


def _accuracies(check: Record) -> list[str]:
    clean, robust = words.percent(check["clean"]["k"], check["n"]), words.bounded(check)
    return [
        f"{'':<{LABEL}} {words.figure(check):>9}  95% CI",
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
    lines = ["", f"{'':<{LABEL}} {title:<24} drop       interval          margin".rstrip()]
    if comparison["clean"] is None and comparison["robust"] is None:
        lines = ["", f"{'':<{LABEL}} {title}"]
    for name in ("clean", "robust"):
        change = comparison[name]
        if change is not None:
            sure = f"{100 * change['confidence']:g}% {100 * change['low']:.1f} to {100 * change['high']:.1f}"
            verdict = change["verdict"] if change["verdict"] != "regressed" else "REGRESSED"
            drop, margin = f"{100 * change['drop']:.1f} pt", f"{100 * change['margin']:g} pt"
            lines.append(f"{'  ' + name:<{LABEL}} {verdict:<24} {drop:<10} {sure:<17} {margin}")
    paired = words.paired(check)
    lines += [] if paired is None else [f"  paired: {paired}"]
    for reason in comparison["reasons"]:
        lines += _row(f"  {comparison['unlike']}", reason)
    return lines


def _broken_by(check: Record) -> str:
    counts, others = words.outcomes(check)
    attacks = ", ".join(f"{attack} {count:,}" for attack, count in counts.items()) or "no attack"
    return "; ".join([attacks, *(f"{name} {count:,}" for name, count in others.items() if count)])


def _worst_classes(check: Record) -> str:
    worst = words.worst_classes(check)[:WORST_CLASSES]
    return "   ".join(f"{words.class_name(c)} {words.percent(c['k'], c['n'])} ({c['k']}/{c['n']})" for c in worst)


def _health(check: Record) -> list[str]:
    """The level; the findings behind it, the worst first; those set aside, with the reason."""
    against, waived = words.findings(check)
    lines = [f"{c['level']}: {c['name']}: {c['detail']}" for c in against]
    if not lines:
        details = "; ".join(c["detail"] for c in check["health"]["checks"] if c["waived"] is None)
        level = check["health"]["level"]
        lines = [f"{level} ({details})" if details else level]
    return lines + [f"set aside: {c['name']}: {c['detail']} (reason: {c['waived']})" for c in waived]


def _ascii(text: str) -> str:
    """Class names and the like may hold any character; a log may not."""
    return text.encode("ascii", "backslashreplace").decode()
