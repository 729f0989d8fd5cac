"""The report for people on a web page: a pull request, the summary of a GitHub job."""

from __future__ import annotations

from typing import Any

from tabulate import tabulate

from pytest_robust.reports import selfcheck, terminal, texts, words
from pytest_robust.reports.record import Record
from pytest_robust.reports.run import Run, gate_line

_MARKS = {"same": "{}", "gone": "<del>{}</del>", "new": "<ins>{}</ins>"}


def render(run: Run) -> str:
    """A heading, the gate, one row per check, and the details of each that failed, folded."""
    if "selfcheck" in run:
        return _selfcheck(run["selfcheck"])
    parts = ["## Adversarial robustness", f"**{_escaped(gate_line(run))}**"]
    rows = [_row(check) for check in run["checks"]]
    for id, what, message, _ in words.unanswered(run):
        rows.append((_escaped(id), *[""] * 7, _escaped(f"{what}: {message}")))
    compared = next((check["comparison"]["against"] for check in run["checks"] if check["comparison"]), None)
    if compared is not None:
        drops = [_escaped(words.drop(check)) for check in run["checks"]]
        drops += [""] * (len(rows) - len(drops))
        rows = [(*row[:-2], drop, *row[-2:]) for row, drop in zip(rows, drops, strict=True)]
    if rows:
        versus = [] if compared is None else [f"vs {_escaped(compared)}"]
        header = ("check", "model", "threat", "clean", "robust", "95% CI", "floor", *versus, "health", "verdict")
        parts.append(tabulate(rows, header, tablefmt="github", disable_numparse=True))
    parts += [_details(check) for check in run["checks"] if check["verdict"] == "fail"]
    return "\n\n".join(parts) + "\n"


def _selfcheck(outcome: dict[str, Any]) -> str:
    """Nothing else is in a run of the self-check."""
    rows = [[_escaped(row[key]) for key in selfcheck.HEADER] for row in outcome["rows"]]
    table = tabulate(rows, selfcheck.HEADER, tablefmt="github", disable_numparse=True)
    return f"## Robust self-check\n\n**{_escaped(selfcheck.summary(outcome))}**\n\n{table}\n"


def _row(check: Record) -> tuple[str, ...]:
    texts = (
        check["id"],
        check["model"],
        words.threat(check),
        words.percent(check["clean"]["k"], check["n"]),
        words.bounded(check),
        words.interval(check),
        words.floor(check),
        check["health"]["level"],
        words.verdict(check),
    )
    return tuple(_escaped(text) for text in texts)


def _details(check: Record) -> str:
    summary = _escaped(check["id"]).replace("\\", "")
    text = terminal.section(check, seconds=False).replace("```", "'''")
    return f"<details><summary>{summary}</summary>\n\n```\n{text}\n```\n\n{_texts(check)}</details>"


def _texts(check: Record) -> str:
    """A table of a few broken texts, what went struck out and what came underlined; empty where no texts were edited."""
    rows = [
        (f"#{text['index']}", _escaped(words.turned(text)), _marked(text, check["threat"]["norm"]))
        for text in check["examples"]["texts"]
    ]
    if not rows:
        return ""
    turns = words.figure(check) if words.is_mean(check) else "class"
    return tabulate(rows, ("example", turns, "text"), tablefmt="github", disable_numparse=True) + "\n\n"


def _marked(text: Record, norm: str) -> str:
    return "".join(_MARKS[kind].format(_literal(texts.visible(piece))) for kind, piece in texts.pieces(text, norm))


def _literal(text: str) -> str:
    """The text to the letter, whatever Markdown or HTML would make of it."""
    return "".join(c if c.isalnum() or c == " " else f"&#{ord(c)};" for c in text)


def _escaped(text: str) -> str:
    """Text that stays in its cell: tabulate does not escape."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    for mark in "\\`*_[]|":
        text = text.replace(mark, "\\" + mark)
    return text
