"""Rates: counts, bounds and intervals."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_robust.evaluation import Rate


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
    rate = Rate(most if upper else least, n, "robust accuracy", "linf 0.1", (least, most))
    ends = [Rate(k, n).interval(confidence) for k in (least, most)]
    assert rate.interval(confidence) == (ends[0][0], ends[1][1])
    for same in (pickle.loads(pickle.dumps(rate)), copy.deepcopy(rate)):
        assert (type(same), same, vars(same)) == (Rate, rate, vars(rate))
