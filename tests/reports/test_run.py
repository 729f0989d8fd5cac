"""The run: what the gate counts."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from sample_checks import check, health, item

from pytest_robust.evaluation.result import Identity
from pytest_robust.reports import words
from pytest_robust.reports.run import gate_line, run
from pytest_robust.threats.summary import ThreatSummary

HALF = Fraction(1, 2)


def gate(*items, missing=(), complete=True):
    made = run(items, missing=missing, complete=complete, version="1")
    return made, gate_line(made)


@pytest.mark.parametrize(
    ("items", "line"),
    [
        ([item("a", "failed", check("a"))], "robust gate: FAIL, 1 floor"),
        ([item("a", "failed", check("a")), item("b", "failed", check("b"))], "robust gate: FAIL, 2 floors"),
        ([item("a", "passed", check("a", floor=HALF))], "robust gate: pass, 1 check"),
        ([item("a", "failed", check("a", floor=None))], "robust gate: FAIL, 1 assertion"),
        ([item("a", "failed", check("a", floor=HALF))], "robust gate: FAIL, 1 error"),
        ([item("a", "failed", message="no labels")], "robust gate: FAIL, 1 error"),
        ([item("a", "failed", check("a", floor=HALF, health=health("invalid")))], "robust gate: FAIL, 1 not evidence"),
        ([item("a", "failed", check("a", floor=None, health=health("invalid")))], "robust gate: FAIL, 1 not evidence"),
        ([item("a", "passed", check("a", tier="advisory"))], "robust gate: pass, 1 check, 1 advisory"),
        ([item("a", "xfailed", check("a"))], "robust gate: pass, 1 check, 1 missed floor expected (xfail)"),
        ([item("a", "passed", check("a", floor=None))], "robust gate: no floor was set, 1 check reported only"),
        (
            [item("a", "passed", check("a", floor=None)), item("b", "passed", check("b", floor=HALF))],
            "robust gate: pass, 2 checks, 1 without a floor",
        ),
        (
            [item("a", "passed", check("a", floor=HALF, health=health("suspicious")))],
            "robust gate: pass, 1 check, 1 suspicious",
        ),
        ([item("a", "passed", check("a"))], "robust gate: pass, 1 check, 1 missed floor caught by its test"),
        ([item("a", "skipped")], "robust gate: no check was decided, 1 skipped"),
        ([], "robust gate: no check was decided"),
        (
            [item("a", "passed", check("a", floor=HALF, profile="smoke"))],
            "robust gate: pass, 1 check, smoke profile: no evidence",
        ),
    ],
)
def test_gate(items, line):
    assert gate(*items)[1] == line


def test_floorless_checks_beside_a_missed_floor_are_not_blamed():
    made, line = gate(item("a", "failed", check("a#1", floor=None), check("a#2")))
    assert [entry["verdict"] for entry in made["checks"]] == ["report", "fail"]
    assert line == "robust gate: FAIL, 1 floor"


def test_advisory_check_in_a_test_that_failed_otherwise_is_no_reason():
    assert gate(item("a", "failed", check("a", tier="advisory")))[1] == "robust gate: FAIL, 1 error, 1 advisory"


def test_missing_results_fail_the_gate():
    made, line = gate(item("a", "passed", check("a", floor=HALF)), missing=["b"])
    assert (made["complete"], made["gate"]["verdict"]) == (False, "fail")
    assert line == "robust gate: FAIL, 1 missing, incomplete"


def test_a_session_cut_short_does_not_pass():
    made, line = gate(item("a", "passed", check("a", floor=HALF)), complete=False)
    assert made["gate"]["verdict"] == "incomplete"
    assert line == "robust gate: INCOMPLETE, 1 check"
    assert gate(item("a", "passed", check("a", floor=None)), complete=False)[1] == (
        "robust gate: no floor was set, 1 check reported only, incomplete"
    )


def test_the_gate_counts_what_failed_no_test_by_its_fate():
    caught = item("c", "passed")
    caught.errors["c"] = "no labels"
    made, line = gate(
        item("a", "xfailed", check("a#1"), check("a#2")),
        item("b", "skipped", check("b#1"), check("b#2", floor=HALF, health=health("invalid"))),
        caught,
        item("d", "passed", check("d", tier="advisory")),
        item("e", "failed", check("e")),
    )
    assert made["gate"]["unfailed"] == {
        "passed": {"error": 1},
        "skipped": {"missed floor": 1, "invalid check": 1},
        "xfailed": {"missed floor": 2},
    }
    assert line == (
        "robust gate: FAIL, 1 floor, 1 advisory, 1 error caught by its test, 1 missed floor skipped by its test, "
        "1 invalid check skipped by its test, 2 missed floors expected (xfail)"
    )


def test_errors_carry_their_message():
    made, _ = gate(item("a", "failed", message="no labels"))
    assert made["errors"] == [{"id": "a", "message": "no labels", "outcome": "failed"}]


def budgets(*evaluations, **changes):
    """Checks of one model that differ in the budget: one passed test each."""
    identity = Identity("attack", "data", "model", "check")
    correct = np.array([True] * 9 + [False])
    for number, (value, broken_by) in enumerate(evaluations):
        robust = np.array([by is None for by in broken_by])
        own = {"broken_by": broken_by, "robust": robust, "floor": None, "identity": identity, "correct": correct}
        threat = ThreatSummary("linf", f"{value}/255", value / 255, "input", "[0, 1]")
        id = f"test_it.py::test_a[{number}]"
        yield item(id, "passed", check(id, threat=threat, outcome="passed", family="test_a", **own | changes))


CLEAN_LAST = (*[None] * 8, "pgd", "clean")


def test_who_breaks_at_a_smaller_budget_does_not_survive_a_larger_one():
    fine = run(budgets((2, CLEAN_LAST), (4, CLEAN_LAST)), missing=[], complete=True, version="1")
    assert [check["health"]["level"] for check in fine["checks"]] == ["trusted", "trusted"]
    wrong = run(
        budgets((4, (*[None] * 9, "clean")), (2, CLEAN_LAST), floor=Fraction(7, 10)), missing=[], complete=True, version="1"
    )
    large, small = wrong["checks"]
    assert (small["verdict"], small["health"]["level"]) == ("pass", "trusted")
    assert (large["verdict"], large["health"]["level"]) == ("fail", "invalid")
    assert (
        "1 of 9 survivors break at a smaller budget, such as example 8 at 2/255" in large["health"]["checks"][-1]["detail"]
    )
    assert wrong["gate"]["verdict"] == "fail"
    assert wrong["gate"]["not_evidence"] == 1
    assert words.verdict(large) == "FAIL not evidence (seen in the run as a whole)"


def test_a_floor_that_rests_on_such_survivors_is_not_met():
    decisive = run(
        budgets((2, CLEAN_LAST), (4, (*[None] * 9, "clean")), floor=Fraction(9, 10)), missing=[], complete=True, version="1"
    )
    assert decisive["checks"][1]["verdict"] == "fail"
    assert "without them the floor is missed" in decisive["checks"][1]["health"]["checks"][-1]["detail"]


def test_other_models_and_undecided_examples_are_not_held_against_each_other():
    open_ = (*[None] * 8, "undecided", "clean")
    for pair in (budgets((2, CLEAN_LAST), (4, open_)), budgets((2, CLEAN_LAST), (4, (*[None] * 9, "clean")), identity=None)):
        assert [c["health"]["level"] for c in run(pair, missing=[], complete=True, version="1")["checks"]] == ["trusted"] * 2
