"""``--robust-model`` and ``--robust-data``: a check without a test file."""

from __future__ import annotations

import sys

import fake_engine
import pytest
from projects import ARGUMENTS

NETS = """
import functools
from fake_engine import Fake

weak, strong = Fake(31), Fake(80)
data = [1, 2, 3]

def load(): return Fake(31)
def read(split="test"): return f"the {split} set"
def predict(x): return x
def broken(): raise OSError("no weights at /models/x.pt")

class Net(Fake): pass
class Space: net = Fake(80)
"""

NAMED = ("--robust-model", "nets:weak", "--robust-data", "nets:data")


@pytest.fixture
def check(project):
    project.makepyfile(nets=NETS)

    def runner(*args: str) -> pytest.RunResult:
        return project.runpytest_inprocess(*ARGUMENTS, *args)

    return runner


def test_one_item_per_budget_without_a_file(check):
    result = check(*NAMED, "--robust-eps=2/255,8/255", "--robust-fail-under=0.4", "-v")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "robust::weak?linf-2/255? FAILED*",
            "robust::weak?linf-8/255? FAILED*",
            "*assert robust accuracy 31.0% >= 40.0% (linf 2/255, n=100, 95% CI 22.1-41.0)",
            "reproduce *pytest --robust-model nets:weak --robust-data nets:data --robust-eps 2/255 --robust-fail-under 0.4",
            "reproduce *pytest --robust-model nets:weak --robust-data nets:data --robust-eps 8/255 --robust-fail-under 0.4",
            "robust gate: FAIL, 2 floors",
        ]
    )
    assert "collect.py" not in result.stdout.str()


def test_without_a_budget_it_fails_with_the_ways_to_give_one(check):
    result = check(*NAMED)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["the check of --robust-model has no budget; name one with --robust-eps 8/255*"])


def test_without_a_floor_it_reports(check):
    result = check(*NAMED, "--robust-eps=0.1")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["weak?linf-0.1? *report only", "robust gate: no floor was set, 1 check reported only"])


def test_collect_only_shows_it(check):
    result = check(*NAMED, "--robust-eps=0.1", "--collect-only", "-q")
    result.stdout.fnmatch_lines(["robust::weak?linf-0.1?"])
    assert fake_engine.CALLS == []


def test_it_adds_to_the_tests_collected_and_can_be_selected(check, project):
    project.makepyfile(test_other="def test_other(): pass")
    check(*NAMED, "--robust-eps=0.1").assert_outcomes(passed=2)
    check(*NAMED, "--robust-eps=0.1", "-m", "robust").assert_outcomes(passed=1, deselected=1)
    check(*NAMED, "--robust-eps=0.1", "-k", "weak").assert_outcomes(passed=1, deselected=1)
    check(*NAMED, "--robust-eps=0.1", "-m", "not robust").assert_outcomes(passed=1, deselected=1)


@pytest.mark.parametrize("model", ["nets:load", "nets:Net", "nets:Space.net", "nets:weak"])
def test_functions_and_classes_are_called_objects_are_taken(check, model):
    check("--robust-model", model, "--robust-data", "nets:read", "--robust-eps=0.1").assert_outcomes(passed=1)
    assert isinstance(fake_engine.CALLS[0].model, fake_engine.Fake)
    assert fake_engine.CALLS[0].data == "the test set"


def test_a_function_of_an_input_is_a_model(check, monkeypatch):
    from pytest_robust import models

    seen = []
    monkeypatch.setattr(models, "adapt", lambda model, **_: seen.append(model) or fake_engine.Fake())
    check("--robust-model", "nets:predict", "--robust-data", "nets:data", "--robust-eps=0.1").assert_outcomes(passed=1)
    assert [model.__name__ for model in seen] == ["predict"]


@pytest.mark.parametrize(
    ("model", "data", "complaint"),
    [
        ("nowhere:weak", "nets:data", "--robust-model nowhere:weak: ModuleNotFoundError: No module named 'nowhere'; PKG *"),
        ("nets:typo", "nets:data", "--robust-model nets:typo: AttributeError: *'typo'*"),
        ("nets:weak", "nets:typo", "--robust-data nets:typo: AttributeError: *'typo'*"),
    ],
)
def test_what_cannot_be_imported_exits_4(check, model, data, complaint):
    result = check("--robust-model", model, "--robust-data", data, "--robust-eps=0.1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {complaint}"])


def test_a_failing_factory_fails_the_check(check):
    result = check("--robust-model", "nets:broken", "--robust-data", "nets:data", "--robust-eps=0.1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*OSError: no weights at /models/x.pt", "robust gate: FAIL, 1 error"])


def test_root_and_current_directory_are_searched(check, project, monkeypatch):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(project.path))])
    project.makepyprojecttoml("[tool.pytest.ini_options]")
    (project.path / "scripts").mkdir()
    (project.path / "scripts" / "sets.py").write_text("data = 'found'")
    monkeypatch.chdir(project.path / "scripts")
    check("--robust-model", "nets:weak", "--robust-data", "sets:data", "--robust-eps=1").assert_outcomes(passed=1)
    assert fake_engine.CALLS[0].data == "found"


def test_last_failed_runs_it_again(check):
    check(*NAMED, "--robust-eps=2/255,8/255", "--robust-fail-under=0.4")
    check(*NAMED, "--robust-eps=2/255,8/255", "--robust-fail-under=0.2", "--lf").assert_outcomes(passed=2)


def test_import_error_under_xdist_exits_4(project):
    result = project.runpytest_subprocess(*ARGUMENTS, "-p", "xdist.plugin", *NAMED, "--robust-eps=1", "-n2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --robust-model nets:weak: ModuleNotFoundError: No module named 'nets'*"])
