"""``--robust-selfcheck``: the checks of ``pytest_robust.conformance`` as tests without a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from _pytest._code.code import TerminalRepr, TracebackStyle

    from pytest_robust.attacks import Attack
    from pytest_robust.conformance import Check, Outcome, Subject
    from pytest_robust.reports.selfcheck import Row

NODE = "selfcheck"
ROW = "robust_selfcheck"
"""Attribute of the report of a check: its row of the table, as one JSON text (see ``FINDINGS``)."""


class SelfCheckCollector(pytest.Collector):
    """Collects ``selfcheck::linear-linf[standard]`` and the others."""

    def __init__(self, *, attacks: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._attacks = attacks

    def collect(self) -> Iterator[pytest.Item]:
        from pytest_robust.conformance import CHECKS, ENGINE, Subject

        subjects = [Subject(name) for name in self._attacks] or ENGINE
        for subject in subjects:
            for check in CHECKS:
                if not (self._attacks and check.engine_only):
                    yield SelfCheck.from_parent(
                        self, name=f"{check.name}[{subject.name}]", check=check, subject=subject, engine=not self._attacks
                    )


class SelfCheck(pytest.Item):
    """One check of a profile or of an attack.

    Attributes:
        attack: the name of the attack; None where a profile is checked.
    """

    def __init__(self, *, check: Check, subject: Subject, engine: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._check, self._subject = check, subject
        self.attack = None if engine else subject.name
        self._outcome: Outcome | None = None

    def prepare(self, registered: Mapping[str, Callable[[], Attack]]) -> None:
        """Take the attack from those of plugins, else from our own."""
        if self.attack is None:
            return
        from pytest_robust.attacks import make
        from pytest_robust.conformance import Subject

        name = self.attack
        self._subject = Subject(name, registered.get(name, lambda: make(name)))

    def runtest(self) -> None:
        self._outcome = outcome = self._check.run(self._subject)
        self.user_properties += [(f"robust.{key}", getattr(outcome, key)) for key in ("expected", "got", "verdict")]
        if outcome.verdict == "skip":
            pytest.skip(outcome.got)
        if outcome.verdict == "FAIL":
            pytest.fail(f"{outcome.got}; expected: {outcome.expected}", pytrace=False)

    def row(self, call: pytest.CallInfo[None]) -> Row:
        """What came of it, as a row of the table."""
        row = {"check": self._check.name, "of": self._subject.name}
        if self._outcome is None:
            error = "it was cut short" if call.excinfo is None else call.excinfo.exconly().strip().splitlines()[0]
            return row | {"expected": "-", "got": error, "verdict": "ERROR"}
        return row | {key: getattr(self._outcome, key) for key in ("expected", "got", "verdict")}

    def repr_failure(
        self, excinfo: pytest.ExceptionInfo[BaseException], style: TracebackStyle | None = None
    ) -> str | TerminalRepr:
        if isinstance(excinfo.value, pytest.fail.Exception):
            return super().repr_failure(excinfo, "value")
        # From the check on: what stands before is pytest.
        return excinfo.getrepr(style="short", tbfilter=lambda shown: shown.traceback.cut(path=__file__).filter(shown))

    def reportinfo(self) -> tuple[str, None, str]:
        return str(self.path), None, f"robust self-check: {self.name}"


def note(report: pytest.TestReport, item: SelfCheck, call: pytest.CallInfo[None]) -> None:
    """Put the row on the report of the call."""
    if report.when == "call":
        setattr(report, ROW, json.dumps(item.row(call)))


def noted(report: pytest.TestReport, nodeid: str) -> Row | None:
    """The row that came with the report of this test, from this process or a worker; None where the report has none."""
    if hasattr(report, ROW):
        row: Row = json.loads(getattr(report, ROW))
        return row
    if report.failed and nodeid.startswith(f"{NODE}::"):  # a crash has none of our attributes
        check, _, of = nodeid.removeprefix(f"{NODE}::").rstrip("]").partition("[")
        return {"check": check, "of": of, "expected": "-", "got": str(report.longrepr).strip(), "verdict": "ERROR"}
    return None
