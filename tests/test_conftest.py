"""What holds for all tests, whatever ran before them."""

from __future__ import annotations

import sys

import pytest
import torch
from hypothesis import settings

DRAWN: list[float] = []


def test_a_run_inside_a_test_forgets_its_own_modules_alone(pytester, monkeypatch):
    pytester.makepyfile(mine="", test_it="def test_a(): import colorsys, mine, tabulate")
    monkeypatch.syspath_prepend(pytester.path)
    names = ("colorsys", "mine", "tabulate")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    pytester.runpytest_inprocess().assert_outcomes(passed=1)
    assert [name in sys.modules for name in names] == [True, False, True]


def test_no_example_of_hypothesis_has_a_deadline():
    assert settings().deadline is None
    assert settings(max_examples=5).deadline is None


@pytest.mark.parametrize("turn", range(2))
def test_each_test_draws_the_same_of_torch(turn):
    DRAWN.append(float(torch.rand(())))
    assert len(set(DRAWN)) == 1
