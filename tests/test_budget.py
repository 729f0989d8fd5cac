"""Numbers as users type them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_robust.budget import Budget, exact, parse_margin


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        (0.1, (1, 10)),
        ("8 / 255", (8, 255)),
        ("0.5/255", (1, 510)),
        ("40%", (2, 5)),
        ("1E-3", (1, 1000)),
        (" 2.5e+1 % ", (1, 4)),
        (1, (1, 1)),
    ],
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


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("8/255", "3/255"),
        ("5/255", "1.875/255"),
        (0.03, "0.01125"),
        ("3%", "0.01125"),
        (8, "3"),
        (Fraction(1, 3), "0.375/3"),
    ],
)
def test_a_part_of_a_budget_is_exact_and_written_alike(typed: Any, text: str) -> None:
    part = Budget.parse(typed).part(Fraction(3, 8))
    assert str(part) == text
    assert part.value == exact(text) == Budget.parse(typed).value * Fraction(3, 8)


@pytest.mark.parametrize(
    ("typed", "size", "text"),
    [
        ("8/255", 0.9061 / 255, "0.91/255"),
        ("8/255", 7.96 / 255, "8/255"),
        ("7.97/255", 7.965 / 255, "7.97/255"),  # rounded up it would be more than the budget
        (0.03, 0.00321, "0.0033"),
        (130, 104.2, "105"),
        (5, 2.0, "2"),
        ("1/2%", 0.001, "0.0011"),  # as a float it is a little more than 0.001
        (1, 0.0, "0"),
        ("1/4", 0.1, "0.41/4"),
    ],
)
def test_a_size_is_rounded_up_and_written_as_the_budget(typed: Any, size: float, text: str) -> None:
    assert Budget.parse(typed).at_most(size) == text


@pytest.mark.parametrize("typed", [0.02, "2%", "2pt", " 2 pt ", "0.02", Fraction(1, 50)])
def test_a_margin_is_read_as_typed(typed: Any) -> None:
    assert parse_margin(typed) == 0.02


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        (2, "between 0 and 1, got 2; did you mean '2pt'?"),
        (1, "did you mean '1pt'?"),
        (0, "above 0: no number of examples can show that nothing at all was lost"),
        ("0pt", "above 0"),
        (-0.1, "between 0 and 1"),
        ("100pt", "between 0 and 1"),
        ("pt", "is not a number"),
    ],
)
def test_a_margin_that_cannot_be_used_is_refused(typed: Any, hint: str) -> None:
    with pytest.raises(ValueError, match=hint.replace("?", r"\?")):
        parse_margin(typed)


@pytest.mark.parametrize(
    ("typed", "value", "unit"),
    [
        ("2%norm", (1, 50), "norm"),
        ("0.02 norm", (1, 50), "norm"),
        ("nn", (1, 1), "nn"),
        ("1/2nn", (1, 2), "nn"),
        ("typo:3", (3, 1), "typo"),
        ("2%", (1, 50), None),
    ],
)
def test_units_are_part_of_a_budget(typed: str, value: tuple[int, int], unit: str | None) -> None:
    budget = Budget.parse(typed)
    assert (budget.value, budget.unit) == (Fraction(*value), unit)
    assert (budget == Budget(Fraction(*value), "")) == (unit is None)
    assert budget.shown == str(budget) == typed.replace(" ", "")


@pytest.mark.parametrize("typed", ["%norm", "norm", "xnn", "typo:", "typo:0", "typo:1.5", "typo:-1", "-1nn"])
def test_units_without_a_number_are_refused(typed: str) -> None:
    with pytest.raises(ValueError, match="eps"):
        Budget.parse(typed)


def test_a_measured_budget_is_the_number_that_is_shown() -> None:
    budget = Budget.parse("2%norm").measured(0.0223499)
    assert (budget.value, budget.unit, str(budget), budget.shown) == (
        Fraction("0.02234"), None, "2%norm", "2%norm (0.02234)",
    )  # fmt: skip
    assert budget.measured(float(budget)) == budget
    assert budget.is_that(Budget.parse("2%norm"))
    assert not budget.is_that(Budget.parse("3%norm"))
    assert budget.at_most(0.0111) == "0.012"


def test_parts_of_a_budget_keep_its_unit() -> None:
    part = Budget.parse("3%norm").part(Fraction(1, 2))
    assert (part.value, part.unit, Budget.parse(str(part))) == (Fraction(3, 200), "norm", part)
    with pytest.raises(ValueError, match="typo:1 has no parts"):
        Budget.parse("typo:1").part(Fraction(1, 2))
