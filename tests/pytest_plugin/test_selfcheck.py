"""``--robust-selfcheck``: the conformance suite as tests without a file. The engine is the real one."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from projects import ARGUMENTS

# Before pytest runs inside a test: it forgets the modules that it imports itself.
from pytest_robust.conformance import CHECKS
from pytest_robust.reports import selfcheck

CONFTEST = """
import pytest
from pytest_robust import PGD, ThreatError

class Identity(PGD):
    def begin(self, threat, live):
        live.x = live.region.origin
    def update(self, threat, live, loss, grad):
        pass

class OnlyLinf(PGD):
    def begin(self, threat, live):
        if threat.norm != "linf":
            raise ThreatError("this one is for linf")
        super().begin(threat, live)

class Buggy(PGD):
    def update(self, threat, live, loss, grad):
        raise ZeroDivisionError("the step of nothing")

def pytest_robust_attacks(config):
    return {"identity": Identity, "only-linf": OnlyLinf, "buggy": Buggy}
"""
ROOT = Path(__file__).parents[2]
COLLECTED = len(CHECKS)


@pytest.fixture
def check(pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_other="raise AssertionError('never imported')")

    def runner(*args: str, run=pytester.runpytest_inprocess) -> pytest.RunResult:
        return run(*ARGUMENTS, *args)

    return runner


def test_the_engine_is_checked_with_both_profiles_and_nothing_else_is_collected(check):
    result = check("--robust-selfcheck", "--collect-only", "-q")
    assert result.ret == 0
    ids = [line for line in result.outlines if "::" in line]
    assert ids == [f"selfcheck::{c.name}[{profile}]" for profile in ("standard", "release") for c in CHECKS]


def test_the_table(check):
    result = check("--robust-selfcheck", "-k", "linear-l0 or killed")
    result.assert_outcomes(passed=4, deselected=2 * COLLECTED - 4)
    result.stdout.fnmatch_lines(
        [
            "robust: self-check of the engine",
            "*= robust self-check =*",
            "check * of * expected * got * verdict",
            "linear-l0 * standard *36.2% robust, exactly * 36.2% * pass",
            "masked-killed-gradients * standard  no PASS above *: gradient  refused: gradient  pass",
            "linear-l0 * release *",
            "masked-killed-gradients * release *",
            "robust self-check: pass, 4 checks",
        ]
    )
    assert "robust gate" not in result.stdout.str()


def test_quiet_leaves_one_line(check):
    result = check("--robust-selfcheck", "-k", "linear-l0", "-q")
    result.stdout.fnmatch_lines(["robust self-check: pass, 2 checks"])
    assert "expected" not in result.stdout.str()


def test_a_bad_attack_fails_by_name_and_exits_1(check):
    result = check("--robust-selfcheck=identity", "-k", "linear-linf or units or no-budget")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=2, passed=1, deselected=len([c for c in CHECKS if not c.engine_only]) - 3)
    result.stdout.fnmatch_lines(
        [
            "robust: self-check of identity",
            "*points too high; expected: 62.5% robust, exactly, or 10 points above",
            "linear-linf * identity * points too high * FAIL",
            "no-budget * identity * pass",
            "robust self-check: FAIL, 2 of 3 checks",
            "FAILED selfcheck::linear-linf?identity?*",
        ]
    )


def test_what_an_attack_is_not_for_is_skipped(check):
    result = check("--robust-selfcheck=only-linf", "-k", "linear-linf or linear-l2", "-rs")
    result.assert_outcomes(passed=1, skipped=1, deselected=17)
    result.stdout.fnmatch_lines(
        [
            "linear-l2 * only-linf * not for this norm: ThreatError: this one is for linf * skip",
            "robust self-check: pass, 2 checks, 1 not for this attack",
        ]
    )


def test_an_error_of_an_attack_shows_its_lines(check):
    result = check("--robust-selfcheck=buggy", "-k", "linear-linf")
    result.assert_outcomes(failed=1, deselected=18)
    result.stdout.fnmatch_lines(
        [
            '*raise ZeroDivisionError("the step of nothing")',
            "linear-linf * buggy * - * ZeroDivisionError: the step of nothing * ERROR",
            "robust self-check: FAIL, 1 of 1 check",
        ]
    )


def test_several_attacks_own_ones_among_them(check):
    result = check("--robust-selfcheck", "only-linf,fgsm", "-k", "linear-linf")
    result.assert_outcomes(passed=2, deselected=36)
    result.stdout.fnmatch_lines(["linear-linf * only-linf *", "linear-linf * fgsm *"])


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (
            ["--robust-selfcheck=only-link"],
            "--robust-selfcheck: no attack is called 'only-link'; known: *; did you mean only-linf?",
        ),
        (
            ["--robust-selfcheck=agpd-ce"],
            "--robust-selfcheck: no attack is called 'agpd-ce'; known: *; did you mean apgd-ce*",
        ),
        (["--robust-selfcheck=fgsm,"], "--robust-selfcheck: an empty item in 'fgsm,'"),
        (
            ["--robust-selfcheck", "tests/test_a.py"],
            "--robust-selfcheck runs alone, without test files: leave out tests/test_a.py",
        ),
        (
            ["test_other.py", "--robust-selfcheck"],
            "--robust-selfcheck runs alone, without test files: leave out test_other.py",
        ),
        (
            ["--robust-selfcheck", "--robust-eps=1", "--robust-fail-under=0.4"],
            "--robust-selfcheck runs alone, on problems of its own: leave out --robust-eps, --robust-fail-under",
        ),
    ],
)
def test_what_cannot_be_checked_exits_4(check, args, complaint):
    result = check(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {complaint}"])


def test_nothing_selected_is_no_success(check):
    result = check("--robust-selfcheck", "-k", "linear-l7")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_reports(check, pytester):
    reports = (f"--robust-report=r.{kind}" for kind in ("json", "md", "html"))
    check("--robust-selfcheck=identity", "-k", "linear-l", *reports, "--junitxml=j.xml")
    run = json.loads((pytester.path / "r.json").read_text())
    jsonschema.validate(run, json.loads((ROOT / "docs" / "report.schema.json").read_text()))
    assert run["selfcheck"]["verdict"] == "fail"
    assert run["gate"]["verdict"] == "none"
    first = run["selfcheck"]["rows"][0]
    assert first == {
        "check": "linear-linf",
        "of": "identity",
        "expected": "62.5% robust, exactly, or 10 points above",
        "got": first["got"],
        "verdict": "FAIL",
    }
    page = (pytester.path / "r.md").read_text()
    assert page.startswith("## Robust self-check\n\n**robust self-check: FAIL, 4 of 4 checks**\n\n| check")
    assert page.count("| identity |") == 4
    page = (pytester.path / "r.html").read_text()
    assert "robust self-check: FAIL, 4 of 4 checks" in page
    assert page.count("<td>identity</td>") == 4
    (case, *_) = ElementTree.parse(pytester.path / "j.xml").iter("testcase")
    assert case.get("name") == "linear-linf[identity]"
    assert {p.get("name"): p.get("value") for p in case.iter("property")}["robust.verdict"] == "FAIL"


def test_stopped_early_is_incomplete(check):
    result = check("--robust-selfcheck=identity", "-k", "linear-l", "-x", "--robust-report=r.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["robust self-check: FAIL, 1 of 1 check"])


def test_workers_give_the_same_table(check, pytester):
    tables = []
    several = ("-p", "xdist.plugin", "-n2")
    for args, run in (((), pytester.runpytest_inprocess), (several, pytester.runpytest_subprocess)):
        result = check("--robust-selfcheck=identity", "-k", "linear-l", *args, run=run)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        lines = result.outlines
        tables.append([line for line in lines if line.startswith(("linear", "robust self-check: "))])
    assert tables[0] == tables[1]
    assert len(tables[0]) == 5


def test_an_unknown_name_under_xdist_exits_4(check, pytester):
    result = check("--robust-selfcheck=only-link", "-p", "xdist.plugin", "-n1", run=pytester.runpytest_subprocess)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --robust-selfcheck: no attack is called 'only-link'*"])


def test_a_run_that_was_cut_short_does_not_pass():
    rows = [{"check": "units", "of": "x", "expected": "a", "got": "b", "verdict": "pass"}]
    assert selfcheck.summary(selfcheck.outcome(rows, complete=False)) == "robust self-check: INCOMPLETE, 1 check"
    assert selfcheck.summary(selfcheck.outcome(rows, complete=True)) == "robust self-check: pass, 1 check"


def test_cells_stay_short_and_ascii():
    rows = [{"check": "units", "of": "x", "expected": "0.310", "got": "n\u00fcll " * 50, "verdict": "ERROR"}]
    lines = selfcheck.table(selfcheck.outcome(rows, complete=True))
    assert [good for _, good in lines] == [None, None, False]
    assert "0.310" in lines[2][0]
    assert " ... " in lines[2][0]
    assert lines[2][0].isascii()
