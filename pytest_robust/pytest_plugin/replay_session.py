"""``--robust-replay`` around the tests: selects those whose check holds the example, and tells what came of it.

Fails closed: an example that is not there, and one that no test came to, are never a success.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import pytest

from pytest_robust.errors import RobustError
from pytest_robust.pytest_plugin import memory
from pytest_robust.pytest_plugin.call import ungrouped
from pytest_robust.pytest_plugin.collect import is_robust, usage_errors_told
from pytest_robust.pytest_plugin.replay import REPLAYS, Ended, Replays
from pytest_robust.store.held import Held, Shelf

TOLD = "robust_replays"
"""Attribute of a test's report: ``told``, ``left`` and ``broken`` of its replays, as one JSON text (see ``FINDINGS``)."""
_REASONS = 5


def register(config: pytest.Config, wanted: str, save_to: Path | None) -> None:
    """Add what a replay needs, in this process."""
    config.pluginmanager.register(Selection(wanted, save_to), "pytest-robust-replay")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Outcome(wanted, save_to), "pytest-robust-replay-outcome")


class Selection:
    """Selects the tests and runs them; in every process that runs tests."""

    def __init__(self, wanted: str, save_to: Path | None) -> None:
        self._wanted, self._save_to = wanted, save_to

    # Last, of what ``-k`` and ``-m`` have left.
    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        with usage_errors_told(config, items):
            self._select(session, config, items)

    def _select(self, session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
        """
        Raises:
            pytest.UsageError: no test has the example, or it is not clear which is meant.
        """
        robust = [item for item in items if is_robust(item)]
        shelf, reasons, every = Shelf(memory.root(config), self._wanted), list[str](), dict[str, Held]()
        others = [item for item in items if item not in robust]
        items.clear()
        for item in robust:
            try:
                held, why = shelf.held(ungrouped(item.nodeid))
            except RobustError as error:
                raise pytest.UsageError(f"--robust-replay: {error}") from None
            reasons += why
            every |= held
            item.stash[REPLAYS] = Replays(self._wanted, held, self._save_to)
            (items if held else others).append(item)
        # After an error of the collection that is what has to be said.
        if not items and not session.testsfailed:
            raise pytest.UsageError(self._not_there(shelf.root, len(robust), reasons))
        if self._save_to is not None and len(every) > 1:
            checks = ", ".join(every)
            raise pytest.UsageError(
                f"--robust-witness is one file, and several checks hold {self._wanted}: name one of {checks}"
            )
        if others:
            config.hook.pytest_deselected(items=others)

    def _not_there(self, root: Path, robust: int, reasons: list[str]) -> str:
        if not robust:
            return f"--robust-replay {self._wanted}: no robust test is selected; name the test whose example it is"
        more = f"; and {len(reasons) - _REASONS} more" if len(reasons) > _REASONS else ""
        return (
            f"--robust-replay {self._wanted}: there is no such adversarial example of the selected tests in {root} "
            f"({'; '.join(reasons[:_REASONS])}{more}). Take the number or the content id from the report of the check's "
            "last run on this machine, or run it again without --robust-replay"
        )

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        with suppress(Ended):
            yield
        replays = item.stash[REPLAYS]
        if replays.broken is not None:
            pytest.fail(f"{replays.broken} (caught by the test)", pytrace=False)
        if replays.left:
            missed = ", ".join(replays.left)
            pytest.fail(
                f"--robust-replay {self._wanted}: the test ended before {missed} was reached, so nothing was replayed there",
                pytrace=False,
            )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        replays = item.stash[REPLAYS]
        state = {"told": replays.told, "left": replays.left, "broken": replays.broken is not None}
        setattr(report, TOLD, json.dumps(state))
        return report


class Outcome:
    """Gathers what came of it and tells it; in the process that reports."""

    def __init__(self, wanted: str, save_to: Path | None) -> None:
        self._wanted, self._save_to = wanted, save_to
        self._told: dict[str, str] = {}
        self._left: set[str] = set()
        self._broken = False
        self._problem: str | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if hasattr(report, TOLD):
            state = json.loads(getattr(report, TOLD))
            self._told |= state["told"]
            self._left = (self._left | set(state["left"])) - self._told.keys()
            self._broken |= state["broken"]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        result = yield
        if not session.config.option.collectonly and not session.testsfailed:
            if self._broken:
                self._problem = "a replayed example is still broken, and its test did not fail (xfail?)"
            elif self._left or not self._told:
                where = ", ".join(sorted(self._left)) or "any check"
                self._problem = f"the example of {where} was not replayed: its test was skipped, or never ran the check"
            # In ``pytest_sessionfinish`` the exit status is settled.
            session.testsfailed += self._problem is not None
        return result

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._told and self._problem is None:
            return
        terminalreporter.section("robust replay")
        for check, sentence in sorted(self._told.items()):
            terminalreporter.write_line(f"{check}: {sentence}".encode("ascii", "backslashreplace").decode())
        if self._told and not self._broken:
            terminalreporter.write_line(
                "One adversarial example that no longer works is no evidence of robustness: an attack may find the next. "
                "Run the check without --robust-replay."
            )
        if self._save_to is not None and self._told and self._save_to.is_file():
            terminalreporter.write_line(f"witness written: {self._save_to}")
        if self._problem is not None:
            terminalreporter.write_line(f"ERROR: --robust-replay {self._wanted}: {self._problem}", red=True)
