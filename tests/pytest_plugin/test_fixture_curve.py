"""``robust.curve``: every budget is a check of its own."""

from __future__ import annotations

import json
from pathlib import Path

import fake_engine
from projects import Run

CURVE = """
def test_it(robust):
    budgets = ["8/255", "2/255", "4/255"]
    found = robust.curve(Fake(40), 0, budgets=budgets, min_accuracy=%s, norm="l2", n=50, profile="release")
    assert found.accuracy_at("8/255").k == 38
    assert [str(result.threat) for result in robust.results] == ["l2 2/255", "l2 4/255", "l2 8/255"]
"""


def test_each_budget_is_a_row_with_its_own_floor(run: Run):
    result = run(CURVE % '{"2/255": .4, "8/255": .3}', "--robust-report=r.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "test_it::curve@2/255 *l2 2/255 *40.0% *40.0% *pass",
            "test_it::curve@4/255 *l2 4/255 *39.0% *report only (no floor for l2 4/255)",
            "test_it::curve@8/255 *l2 8/255 *38.0% *30.0% *pass",
            "robust gate: pass, 3 checks, 1 without a floor",
        ]
    )
    (call,) = fake_engine.CALLS
    assert (str(call.threat.budget), call.n, call.profile, call.name) == ("8/255", 50, "release", "curve")
    checks = json.loads(Path("r.json").read_text())["checks"]
    assert [check["id"] for check in checks] == [f"test_it.py::test_it::curve@{k}/255" for k in (2, 4, 8)]
    assert [point["eps"] for point in checks[0]["curve"]] == ["2/255", "4/255", "8/255"]


def test_a_missed_floor_fails_the_test_and_shows_the_curve(run: Run):
    result = run(CURVE % '{"2/255": .3, "8/255": .39}')
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E   assert robust accuracy 38.0% >= 39.0% (l2 8/255, n=100*",
            "verdict      FAIL floor 39.0% (1 more example must survive)",
            "eps curve    2/255 40.0%   4/255 39.0%   8/255 38.0%",
            "test_it::curve@2/255 *pass",
            "test_it::curve@8/255 *FAIL floor",
            "robust gate: FAIL, 1 floor",
        ]
    )
    assert result.stdout.str().count("eps curve") == 1


def test_budgets_are_those_with_a_floor_where_none_are_named(run: Run):
    run("def test_it(robust): robust.curve(Fake(), 0, min_accuracy={'2/255': .1, '8/255': .1})\n").assert_outcomes(passed=1)
    (call,) = fake_engine.CALLS
    assert [str(budget) for budget in call.budgets] == ["2/255", "8/255"]
    assert str(call.threat.budget) == "8/255"


def test_a_floor_for_no_budget_of_the_curve_is_refused(run: Run):
    result = run("def test_it(robust): robust.curve(Fake(), 0, budgets=['2/255'], min_accuracy={'8/255': .9})\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["robust.curve(...): min_accuracy has a floor for 8/255, which is not among the budgets (2/255)"]
    )


def test_unknown_options_are_errors(run: Run):
    result = run("def test_it(robust): robust.curve(Fake(), 0, eps=.1, confidense=.9)\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*unexpected keyword argument 'confidense'*"])


def test_a_confidence_is_none_of_its_options(run: Run):
    result = run("def test_it(robust): robust.curve(Fake(), 0, eps=.1, confidence=.9)\n")
    result.stdout.fnmatch_lines(["robust.curve(...): confidence is for a sample, and on a curve every example is decided"])


def test_draws_are_none_of_its_options_in_the_call_or_the_marker(run: Run):
    result = run(
        "def test_call(robust): robust.curve(Fake(), 0, eps=.1, draws=9)\n"
        "@pytest.mark.robust(draws=9)\n"
        "def test_marker(robust): robust.curve(Fake(), 0, eps=.1)\n"
    )
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["robust.curve(...): draws are for one budget at a time; use robust(...)"])


def test_budgets_of_the_run_make_the_largest_and_its_floor_holds_at_each(run: Run):
    result = run("def test_it(robust): robust.curve(Fake(31), 0)\n", "--robust-eps=8/255", "--robust-fail-under=.5")
    result.assert_outcomes(failed=1)
    (call,) = fake_engine.CALLS
    assert (call.budgets, str(call.threat.budget)) == (None, "8/255")


def test_the_command_line_wins_when_forced(run: Run):
    run(
        "def test_it(robust): robust.curve(Fake(), 0, budgets=['2/255', '8/255'])\n", "--robust-eps=4/255", "--robust-force"
    ).assert_outcomes(passed=1)
    (call,) = fake_engine.CALLS
    assert (call.budgets, str(call.threat.budget)) == (None, "4/255")


def test_a_threat_in_full_and_two_curves_of_one_test(run: Run):
    source = """
from pytest_robust import L0
def test_it(robust):
    for _ in range(2): robust.curve(Fake(), 0, L0(3), budgets=[1, 2])
"""
    result = run(source)
    result.stdout.fnmatch_lines(["test_it::curve@1 *l0 1 *", "test_it::curve@2 *", "test_it::curve#2@1 *", "*4 checks*"])


def test_an_evaluation_that_is_no_evidence_fails_where_a_floor_is_met_and_where_there_is_none(run: Run):
    for floor in ("{.1: .5}", "None"):
        call = f"robust.curve(Fake(90, level='invalid'), 0, budgets=[.1, .2], min_accuracy={floor})"
        result = run(f"def test_it(robust): {call}\n")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*not evidence: gradients*"])


def test_an_error_is_a_row_of_the_curve(run: Run):
    result = run("def test_it(robust): robust.curve(Fake(raises=ValueError('no labels')), 0, eps=.1)\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_it::curve *ERROR"])
