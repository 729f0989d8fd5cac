"""Which stored adversarial example an ID means. No torch here, as in ``runs``: it is asked when tests are collected."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_robust.errors import RobustError
from pytest_robust.regression import REPLAY
from pytest_robust.reports.record import Record
from pytest_robust.store.runs import RunError, check_file, find_run, give_up, runs

DIGITS, WHOLE = 6, 16
"""Of a content id: so many at least name an example, and so many there are."""
_UNBROKEN = {
    None: "survived every attack",
    "clean": "is wrong without any attack, so none was found",
    "undecided": "was not decided: the verdict was certain before its turn",
}
"""Why an example has no adversarial example, by what its record says broke it."""


class AmbiguousError(RobustError):
    """An ID that may mean several examples."""


@dataclass(frozen=True)
class Held:
    """A stored adversarial example.

    Attributes:
        check: the id of the check. run: the name of the latest run that found it. key: of the check's file.
        id: content id of the example. number: its place, as the report of the check's last run that has it shows it.
        predicted: the class that the model named there. found_by: the attack. threat: that of the check, in plain values.
    """

    check: str
    run: str
    key: str
    id: str
    number: int
    predicted: int
    found_by: str
    threat: Mapping[str, Any]

    def file(self, root: Path) -> Path:
        """The file of the finished check that holds it."""
        return check_file(root, self.key)


def checked_id(text: str) -> str:
    """An ID as typed, in the form that ``Shelf`` takes.

    Raises:
        ValueError: neither the number of an example nor a content id or the beginning of one.
    """
    id = text.strip().lower()
    if not id.isdecimal() and re.fullmatch(f"[0-9a-f]{{{DIGITS},{WHOLE}}}", id) is None:
        raise ValueError(
            f"{text!r} names no example: give its number as the report shows it (417), or its content id, {WHOLE} "
            f"hexadecimal digits or the first {DIGITS} of them or more"
        )
    return id


class Shelf:
    """The adversarial examples in the folder ``.robust`` that an ID means, check by check."""

    def __init__(self, root: Path, wanted: str) -> None:
        """``wanted``: see ``checked_id``."""
        self.root, self.wanted = root, wanted
        # By test and check, the check's name in each run that has it and its record there, the latest run first.
        self._kept: dict[str, dict[str, list[tuple[str, Record]]]] = defaultdict(lambda: defaultdict(list))
        for path in runs(root):
            self._add(path)

    def held(self, nodeid: str) -> tuple[dict[str, Held], list[str]]:
        """By check of this test, the stored adversarial example; and of each check that has none, why.

        Raises:
            AmbiguousError: the ID may mean several examples of a check.
        """
        found, reasons = dict[str, Held](), list[str]()
        if nodeid not in self._kept:
            reasons.append(f"{nodeid}: no finished check of it is kept")
        for check, kept in self._kept.get(nodeid, {}).items():
            answer = self._found(check, kept)
            if isinstance(answer, Held):
                found[check] = answer
            else:
                reasons.append(f"{check}: {answer}")
        return found, reasons

    def _add(self, path: Path) -> None:
        try:
            name, run = find_run(str(path), self.root)
            for check in run["checks"]:
                self._kept[check["nodeid"]][check["id"]].append((name, check))
        except (RunError, KeyError, TypeError) as error:
            give_up(path, error)

    def _found(self, check: str, kept: list[tuple[str, Record]]) -> Held | str:
        """The adversarial example, or why there is none."""
        id = self._meant(check, kept)
        if id is None:
            run, last = kept[0]
            return f"its last run, {run}, has {last['n']} examples, 0 to {last['n'] - 1}, and none of this ID"
        have = [
            (run, record, record["examples"]["ids"].index(id)) for run, record in kept if id in record["examples"]["ids"]
        ]
        (last_run, last, number), by = have[0], [record["examples"]["broken_by"][row] for _, record, row in have]
        for (run, record, row), attack in zip(have, by, strict=True):
            stored = attack not in _UNBROKEN and record["key"] is not None
            if stored and check_file(self.root, record["key"]).is_file():
                # What an earlier run found and a later one only tried again is the earlier one's.
                finders = (name for name in by if name not in _UNBROKEN and name != REPLAY)
                return Held(
                    check=check,
                    run=run,
                    key=record["key"],
                    id=id,
                    number=number,
                    predicted=record["examples"]["predicted"][row],
                    found_by=next(finders, "an earlier run"),
                    threat=record["threat"],
                )
        if by[0] in _UNBROKEN:
            return f"example {number} {_UNBROKEN[by[0]]} (run {last_run})"
        if last["key"] is None:
            return (
                f"example {number} was broken, but what was evaluated cannot be recognised again, so nothing of it is kept"
            )
        return f"example {number} was broken, but the file {check_file(self.root, last['key'])} is gone"

    def _meant(self, check: str, kept: list[tuple[str, Record]]) -> str | None:
        """The content id that is meant; numbers are those of the check's last run."""
        wanted, last = self.wanted, kept[0][1]["examples"]["ids"]
        meant = set[str]()
        if wanted.isdecimal() and str(int(wanted)) == wanted and int(wanted) < len(last):
            meant.add(last[int(wanted)])
        if len(wanted) >= DIGITS:
            meant |= {id for _, record in kept for id in record["examples"]["ids"] if id.startswith(wanted)}
        if len(meant) > 1:
            some = ", ".join(sorted(meant)[:4])
            raise AmbiguousError(f"{check}: {wanted} may mean {len(meant)} examples, {some}; give the whole content id")
        return next(iter(meant), None)
