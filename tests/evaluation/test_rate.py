"""Rates: counts, bounds and intervals."""

from __future__ import annotations

import copy
import operator
import pickle
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_robust import EvidenceError
from pytest_robust.evaluation import Rate

UPPER = Rate(159, 200, "robust accuracy", "linf 0.1", (67, 159))
OPEN = [0.6, np.float64(0.6), Fraction(3, 5), Rate(120, 200), Rate(67, 200, span=(60, 70)), 0.795]
DOUBTED = Rate(6, 10, "robust accuracy", "linf 0.1", doubt="gradients: all are zero")


@pytest.mark.parametrize("confidence", [0, 1, 95, -0.1, float("nan")])
def test_a_confidence_is_a_probability(confidence: float) -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1, got .*; 95 % is 0\.95"):
        Rate(3, 10).interval(confidence)


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (Rate(8, 10, span=(6, 8)), "(n=10, at most: decided on 8 of 10)"),
        (Rate(6, 10, about="linf 8/255", span=(6, 9)), "(linf 8/255, n=10, at least: decided on 7 of 10)"),
        (Rate(6, 10, span=(6, 6)), "(n=10, 95% CI 26.2-87.8)"),
    ],
)
def test_a_bound_is_shown_as_one(rate: Rate, text: str) -> None:
    assert rate.describe() == text


@given(st.lists(st.integers(0, 50), min_size=3, max_size=3).map(sorted), st.booleans(), st.floats(0.01, 0.99))
def test_the_interval_reaches_from_the_lowest_to_the_highest_count(
    counts: list[int], upper: bool, confidence: float
) -> None:
    least, most, n = counts[0], counts[1], max(counts[2], 1)
    rate = Rate(most if upper else least, n, "robust accuracy", "linf 0.1", (least, most), doubt="gradients: zero")
    ends = [Rate(k, n).interval(confidence) for k in (least, most)]
    assert rate.interval(confidence) == (ends[0][0], ends[1][1])
    for same in (pickle.loads(pickle.dumps(rate)), copy.deepcopy(rate)):
        assert (type(same), same, vars(same)) == (Rate, rate, vars(rate))


@pytest.mark.parametrize("other", OPEN)
@pytest.mark.parametrize("compare", [operator.ge, operator.lt])
def test_a_bound_does_not_answer_what_is_open(compare: Callable[[object, object], bool], other: object) -> None:
    with pytest.raises(EvidenceError, match=r"79\.5% \(linf 0\.1, n=200, at most.*min_accuracy.*profile='release'"):
        compare(UPPER, other)
    for figure in (0.6, np.float64(0.6), np.float32(0.6)):
        with pytest.raises(EvidenceError, match="not decided"):
            compare(figure, UPPER)


def test_a_bound_answers_what_is_certain() -> None:
    assert UPPER <= 0.795
    assert not UPPER > 0.795
    assert UPPER < 0.8 < 1
    assert not UPPER >= 0.8
    assert UPPER >= 0.335
    assert UPPER > 0.33
    assert Rate(66, 200, span=(10, 66)) < UPPER
    assert (UPPER == 0.795, float(UPPER)) == (True, 0.795)


def test_what_is_no_evidence_is_never_found_to_be_high_enough() -> None:
    for claim in (
        lambda: DOUBTED >= 0.5,
        lambda: DOUBTED > 0.5,
        lambda: Rate(5, 10) <= DOUBTED,
        lambda: np.float64(0.5) <= DOUBTED,
    ):
        with pytest.raises(EvidenceError) as caught:
            claim()
        assert str(caught.value) == "not evidence: gradients: all are zero (robust accuracy 60.0%, linf 0.1)"
    # A broken example is a proof, whatever else is wrong.
    assert not DOUBTED >= 0.7
    assert DOUBTED < 0.7
    assert Rate(6, 10) >= DOUBTED
    assert (DOUBTED == 0.6, float(DOUBTED)) == (True, 0.6)


def test_a_drop_is_not_taken_from_a_bound_or_from_what_is_no_evidence():
    clean, robust = Rate(95, 100), Rate(60, 100)
    assert clean - robust == pytest.approx(0.35)
    assert 1 - robust == pytest.approx(0.4)
    for rate, word in ((Rate(60, 100, span=(20, 60)), "not decided"), (Rate(60, 100, doubt="slope: flat"), "slope: flat")):
        for drop in (
            lambda rate=rate: clean - rate,
            lambda rate=rate: np.float64(1) - rate,
            lambda rate=rate: rate - 0.1,
            lambda rate=rate: 100 * rate,
            lambda rate=rate: rate * 100,
            lambda rate=rate: rate / clean,
            lambda rate=rate: 0.1 + rate,
        ):
            with pytest.raises(EvidenceError, match=word):
                drop()
        assert float(rate) == 0.6


def test_arrays_compute_with_a_rate_as_with_a_float() -> None:
    values = np.array([0.6, 1.2])
    assert (values == Rate(3, 5)).tolist() == [True, False]
    assert (values / Rate(3, 5)).tolist() == [1, 2]
