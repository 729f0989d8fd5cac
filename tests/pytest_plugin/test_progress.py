"""Progress: a bar on a terminal, lines in a log, silence with ``-q``."""

from __future__ import annotations

import sys
from contextlib import nullcontext

import pytest
from projects import Run

from pytest_robust.evaluation import Progress
from pytest_robust.pytest_plugin import progress

EVENT = Progress("test_a", "apgd-ce", 40, 100, 0.55)
SOURCE = """
from pytest_robust.evaluation import Progress

def report(progress):
    print("captured")
    for decided in range(0, 101, 20):
        progress(Progress("x", "apgd-ce", decided, 100, 0.5))

def test_a(robust): robust(Fake(60, during=report), 0, eps=0.1, min_accuracy=0.4)
"""


@pytest.fixture
def config(pytester: pytest.Pytester) -> pytest.Config:
    return pytester.parseconfig()


def test_a_line_every_30_seconds(config):
    now, lines = [0.0], []
    watcher = progress.Lines(config, "test_a", nullcontext, lines.append, clock=lambda: now[0])
    for now[0] in range(0, 100, 5):
        watcher(EVENT)
    expected = "robust: test_a: apgd-ce, 40 of 100 decided, robust accuracy <= 55.0%, {} s"
    assert lines == [expected.format(seconds) for seconds in (30, 60, 90)]


def test_lines_reach_the_log_through_the_capture(run: Run, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    result = run(SOURCE)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["robust: test_a: apgd-ce, 100 of 100 decided, robust accuracy <= 50.0%, 0 s"])
    assert "captured" not in result.stdout.str()


def test_quiet_shows_no_progress(run: Run, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    assert "decided" not in run(SOURCE, "-q").stdout.str()


def test_workers_write_to_standard_error(config, monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(config, "workerinput", {}, raising=False)
    progress.watch(config, "test_a")(EVENT)
    assert capsys.readouterr().err == "robust: test_a: apgd-ce, 40 of 100 decided, robust accuracy <= 55.0%, 0 s\n"


def test_bar_on_a_terminal_is_gone_afterwards(config, monkeypatch, capsys):
    now, newlines = [0.0], []
    bar = progress.Bar(config, "test_a", nullcontext, lambda: newlines.append(1), clock=lambda: now[0])
    for now[0] in (0.0, 0.01, 0.02, 0.2):
        bar(EVENT)
    shown = capsys.readouterr().err
    assert shown.count("40/100") == 2
    assert "apgd-ce, robust <= 55.0%" in shown
    assert shown.isascii()
    assert newlines == [1]
    bar.close()
    assert capsys.readouterr().err.rstrip(" ").endswith("\r")


def test_bar_is_chosen_on_a_terminal_only(pytester, config, monkeypatch):
    terminal = config.pluginmanager.getplugin("terminalreporter")
    assert terminal is None or not terminal.isatty
    fake = type("Terminal", (), {"isatty": True, "ensure_newline": staticmethod(lambda: None)})()
    monkeypatch.setattr(config.pluginmanager, "getplugin", lambda name: fake if name == "terminalreporter" else None)
    assert isinstance(progress.watch(config, "test_a"), progress.Bar)
    fake.isatty = False
    assert isinstance(progress.watch(config, "test_a"), progress.Lines)
    config.option.verbose = -1
    assert type(progress.watch(config, "test_a")) is progress.Silent


def test_a_bar_starts_no_thread(config):
    import threading

    before = threading.active_count()
    bar = progress.Bar(config, "test_a", nullcontext, lambda: None)
    bar(EVENT)
    assert threading.active_count() == before
    bar.close()


def test_finished_checks_leave_nothing_behind(config):
    silent = progress.Silent(config, "test_a")
    silent(EVENT)
    assert config.stash[progress.LAST].startswith("test_a: apgd-ce, 40 of 100")
    silent.close()
    assert progress.LAST not in config.stash
    assert sys.exc_info() == (None, None, None)
