"""The outcome of ``--robust-selfcheck``: for each check, what was expected and what came."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

Row = dict[str, str]
"""``check``, ``of`` (a profile or an attack), ``expected``, ``got``, and ``verdict``: pass, FAIL, skip or ERROR."""

HEADER = ("check", "of", "expected", "got", "verdict")
_WIDTH = 72
"""Of a cell: messages of others may be long, and are told in full where the check fails."""


def outcome(rows: Sequence[Row], *, complete: bool) -> dict[str, Any]:
    """The verdict on all rows: ``fail``; ``incomplete`` where nothing failed, but the session was cut short; ``pass``."""
    failed = any(row["verdict"] in ("FAIL", "ERROR") for row in rows)
    return {"verdict": "fail" if failed else "pass" if complete else "incomplete", "rows": list(rows)}


def table(outcome: dict[str, Any]) -> list[tuple[str, bool | None]]:
    """The lines of the table with, for each, whether it is good (True), bad (False) or neither (None). Plain ASCII."""
    cells = [[textwrap.shorten(row[key], _WIDTH, placeholder=" ...") for key in HEADER] for row in outcome["rows"]]
    text = tabulate(cells, HEADER, tablefmt="simple", disable_numparse=True)
    good = [{"pass": True, "skip": None}.get(row["verdict"], False) for row in outcome["rows"]]
    return list(zip(text.encode("ascii", "backslashreplace").decode().splitlines(), [None, None, *good], strict=True))


def summary(outcome: dict[str, Any]) -> str:
    """``robust self-check: FAIL, 1 of 19 checks``."""
    rows, verdict = outcome["rows"], outcome["verdict"]
    counts = Counter(row["verdict"] for row in rows)
    counted = f"{len(rows)} check{'' if len(rows) == 1 else 's'}"
    failed = f"FAIL, {counts['FAIL'] + counts['ERROR']} of {counted}"
    said = {"pass": f"pass, {counted}", "fail": failed, "incomplete": f"INCOMPLETE, {counted}"}[verdict]
    return f"robust self-check: {said}" + (f", {counts['skip']} not for this attack" if counts["skip"] else "")
