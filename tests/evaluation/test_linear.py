"""On linear models robust accuracy has a closed form in every norm; the engine must give exactly that."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pytest_robust import L0, L1, L2, Linf, Targeted, evaluate
from pytest_robust.conformance.legality import excess
from pytest_robust.conformance.linear import linear_data, linear_model, margins
from pytest_robust.evaluation.result import CLEAN

NORMS = {"linf": (Linf, 0.06), "l2": (L2, 0.35), "l1": (L1, 1.1), "l0": (L0, 2)}
WAIVE = {"chance": "random linear models have no skill to speak of"}


def problem(classes: int, features: int, seed: int) -> tuple[nn.Linear, torch.Tensor, np.ndarray]:
    layer = linear_model(classes, features, seed)
    x, y = linear_data(layer, seed, n=120)
    return layer, x, y.numpy()


def left_at_worst(layer: nn.Linear, x: torch.Tensor, y: np.ndarray, norm: str, eps: float, **box) -> np.ndarray:
    return margins(layer, x.double().numpy(), y, norm, eps, **box)


@pytest.mark.parametrize("classes", [1, 2, 3, 7])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", [0, 1])
def test_robust_accuracy_is_the_closed_form(norm: str, classes: int, seed: int):
    ball, eps = NORMS[norm]
    if norm == "l0" and classes == 1:
        eps = 1  # two features would be enough to break every example
    model, x, y = problem(classes, 20, seed)
    left = left_at_worst(model, x, y, norm, eps)
    assert np.abs(left).min() > 1e-5, "an example too close to the boundary for float32 to decide"
    result = evaluate(model, (x, y), ball(eps), waive=WAIVE)
    assert result.robust.tolist() == (left > 0).tolist()
    assert 0 < result.accuracy < result.clean_accuracy


@pytest.mark.parametrize("norm", NORMS)
def test_bounds_per_feature_and_masks_are_exact_too(norm: str):
    ball, eps = NORMS[norm]
    model, x, y = problem(4, 12, 5)
    low = np.where(np.arange(12) % 3 == 0, -0.5, 0.0)
    high = np.where(np.arange(12) % 4 == 0, 1.2, 1.0)
    mask = np.arange(12) % 5 != 0
    left = left_at_worst(model, x, y, norm, eps, low=low, high=high, mask=mask)
    threat = ball(eps, bounds=(torch.tensor(low), torch.tensor(high)), mask=torch.tensor(mask))
    result = evaluate(model, (x, y), threat, waive=WAIVE)
    assert result.robust.tolist() == (left > 0).tolist()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_unbounded_threats_are_the_dual_norm(norm: str):
    ball, eps = NORMS[norm]
    model, x, y = problem(5, 16, 3)
    weight, bias = (parameter.detach().double().numpy() for parameter in model.parameters())
    dual = {"linf": 1, "l2": 2, "l1": np.inf}[norm]
    logits = x.double().numpy() @ weight.T + bias
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
    model, x, y = problem(2, 10, 4)
    result = evaluate(model, (x, y), ball(eps), objective=Targeted(1), waive=WAIVE)
    left = left_at_worst(model, x, y, norm, eps)
    assert result.robust.tolist() == (left > 0)[y == 0].tolist()
    assert all(result.predicted[i] == 1 for i in result.witnesses)
    assert len(result.witnesses) > 0


@pytest.mark.parametrize("norm", NORMS)
def test_zero_budget_is_clean_accuracy(norm: str):
    model, x, y = problem(3, 8, 2)
    result = evaluate(model, (x, y), NORMS[norm][0](0), waive=WAIVE)
    assert result.robust.tolist() == result.correct.tolist()
    assert set(result.broken_by) == {None, CLEAN}


@pytest.mark.parametrize("norm", NORMS)
def test_every_witness_is_inside_the_threat_and_wrong(norm: str):
    ball, eps = NORMS[norm]
    model, x, y = problem(3, 20, 0)
    result = evaluate(model, (x, y), ball(eps), waive=WAIVE)
    assert len(result.witnesses) > 10
    for i in result.witnesses:
        adversarial = result.adversarial(i)
        assert excess(norm, eps, x[i : i + 1], adversarial[None]) == 0
        assert model(adversarial[None]).argmax().item() == result.predicted[i] != y[i]
