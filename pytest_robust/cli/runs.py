"""``pytest-robust show`` and ``compare``: runs that are kept, looked at again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tabulate import tabulate

from pytest_robust.errors import RobustError
from pytest_robust.evaluation import comparison
from pytest_robust.regression import Change, Comparison, corrected
from pytest_robust.reports import terminal
from pytest_robust.reports.comparison import ALPHA
from pytest_robust.reports.record import Record
from pytest_robust.reports.run import Run, gate_line
from pytest_robust.store import outcomes, runs


def show(name: str) -> int:
    """Print a run as pytest did: the sections of the checks that failed, the table, the gate."""
    _, run = runs.find_run(name, Path(runs.FOLDER))
    for check in run["checks"]:
        if check["verdict"] == "fail":
            title = f" {check['id']} "
            print(f"{title:_^80}\n{terminal.section(check)}\n")
    for line, _ in terminal.table(run):
        print(line)
    print(gate_line(run))
    return 0


def compare(old: str, new: str, margin: str, clean_margin: str) -> int:
    """Print what became of each check from one run to the other; 0: no drop, 1: a regression, 2: it cannot be said."""
    (before, was), (after, is_) = (runs.find_run(name, Path(runs.FOLDER)) for name in (old, new))
    found = compared(was, is_, margin, clean_margin)
    if not found:
        raise RobustError(f"neither {before} nor {after} has a check, so there is nothing to compare; name other runs")
    print(f"from {before} to {after}\n")
    header = ("check", "clean", "robust", "90% CI of the drop", "verdict")
    rows = [(id, _drop(one.clean), _drop(one.robust), _span(one), one.verdict) for id, one in found.items()]
    print(tabulate(rows, header, tablefmt="simple", disable_numparse=True))
    for id, change in found.items():
        if change.verdict != "pass":
            print(f"\n{id}\n  {change}")
    verdicts = {change.verdict for change in found.values()}
    return 1 if "regressed" in verdicts else 0 if verdicts == {"pass"} else 2


def compared(old: Run, new: Run, margin: str, clean_margin: str) -> Mapping[str, Comparison]:
    """The comparisons of two runs by the ids of the checks, judged as one family.

    Raises:
        RobustError: a margin that is none.
    """
    before, after = (_by_id(run) for run in (old, new))
    ids = list(dict.fromkeys([*after, *before]))
    try:
        found = [comparison.compare(before.get(id), after.get(id), margin=margin, clean_margin=clean_margin) for id in ids]
    except ValueError as error:
        raise RobustError(str(error)) from None
    return dict(zip(ids, corrected(found, ALPHA), strict=True))


def _by_id(run: Run) -> dict[str, comparison.Outcomes]:
    checks: list[Record] = run["checks"]
    return {check["id"]: outcomes.of_record(check) for check in checks}


def _drop(change: Change | None) -> str:
    return "-" if change is None else f"{0.0 - 100 * change.paired.drop:+.1f} pt"


def _span(found: Comparison) -> str:
    return "-" if found.robust is None else "{:.1f} to {:.1f}".format(*(100 * end for end in found.robust.interval))
