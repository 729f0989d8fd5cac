"""On linear models robust accuracy has a closed form in every norm; the engine must give exactly that."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pytest_robust import L0, L1, L2, Linf, Targeted, evaluate
from pytest_robust.evaluation.result import CLEAN

NORMS = {"linf": (Linf, 0.06), "l2": (L2, 0.35), "l1": (L1, 1.1), "l0": (L0, 2)}
WAIVE = {"chance": "random linear models have no skill to speak of"}


def best_gain(norm: str, g: np.ndarray, down: np.ndarray, up: np.ndarray, eps: float) -> float:
    """max <g, d> over the ball and -down <= d <= up: the closed forms, in float64."""
    room = np.where(g > 0, up, down)
    size = np.abs(g)
    if norm == "linf":
        return float((size * np.minimum(room, eps)).sum())
    if norm == "l0":
        return float(np.sort(size * room)[::-1][: int(eps)].sum())
    if norm == "l1":  # fractional knapsack
        gain, left = 0.0, eps
        for i in np.argsort(-size, kind="stable"):
            step = min(room[i], left)
            gain, left = gain + size[i] * step, left - step
        return float(gain)
    # l2: water filling. Features reach their room in the order of room / |g|; between two of these the scale is free.
    live = size > 0
    order = np.argsort(room[live] / size[live])
    g_, r_ = size[live][order], room[live][order]
    for k in range(len(g_) + 1):
        left = eps**2 - (r_[:k] ** 2).sum()
        if left < 0:
            break
        rest = (g_[k:] ** 2).sum()
        t = np.sqrt(left / rest) if rest > 0 else np.inf
        if k == len(g_) or t * g_[k] <= r_[k]:
            d = np.concatenate([r_[:k], t * g_[k:] if rest > 0 else g_[k:] * 0])
            return float((g_ * d).sum())
    raise AssertionError("no solution")


def closed_form(norm, eps, weight, bias, x, y, low, high, mask=None, target=None) -> np.ndarray:
    """(n,) margins left at the worst point; robust where positive."""
    logits = x @ weight.T + bias
    left = np.empty(len(x))
    for i, (row, label) in enumerate(zip(x, y, strict=True)):
        up, down = high - row, row - low
        if mask is not None:
            up, down = up * mask, down * mask
        margins = [
            logits[i, label] - logits[i, j] - best_gain(norm, weight[j] - weight[label], down, up, eps)
            for j in range(len(weight))
            if j != label
        ]
        left[i] = min(margins)
    return left


def linear(classes: int, features: int, seed: int) -> tuple[nn.Module, np.ndarray, np.ndarray]:
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(features, 1 if classes == 1 else classes).eval()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
        layer.bias.copy_(torch.randn(layer.bias.shape, generator=generator) / 10)
    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    if classes == 1:
        weight, bias = np.vstack([0 * weight, weight]), np.concatenate([0 * bias, bias])
    return layer, weight, bias


def data_of(weight: np.ndarray, bias: np.ndarray, features: int, seed: int, n: int = 120):
    """Uniform inputs, a few at the bounds, with the model's own labels but for one in ten."""
    rng = np.random.default_rng(seed)
    x = rng.random((n, features)).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = 0.0
    y = (x.astype(np.float64) @ weight.T + bias).argmax(1)
    wrong = rng.random(n) < 0.1
    y[wrong] = (y[wrong] + 1) % len(weight)
    return x, y


@pytest.mark.parametrize("classes", [1, 2, 3, 7])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", [0, 1])
def test_robust_accuracy_is_the_closed_form(norm: str, classes: int, seed: int):
    ball, eps = NORMS[norm]
    if norm == "l0" and classes == 1:
        eps = 1  # two features would be enough to break every example
    model, weight, bias = linear(classes, 20, seed)
    x, y = data_of(weight, bias, 20, seed)
    left = closed_form(norm, eps, weight, bias, x.astype(np.float64), y, 0.0, 1.0)
    assert np.abs(left).min() > 1e-5, "an example too close to the boundary for float32 to decide"
    result = evaluate(model, (x, y), ball(eps), waive=WAIVE)
    assert result.robust.tolist() == (left > 0).tolist()
    assert 0 < result.accuracy < result.clean_accuracy


@pytest.mark.parametrize("norm", NORMS)
def test_bounds_per_feature_and_masks_are_exact_too(norm: str):
    ball, eps = NORMS[norm]
    model, weight, bias = linear(4, 12, 5)
    x, y = data_of(weight, bias, 12, 5)
    low = np.where(np.arange(12) % 3 == 0, -0.5, 0.0)
    high = np.where(np.arange(12) % 4 == 0, 1.2, 1.0)
    mask = np.arange(12) % 5 != 0
    left = closed_form(norm, eps, weight, bias, x.astype(np.float64), y, low, high, mask)
    threat = ball(eps, bounds=(torch.tensor(low), torch.tensor(high)), mask=torch.tensor(mask))
    result = evaluate(model, (x, y), threat, waive=WAIVE)
    assert result.robust.tolist() == (left > 0).tolist()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_unbounded_threats_are_the_dual_norm(norm: str):
    ball, eps = NORMS[norm]
    model, weight, bias = linear(5, 16, 3)
    x, y = data_of(weight, bias, 16, 3)
    dual = {"linf": 1, "l2": 2, "l1": np.inf}[norm]
    logits = x.astype(np.float64) @ weight.T + bias
    robust = []
    for row, label in zip(logits, y, strict=True):
        margins = [
            row[label] - row[j] - eps * np.linalg.norm(weight[j] - weight[label], dual) for j in range(5) if j != label
        ]
        robust.append(min(margins) > 0)
    result = evaluate(model, (x, y), ball(eps, bounds=None), waive=WAIVE)
    assert result.robust.tolist() == robust


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_two_classes_targeted_are_exact(norm: str):
    """With two classes, driving to class 1 is leaving class 0."""
    ball, eps = NORMS[norm]
    model, weight, bias = linear(2, 10, 4)
    x, y = data_of(weight, bias, 10, 4)
    result = evaluate(model, (x, y), ball(eps), objective=Targeted(1), waive=WAIVE)
    left = closed_form(norm, eps, weight, bias, x.astype(np.float64), y, 0.0, 1.0)
    assert result.robust.tolist() == (left > 0)[y == 0].tolist()
    assert all(result.predicted[i] == 1 for i in result.witnesses)
    assert len(result.witnesses) > 0


@pytest.mark.parametrize("norm", NORMS)
def test_zero_budget_is_clean_accuracy(norm: str):
    model, weight, bias = linear(3, 8, 2)
    x, y = data_of(weight, bias, 8, 2)
    result = evaluate(model, (x, y), NORMS[norm][0](0), waive=WAIVE)
    assert result.robust.tolist() == result.correct.tolist()
    assert set(result.broken_by) == {None, CLEAN}


@pytest.mark.parametrize("norm", NORMS)
def test_every_witness_is_inside_the_threat_and_wrong(norm: str):
    ball, eps = NORMS[norm]
    model, weight, bias = linear(3, 20, 0)
    x, y = data_of(weight, bias, 20, 0)
    result = evaluate(model, (x, y), ball(eps), waive=WAIVE)
    assert len(result.witnesses) > 10
    for i in result.witnesses:
        adversarial = result.adversarial(i)
        delta = (adversarial.double() - torch.tensor(x[i]).double()).abs()
        size = {"linf": delta.max(), "l2": delta.norm(), "l1": delta.sum(), "l0": (delta > 0).sum()}[norm]
        assert size <= eps * (1 + 1e-12)
        assert 0 <= adversarial.min() <= adversarial.max() <= 1
        assert model(adversarial[None]).argmax().item() == result.predicted[i] != y[i]
