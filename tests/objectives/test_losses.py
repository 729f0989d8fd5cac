"""Losses against their formulas, for any number of classes, and what counts as broken."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_robust import PreflightError, Targeted, Untargeted
from pytest_robust.objectives import LOSSES


def value(name: str, z: list[float], y: int, t: int) -> float:
    ordered = sorted(z, reverse=True)
    rest = max(v for j, v in enumerate(z) if j != y)
    n = len(z)
    if name == "ce":
        return math.log(sum(math.exp(10 * v) for v in z)) - 10 * z[y]
    if name == "margin" or (name == "dlr" and n < 3):
        return rest - z[y]
    if name == "margin-t" or (name == "dlr-t" and n < 3):
        return z[t] - z[y]
    if name == "dlr":
        return (rest - z[y]) / max(ordered[0] - ordered[2], 1e-12)
    tail = ordered[2:4]
    return (z[t] - z[y]) / max(ordered[0] - sum(tail) / len(tail), 1e-12)


@st.composite
def logits(draw):
    n = draw(st.integers(2, 6))
    z = draw(st.lists(st.integers(-30, 30), min_size=n, max_size=n, unique=True))
    y, t = draw(st.permutations(range(n)))[:2]
    return [v / 10 for v in z], y, t


@pytest.mark.parametrize("name", LOSSES)
@given(case=logits())
def test_losses_are_their_formulas(name: str, case):
    z, y, t = case
    got = LOSSES[name](torch.tensor([z], dtype=torch.float64), torch.tensor([y]), torch.tensor([t]))
    assert got.item() == pytest.approx(value(name, z, y, t), rel=1e-9, abs=1e-12)


@given(case=logits())
def test_the_margin_is_positive_exactly_when_broken(case):
    z, y, t = case
    row, label = torch.tensor([z], dtype=torch.float64), torch.tensor([y])
    untargeted, targeted = Untargeted(), Targeted(t)
    assert untargeted.broken(row, label).item() == (LOSSES["margin"](row, label, label).item() > 0)
    goal = targeted.goal(label)
    assert targeted.broken(row, goal).item() == (targeted.loss("margin", row, goal, goal).item() > 0)


def test_rivals_come_most_likely_first_without_the_label():
    z = torch.tensor([[0.1, 3.0, 2.0, -1.0], [5.0, 3.0, 4.0, 9.0]])
    assert Untargeted().rivals(z, torch.tensor([1, 0]), 9).tolist() == [[2, 0, 3], [3, 2, 1]]
    assert Untargeted().rivals(z, torch.tensor([1, 0]), 2).tolist() == [[2, 0], [3, 2]]
    assert Targeted(2).rivals(z, torch.tensor([2, 2]), 9).tolist() == [[2], [2]]


def test_a_target_leaves_out_its_own_class():
    assert Targeted(2).attackable(torch.tensor([0, 2, 1])).tolist() == [True, False, True]
    with pytest.raises(PreflightError, match="class number"):
        Targeted(-1)
