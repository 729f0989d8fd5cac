"""The session: gathers the results of every test, from this process or from xdist workers, and closes the run."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import pytest_robust
from pytest_robust.pytest_plugin import memory, regressions, shards
from pytest_robust.pytest_plugin.call import ungrouped
from pytest_robust.pytest_plugin.checks import Checks
from pytest_robust.pytest_plugin.collect import WORKER_USAGE_ERROR
from pytest_robust.pytest_plugin.progress import LAST
from pytest_robust.pytest_plugin.selfcheck import noted
from pytest_robust.pytest_plugin.settings import Settings
from pytest_robust.reports.annotations import Location
from pytest_robust.reports.record import Record
from pytest_robust.reports.run import ItemResult, Run, gate_line, run
from pytest_robust.shard import Shard
from pytest_robust.store.baseline import BaselineError, Source
from pytest_robust.whole_files import unwritten

if TYPE_CHECKING:
    from pytest_robust.reports.selfcheck import Row

FINDINGS = "robust_findings"
"""Attribute of the report of a robust test: its ``findings`` so far, as one JSON text.

Text, because a value that xdist cannot send kills the worker and loses the test.
"""
SECTION = "robust"
"""The heading of the details of a failed check."""


class Ledger:
    """What arrived. One per session, in the process that reports: not in an xdist worker."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config, self._settings = config, settings
        self._order: dict[str, None] = {}
        self._results: dict[str, ItemResult] = {}
        self._reported: set[str] = set()
        self._failed: list[pytest.TestReport] = []
        self._locations: dict[str, Location] = {}
        self._usage_error: str | None = None
        self._problems: list[str] = []
        self._notes: list[str] = []
        self._run: Run | None = None
        self._rows: dict[str, Row] = {}
        self._shares: dict[str, Record] = {}
        self._share: Run | None = None

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._order.update(dict.fromkeys(item.nodeid for item in session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        self._order.update(dict.fromkeys(map(ungrouped, ids)))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        output = getattr(node, "workeroutput", None) or {}
        self._usage_error = output.get(WORKER_USAGE_ERROR, self._usage_error)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome not in ("passed", "failed", "skipped"):
            return  # "rerun": another report follows
        nodeid = ungrouped(report.nodeid)
        if report.when != "setup" or not report.passed:
            self._reported.add(nodeid)
        row = noted(report, nodeid)
        if row is not None:
            self._rows[nodeid] = row
        if not hasattr(report, FINDINGS):
            if report.failed and nodeid in self._results:  # xdist reports a crash with none of our attributes
                self._results[nodeid].outcome = "failed"
                self._results[nodeid].message = first_line(report)
            return
        self._locations[nodeid] = report.location
        result = self._results.setdefault(nodeid, ItemResult(nodeid))
        found = json.loads(getattr(report, FINDINGS))
        self._shares |= {id: one | {"nodeid": nodeid} for id, one in found["shares"].items()}
        known = {check["id"] for check in result.records}
        result.records += [check for check in found["records"] if check["id"] not in known]
        result.errors = found["errors"]  # all so far: a rerun takes back those of the run before
        if report.failed:
            self._failed.append(report)
            result.outcome, result.message = "failed", result.message or first_line(report)
            result.raised |= found["raised"]
        elif report.skipped and result.outcome != "failed":
            result.outcome = "xfailed" if hasattr(report, "wasxfail") else "skipped"

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        # As pytest-cov does: in ``pytest_sessionfinish`` the exit status is settled, in the summary an exception is a
        # traceback after the table.
        finished = False
        shard = self._settings.shard
        if shard is not None and not session.config.option.collectonly:
            shards.begin(self._config, shard)
        try:
            result = yield
            finished = not (session.shouldstop or session.shouldfail)
            return result
        finally:
            if not session.config.option.collectonly:
                self._close(session, finished)
            if self._usage_error is not None:
                raise pytest.UsageError(self._usage_error)

    def _close(self, session: pytest.Session, finished: bool) -> None:
        """Gather the run and write its reports; what goes wrong fails the session."""
        missing = [nodeid for nodeid in self._order if nodeid not in self._reported] if finished else []
        if missing:
            self._problems.append(
                f"ERROR: {len(missing)} of {len(self._order)} collected tests never reported a result, {missing[0]} first: "
                "a worker died or lost them; their verdict is unknown, so the session fails"
            )
        position = {nodeid: i for i, nodeid in enumerate(self._order)}
        if self._settings.shard is not None:
            self._close_shard(session, self._settings.shard, finished and not missing)
            return
        results = sorted(self._results.values(), key=lambda result: position.get(result.nodeid, len(position)))
        self._rows = dict(sorted(self._rows.items(), key=lambda row: position.get(row[0], len(position))))
        gating, ids = self._settings.gating, {check["id"] for result in results for check in result.records}
        comparing = gating.source is not None and not gating.update
        absent = [id for id in regressions.critical(gating.source) if id not in ids] if comparing and gating.source else []
        self._run = run(
            results,
            missing=missing,
            complete=finished,
            version=pytest_robust.__version__,
            gate=gating.gate,
            absent=absent,
        )
        if self._rows:
            from pytest_robust.reports import selfcheck

            self._run["selfcheck"] = selfcheck.outcome(list(self._rows.values()), complete=self._run["complete"])
        if gating.update and gating.source is not None:
            self._accept(gating.source, finished)
        elif gating.source is not None and (gating.gate == "release" or self._config.get_verbosity() >= 0):
            self._notes += regressions.unsettled(gating.source, self._run)
        if self._run["gate"]["verdict"] == "fail" and not session.testsfailed:
            # What no single test could know: that something is missing, or what all together show.
            session.testsfailed += 1
        merge = self._settings.merge
        if merge is not None and finished:
            # Whatever the gate says of the others. A session that was cut short has no status of a pass anyway.
            self._usage_error = shards.undecided(merge, self._run) or self._usage_error
        for report in self._failed:
            # Again, for by now the other budgets of the same test are known.
            own = [check for check in self._run["checks"] if check["nodeid"] == ungrouped(report.nodeid)]
            report.sections = [*(part for part in report.sections if part[0] != SECTION), *sections(own)]
        for path in self._settings.reports:
            self._attempt(f"ERROR: --robust-report {path}", path, append=False)
        if self._problems:
            session.testsfailed += 1
        if self._run["checks"]:
            try:
                memory.keep(self._config, self._run)
            except OSError as error:
                self._notes.append(f"warning: the run cannot be kept in {memory.root(self._config)}: {unwritten(error)}")
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if summary and (self._shows or self._rows):
            # Nobody asked for this one in this run: a failure is said, but fails nothing.
            self._attempt(f"warning: GITHUB_STEP_SUMMARY {summary}", Path(summary), append=True)

    def _close_shard(self, session: pytest.Session, shard: Shard, complete: bool) -> None:
        """Leave behind what the shard came to. What is missing there is found when the shards are merged."""
        errors = {
            id: message
            for result in self._results.values()
            if result.outcome == "failed"
            for id, message in (result.errors or {result.nodeid: result.message}).items()
        }
        self._share = shards.outcome(shard, self._shares, errors, complete=complete)
        try:
            shards.finish(self._config, shard, self._share)
        except OSError as error:
            self._share["complete"] = False
            self._problems.append(f"ERROR: what the shard came to cannot be written: {error}")
        if not self._share["complete"] and not session.testsfailed:
            session.testsfailed += 1

    def _accept(self, source: Source, finished: bool) -> None:
        """Write the baselines; what cannot be written fails the session."""
        assert self._run is not None
        if not finished:
            self._problems.append("ERROR: --robust-update: the session was cut short, so no baseline was written")
            return
        try:
            written, refused = regressions.accepted(source, self._run["checks"], memory.commit(self._config))
        except BaselineError as error:
            self._problems.append(f"ERROR: --robust-update: {error}")
            return
        self._notes += [f"baseline written: {os.path.relpath(path, self._config.rootpath)}" for path in written]
        self._notes += [f"no baseline written: {text}" for text in refused]

    def _attempt(self, what: str, path: Path, *, append: bool) -> None:
        from pytest_robust.reports import files

        assert self._run is not None
        try:
            if append:
                files.append_markdown(self._run, path)
            else:
                html = path.suffix == ".html"
                files.write(self._run, path, memory.pictures(self._config, self._run) if html else None)
        except OSError as error:
            self._problems.append(f"{what}: cannot be written: {unwritten(error)}")

    @property
    def _shows(self) -> bool:
        """Whether there is anything to show; a run without robust tests is silent."""
        known = self._run
        if known is None or not self._results:
            return False
        return bool(known["checks"] or known["errors"] or known["missing"] or known["gate"]["skipped"])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        write = terminalreporter.write_line
        quiet = self._config.get_verbosity() < 0
        if self._run is not None and self._shows and not quiet:
            from pytest_robust.reports import terminal

            terminalreporter.section("robustness")
            for line, good in terminal.table(self._run):
                write(line, green=good is True, red=good is False)
        if self._share is not None and not quiet:
            from pytest_robust.reports import share

            terminalreporter.section("robustness")
            for line in share.table(self._share):
                write(line)
        for line in self._retrained():
            write(line)
        for note in self._notes:
            write(note, yellow=True)
        for problem in self._problems:
            write(problem, red=True)
        interrupted = self._config.stash.get(LAST, None)
        if interrupted is not None:
            write(f"interrupted: {interrupted}")
        if self._run is not None and self._shows:
            for line in self._annotations(self._run):
                write(line)
            verdict = self._run["gate"]["verdict"]
            write(gate_line(self._run), bold=True, red=verdict == "fail", green=verdict == "pass")
        if self._share is not None:
            from pytest_robust.reports import share

            write(share.summary(self._share), bold=True, red=not self._share["complete"])
        if self._run is not None and "selfcheck" in self._run:
            self._show_selfcheck(terminalreporter, self._run["selfcheck"], quiet=quiet)

    def _retrained(self) -> list[str]:
        """A line or two for each model that was to be retrained."""
        checks = [] if self._run is None else [check for check in self._run["checks"] if check["retrained"] is not None]
        if not checks:
            return []
        from pytest_robust.reports import words

        return [f"retrained {check['id']}: {text}" for check in checks for text in words.retrained(check)[:2]]

    @staticmethod
    def _show_selfcheck(reporter: pytest.TerminalReporter, outcome: dict[str, Any], *, quiet: bool) -> None:
        from pytest_robust.reports import selfcheck

        if not quiet:
            reporter.section("robust self-check")
            for line, good in selfcheck.table(outcome):
                reporter.write_line(line, green=good is True, red=good is False)
        verdict = outcome["verdict"]
        reporter.write_line(selfcheck.summary(outcome), bold=True, red=verdict == "fail", green=verdict == "pass")

    def _annotations(self, known: Run) -> list[str]:
        """What GitHub shows at the lines of a pull request; nothing elsewhere."""
        if os.environ.get("GITHUB_ACTIONS") != "true":
            return []
        from pytest_robust.reports import annotations, words

        failed = [
            (self._locations[result.nodeid], result.nodeid, result.message)
            for result in self._results.values()
            if result.outcome == "failed"
        ]
        checks = [(self._locations[check["nodeid"]], check) for check in known["checks"]]
        # That they regressed only the run as a whole shows.
        failed += [
            (where, check["id"], words.regression(check))
            for where, check in checks
            if words.regressed(check) and check["outcome"] == "passed" and check["tier"] == "critical"
        ]
        return annotations.annotated(failed, checks, self._config.rootpath)


def findings(checks: Checks, call: pytest.CallInfo[None]) -> dict[str, Any]:
    """The checks of a test, and whether it is an error, no assertion, that failed it."""
    error = None if call.excinfo is None else call.excinfo.value
    # What is no ``Exception`` is a verdict of pytest: ``pytest.fail``.
    raised = isinstance(error, Exception) and not isinstance(error, AssertionError)
    return {
        "records": list(checks.records.values()),
        "shares": checks.shares,
        "errors": checks.errors,
        "raised": raised,
    }


def sections(checks: Sequence[Record]) -> list[tuple[str, str]]:
    """The details of a failed test's checks that failed; of all of them where it failed for another reason."""
    if not checks:
        return []
    from pytest_robust.reports import terminal

    shown = [check for check in checks if check["verdict"] == "fail"] or checks
    return [(SECTION, terminal.section(check)) for check in shown]


def first_line(report: pytest.TestReport) -> str:
    """The first line of what went wrong."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(report.longrepr) if crash is None else crash.message
    return text.strip().splitlines()[0] if text.strip() else "failed"
