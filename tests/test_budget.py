"""Numbers as users type them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_robust.budget import Budget, exact


@pytest.mark.parametrize(
    ("typed", "value"),
    [(0.1, (1, 10)), ("8 / 255", (8, 255)), ("40%", (2, 5)), ("1E-3", (1, 1000)), (" 2.5e+1 % ", (1, 4)), (1, (1, 1))],
)
def test_numbers_are_read_as_typed(typed: Any, value: tuple[int, int]) -> None:
    assert exact(typed) == Fraction(*value)


@example(5e-324)
@example(1.7976931348623157e308)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_float_reads_back(number: float) -> None:
    assert float(exact(number)) == number


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "typed",
    [
        "1e999999999", "-1E+999999999", "1e999999999%", "1e-999999999", "0e999999999", "1e400", "1e310", "1e-400", "1e-323%",
        10**400, Fraction(1, 10**400), "9" * 4000,
    ],
    ids=lambda typed: str(typed)[:15],
)  # fmt: skip
def test_what_no_float_can_hold_is_refused_at_once(typed: Any) -> None:
    with pytest.raises(ValueError, match=r"^eps: .* is too large or too small; write it like 0\.03, '8/255' or '40%'$"):
        Budget.parse(typed)


@pytest.mark.parametrize("typed", ["", "eight", "e5", "1e", "1e5e5", "1/0", "nan", "inf", "1e2/3", None])
def test_what_is_no_number_is_called_that(typed: Any) -> None:
    with pytest.raises(ValueError, match="is not a number; write it like"):
        exact(typed)
