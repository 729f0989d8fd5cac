"""A search in bfloat16: what counts is exact all the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_robust import Linf, evaluate
from pytest_robust.evaluation.passes import Passes
from pytest_robust.models import adapt


class Seen(nn.Linear):
    """Notes in which type its products are computed."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = super().forward(x)
        self.types.add((out.dtype, torch.is_grad_enabled()))
        return out


def test_gradients_are_rough_and_logits_exact():
    model = Seen(3, 2)
    model.types = set()
    passes = Passes(adapt(model.eval()), 8, torch.bfloat16)
    x = torch.rand(4, 3)
    logits, _, grad = passes.gradient(lambda logits, _: logits[:, 0], x, {})
    assert (logits.dtype, grad.dtype) == (torch.float32, torch.float32)
    passes.logits(x, {})
    assert model.types == {(torch.bfloat16, True), (torch.float32, False)}
    with passes.exactly():
        passes.gradient(lambda logits, _: logits[:, 0], x, {})
    assert (torch.float32, True) in model.types
    assert passes.rough is torch.bfloat16


def test_what_breaks_only_by_rounding_is_not_broken_and_is_no_doubt():
    """The second class is ahead in bfloat16, whose 8 bits round 1.003 to 1, and behind in float32."""
    model = nn.Linear(1, 2, bias=False)
    model.weight.data = torch.tensor([[1.0], [1.003]])
    model = model.eval()
    x = torch.linspace(0.5, 1, 40).unsqueeze(1)
    y = torch.ones(40, dtype=torch.int64)
    result = evaluate(model, (x, y), Linf(0.01), autocast=True, waive={"one-class": "all are of one"})
    assert result.accuracy.k == 40
    assert next(check for check in result.health.checks if check.name == "verified").level == "trusted"


def test_the_outcome_is_that_of_full_precision(trained, data):
    rough, exact = (evaluate(trained, data, Linf(0.1), autocast=autocast) for autocast in (True, False))
    assert 20 < exact.accuracy.k < 130
    assert abs(rough.accuracy.k - exact.accuracy.k) <= 2
    assert rough.health.level == "trusted"
    assert rough.stages[-1].attack == "pgd-exact"
    assert 0 < rough.stages[-1].attacked < rough.accuracy.k, "near misses, and they alone"
    assert "pgd-exact" not in exact.attacks


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_gpu(trained, data):
    rough = evaluate(trained, data, Linf(0.1), autocast=True, device="cuda")
    assert abs(rough.accuracy.k - evaluate(trained, data, Linf(0.1)).accuracy.k) <= 2
