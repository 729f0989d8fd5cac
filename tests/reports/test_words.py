"""How verdicts read."""

from __future__ import annotations

from fractions import Fraction

import pytest
from sample_checks import SAMPLED, UNSURE, check, health

from pytest_robust.reports import words


def test_missed_floor_is_one_sentence():
    assert words.missed_floor(check()) == "assert robust accuracy 60.0% >= 70.0% (linf 8/255, n=10, 95% CI 26.2-87.8)"


def test_missed_floor_that_was_certain_early():
    sentence = words.missed_floor(check(**UNSURE))
    assert sentence == "assert robust accuracy 60.0% >= 70.0% (linf 8/255, n=10, at most: decided on 8 of 10)"


def test_missed_floor_by_a_sample():
    sentence = words.missed_floor(check(**SAMPLED))
    assert sentence == "assert robust accuracy 50.0% >= 70.0% (linf 8/255, n=10, 99% sure of 40.0-60.0 from 7 drawn)"


def test_missed_floor_that_rounding_would_hide():
    sentence = words.missed_floor(check(floor=Fraction(60001, 100000)))
    assert sentence.startswith("assert robust accuracy 6 of 10 >= 7 (")


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "FAIL floor"),
        ({"floor": Fraction(1, 2)}, "pass"),
        ({"floor": None}, "report only"),
        ({"floor": None, "lacks_floor": True}, "report only (no floor for linf 8/255)"),
        ({"floor": Fraction(1, 2), "health": health("invalid")}, "FAIL not evidence"),
        ({"floor": None, "health": health("invalid")}, "FAIL not evidence"),
        ({"health": health("invalid")}, "FAIL floor"),
        ({"tier": "advisory", "outcome": "passed"}, "advisory: FAIL floor"),
        ({"outcome": "xfailed"}, "FAIL floor (xfail)"),
        ({"outcome": "passed"}, "FAIL floor (caught by the test)"),
        ({"outcome": "skipped"}, "FAIL floor (skipped by the test)"),
        ({"floor": Fraction(1, 2), "profile": "smoke"}, "pass (smoke: no evidence)"),
        ({"profile": "smoke"}, "FAIL floor"),
    ],
)
def test_verdict(changes, verdict):
    assert words.verdict(check(**changes)) == verdict


def test_not_evidence_names_the_check():
    sentence = words.not_evidence(check(health=health("suspicious", "invalid")))
    assert sentence == "not evidence: check-invalid: it is invalid (robust accuracy 60.0%, linf 8/255)"
