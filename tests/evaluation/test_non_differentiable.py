"""Models with parts that have no gradient: no PASS without ``non_differentiable``, the exact figure with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pytest_robust import Linf, PreflightError, evaluate


class Quantise(nn.Module):
    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x):
        return (x * self.levels).round() / self.levels


def quantised_linear(levels: int, features: int = 20, classes: int = 3) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    head = nn.Linear(features, classes)
    head.weight.data = torch.randn(classes, features, generator=generator)
    head.bias.data = -head.weight.data.sum(1) / 2
    model = nn.Sequential()
    model.add_module("quantise", Quantise(levels))
    model.add_module("head", head)
    x = torch.rand(120, features, generator=generator)
    return model.eval(), x, model(x).argmax(1)


def exact(model: nn.Module, x: torch.Tensor, y: torch.Tensor, eps: float) -> np.ndarray:
    """(n,) robust or not: each feature takes its best reachable level by itself, since the rest is linear."""
    weight, bias = model.head.weight.detach().double().numpy(), model.head.bias.detach().double().numpy()
    levels = model.quantise.levels
    lowest, highest = (np.rint(np.clip(x.double().numpy() + sign * eps, 0, 1) * levels) / levels for sign in (-1, 1))
    robust = []
    for low, high, label in zip(lowest, highest, y.tolist(), strict=True):
        gains = []
        for other in set(range(len(weight))) - {label}:
            w = weight[other] - weight[label]
            gains.append((np.where(w > 0, high, low) * w).sum() + bias[other] - bias[label])
        robust.append(max(gains) <= 0)
    return np.array(robust)


@pytest.mark.parametrize("eps", ["0.021", "0.061"])
@pytest.mark.parametrize("levels", [10, 32, 255])
def test_a_quantised_linear_model_has_its_exact_accuracy(levels, eps):
    model, x, y = quantised_linear(levels)
    with pytest.raises(PreflightError, match=r"gradient.*non_differentiable="):
        evaluate(model, (x, y), Linf(eps))
    blind = evaluate(model, (x, y), Linf(eps), waive={"gradient": "to see"}, min_accuracy="5%", stop_early=False)
    assert blind.verdict == "fail"
    assert "non_differentiable=" in str(blind.health.worst)
    truth = exact(model, x, y, float(eps))
    result = evaluate(model, (x, y), Linf(eps), non_differentiable=["quantise"], min_accuracy=truth.mean() - 1e-6)
    assert result.meets_floor
    result = evaluate(model, (x, y), Linf(eps), non_differentiable=["quantise"])
    # One may fall out where a level is reached at the very edge of the ball, in float32 or in float64.
    assert np.count_nonzero(result.robust != truth) <= 1
    assert 0 < result.accuracy < 1
    assert result.health.level == "trusted"
    assert "approximations of quantise" in " ".join(result.notes)


class Sign(nn.Module):
    def forward(self, x):
        return x.sign()


def test_sign_activations(trained, data):
    """Binary activations after the first layer; the approximation is a steep tanh."""
    model = nn.Sequential(*trained[:1], Sign(), *trained[2:]).eval()
    x, _ = data
    y = model(x).argmax(1)
    threat = Linf("0.08")
    soft = evaluate(model, (x, y), threat, non_differentiable={"1": lambda z: torch.tanh(2 * z)})
    blind = evaluate(model, (x, y), threat, waive={"gradient": "to see", "chance": "to see"}, min_accuracy="5%")
    assert blind.verdict == "fail"
    assert blind.health.level == "invalid"
    random = evaluate(model, (x, y), threat, attacks="square", waive={"gradient": "to see"})
    # Few hidden units: gradients lead to most, random queries to some of what is left.
    assert soft.accuracy.k < 0.75 * random.accuracy.k
    for i in soft.witnesses:
        assert model(soft.adversarial(i)[None]).argmax().item() != y[i]


def test_an_approximation_that_leads_nowhere_earns_no_pass():
    model, x, y = quantised_linear(32)
    wrong = evaluate(model, (x, y), Linf("0.061"), non_differentiable={"quantise": lambda x: -x}, min_accuracy="40%")
    assert wrong.verdict == "fail"
    result = evaluate(model, (x, y), Linf("0.021"), non_differentiable={"quantise": lambda x: -x})
    assert {c.name for c in result.health.checks if c.level == "invalid"} >= {"slope"}


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model_has_the_outcomes_of_its_original(trained, data, backend):
    threat = Linf("0.08")
    compiled = torch.compile(nn.Sequential(trained), backend=backend)
    plain, result = evaluate(trained, data, threat), evaluate(compiled, data, threat)
    assert np.array_equal(plain.robust, result.robust)
    assert result.health.level == "trusted"
