"""Metamorphic assertions: what they accept, what they refuse, and what they say."""

from __future__ import annotations

import pytest
import torch
from hypothesis import find, settings
from hypothesis import strategies as st
from torch import nn

from pytest_robust import PreflightError
from pytest_robust.strategies import assert_invariant, assert_monotone

X = torch.tensor([0.3, 0.4, 0.6])


class Linear(nn.Module):
    """Three classes; the log-odds of class 1 rise with feature 0, fall with feature 1 and do not know feature 2."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        score = 4 * x[:, 0] - 2 * x[:, 1]
        return self.scale * torch.stack([torch.zeros_like(score), score, torch.zeros_like(score) - 50], dim=1)


MODEL = Linear().eval()
VALUES = torch.linspace(0, 1, 9)


def test_an_equal_prediction_is_invariant():
    assert_invariant(MODEL, X, X)
    assert_invariant(MODEL, X, X + 1e-3)


def test_another_prediction_is_not():
    changed = torch.tensor([0.9, 0.4, 0.6])
    assert_invariant(MODEL, changed, torch.tensor([0.9, 0.4, 0.0]))
    with pytest.raises(AssertionError) as raised:
        assert_invariant(MODEL, torch.tensor([0.1, 0.4, 0.6]), changed, classes=["ham", "spam", "none"])
    assert str(raised.value) == (
        "the prediction turns from ham (log-odds 0.4) into spam (log-odds 2.8) where it must not change: "
        "1 of 3 values changed, by at most 0.8 (l2 0.8)"
    )


def test_shapes_may_differ():
    mean = lambda x: torch.stack([x.flatten(1).mean(1), 1 - x.flatten(1).mean(1)], 1)  # noqa: E731
    assert_invariant(mean, torch.ones(1, 4, 4), torch.ones(1, 2, 2))
    with pytest.raises(AssertionError, match=r"class 0 .* into class 1 .*: shape \(1, 4, 4\) became \(1, 2, 2\)"):
        assert_invariant(mean, torch.ones(1, 4, 4), torch.zeros(1, 2, 2))


def test_outputs_that_are_no_numbers_are_an_error_and_no_pass():
    for check in (
        lambda model: assert_invariant(model, X, X),
        lambda model: assert_monotone(model, X, 0, 1, values=VALUES),
    ):
        with pytest.raises(PreflightError, match="NaN or infinity"):
            check(lambda x: MODEL(x) * torch.nan)


def test_a_model_in_training_mode_is_an_error():
    with pytest.raises(PreflightError, match=r"call model.eval\(\) first"):
        assert_invariant(nn.Sequential(nn.Dropout(0.5), Linear()).train(), X, X)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize(("feature", "direction"), [(0, 1), (1, -1), (2, 1), (2, -1)])
def test_monotone_features(scale, feature, direction):
    assert_monotone(Linear(scale).eval(), X, feature, direction, values=VALUES)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize(("feature", "direction"), [(0, -1), (1, 1)])
def test_the_wrong_direction(scale, feature, direction):
    with pytest.raises(AssertionError, match=f"of feature {feature}, the log-odds of class 1 "):
        assert_monotone(Linear(scale).eval(), X, feature, direction, values=VALUES)


def test_the_message_names_the_worst_pair():
    bump = lambda x: torch.stack([0 * x[:, 0], x[:, 0] - 3 * (x[:, 0] - 0.5).clamp(0, 0.125)], 1)  # noqa: E731
    with pytest.raises(AssertionError) as raised:
        assert_monotone(bump, X, 0, 1, values=VALUES.flip(0), classes=["refused", "granted"])
    assert str(raised.value) == (
        "from 0.5 to 0.625 of feature 0, the log-odds of granted fall from 0.5 to 0.25, where they may only rise"
    )


def test_a_probability_that_rounds_to_one_hides_nothing():
    saturated = lambda x: torch.stack([0 * x[:, 0], 1000 - 10 * x[:, 0]], 1)  # noqa: E731
    with pytest.raises(AssertionError, match="fall"):
        assert_monotone(saturated, X, 0, 1, values=VALUES)


def test_all_other_classes_count():
    rival = lambda x: torch.stack([0 * x[:, 0], 0 * x[:, 0], x[:, 0] - 1], 1)  # noqa: E731
    with pytest.raises(AssertionError, match="fall"):
        assert_monotone(rival, X, 0, 1, values=[0.0, 0.9])


def test_one_feature_of_an_image():
    corner = lambda x: torch.stack([x[:, 0, 1, 1], 0 * x[:, 0, 0, 0]], 1)  # noqa: E731
    assert_monotone(corner, torch.rand(1, 2, 2), (0, 1, 1), -1, values=VALUES)
    with pytest.raises(AssertionError, match=r"of feature \(0, 1, 1\)"):
        assert_monotone(corner, torch.rand(1, 2, 2), (0, 1, 1), 1, values=VALUES)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"direction": 0}, r"direction is \+1"),
        ({"values": [0.5]}, "at least two"),
        ({"values": [0.5, 0.5]}, "at least two"),
        ({"feature": (0, 1)}, "give 1 indices"),
    ],
)
def test_wrong_arguments(arguments, said):
    with pytest.raises(ValueError, match=said):
        assert_monotone(MODEL, X, **{"feature": 0, "direction": 1, "values": VALUES} | arguments)


def test_the_input_stays_as_it_is():
    x = X.clone()
    assert_monotone(MODEL, x, 0, 1, values=VALUES)
    assert torch.equal(x, X)


def test_shrinks_to_the_simplest_counterexample():
    dips = lambda x: torch.stack([0 * x[:, 0], (x[:, 0] - 7).abs()], 1)  # noqa: E731

    def fails(value):
        try:
            assert_monotone(dips, torch.zeros(1), 0, 1, values=[value, value + 1])
        except AssertionError:
            return True
        return False

    assert find(st.integers(0, 20), fails, settings=settings(database=None, derandomize=True)) == 0
    assert find(st.integers(0, 20), lambda v: not fails(v), settings=settings(database=None, derandomize=True)) == 7
