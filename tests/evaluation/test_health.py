"""Models on which a gradient attack cannot work get no PASS, by the name of the right check."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_robust import Linf, PreflightError, evaluate

EPS = Linf("0.08")


class Wrapped(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner


class Rounded(Wrapped):
    """Quantised inputs: the gradient through round() is zero."""

    def forward(self, x):
        return self.inner((x * 32).round() / 32)


class Detached(Wrapped):
    """Gradients are cut off for part of the inputs only, so that the preflight's sample may miss it."""

    def forward(self, x):
        cut = x[:, :1] > 0.5
        return self.inner(torch.where(cut, x.detach(), x))


class Noisy(Wrapped):
    def forward(self, x):
        return self.inner(x + 0.05 * torch.randn_like(x))


class BatchCentred(Wrapped):
    """Uses the statistics of the batch also in eval mode."""

    def forward(self, x):
        out = self.inner(x)
        return out - 0.2 * out.mean(0, keepdim=True)


class Exploding(Wrapped):
    """NaN away from the data: the attack meets it, a clean forward pass does not."""

    def __init__(self, inner: nn.Module, clean: torch.Tensor) -> None:
        super().__init__(inner)
        self.register_buffer("clean", clean)

    def forward(self, x):
        known = ((x[:, None] - self.clean).abs().amax(2) < 1e-6).any(1, keepdim=True)
        return torch.where(known, self.inner(x), torch.nan)


def test_a_model_without_gradients_is_refused_by_the_preflight(trained, data):
    with pytest.raises(PreflightError, match="gradient"):
        evaluate(Rounded(trained).eval(), data, EPS)


def test_a_waived_missing_gradient_still_gets_no_pass(trained, data):
    result = evaluate(Rounded(trained).eval(), data, EPS, waive={"gradient": "on purpose"}, min_accuracy=0.1)
    assert result.meets_floor
    assert result.verdict == "fail"
    assert result.health.worst is not None
    assert result.health.worst.name == "gradients"


def test_gradients_masked_on_some_inputs_take_the_pass_away(trained, data):
    result = evaluate(Detached(trained).eval(), data, EPS, min_accuracy=0.05, profile="release")
    assert result.meets_floor
    assert result.verdict == "fail"
    assert result.health.worst is not None
    assert result.health.worst.name == "gradients"


@pytest.mark.parametrize(("wrap", "check"), [(Noisy, {"determinism"}), (BatchCentred, {"batch-independence", "verified"})])
def test_chance_and_neighbours_take_the_pass_away(trained, data, wrap, check):
    result = evaluate(wrap(trained).eval(), data, EPS, min_accuracy=0.05)
    assert result.meets_floor
    assert result.verdict == "fail"
    assert {c.name for c in result.health.checks if c.level == "invalid"} & check


def test_logits_that_are_not_finite_under_attack_take_the_pass_away(trained, data):
    result = evaluate(Exploding(trained, data[0]).eval(), data, EPS, min_accuracy=0.05)
    assert result.verdict == "fail"
    assert "finite" in {c.name for c in result.health.checks if c.level == "invalid"}
    assert not result.witnesses


def test_an_honest_model_is_trusted(trained, data):
    result = evaluate(trained, data, EPS, min_accuracy=0.05)
    assert result.verdict == "pass"
    assert result.health.level == "trusted"
    assert len({c.name for c in result.health.checks}) >= 6


def test_a_failed_model_stays_failed_whatever_the_health(trained, data):
    result = evaluate(Detached(trained).eval(), data, Linf("0.3"), min_accuracy=0.9)
    assert result.verdict == "fail"
    assert not result.meets_floor
