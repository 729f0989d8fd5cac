"""The report for programs."""

from __future__ import annotations

import json

from pytest_robust.reports.run import Run


def render(run: Run) -> str:
    """JSON, schema 1: equal for equal runs but for the ``seconds``."""
    # A list of 10,000 outcomes with one to a line is no easier to read: only the upper levels are indented.
    checks = ",\n".join("    " + json.dumps(check) for check in run["checks"])
    head = json.dumps({key: value for key, value in run.items() if key != "checks"}, indent=2).removesuffix("\n}")
    body = f"[\n{checks}\n  ]" if checks else "[]"
    return f'{head},\n  "checks": {body}\n}}\n'
