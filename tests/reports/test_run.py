"""The run: what the gate counts."""

from __future__ import annotations

from fractions import Fraction

import pytest
from sample_checks import check, health, item

from pytest_robust.reports.run import gate_line, run

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
