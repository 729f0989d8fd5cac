"""The weakest hit: a verified upper bound that no batch and no order changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_robust import L0, L2, Linf, evaluate

EPS = Linf("20/255")


@pytest.fixture(scope="module")
def full(trained, data):
    return evaluate(trained, data, EPS)


def plane(features: int) -> nn.Module:
    """Two classes, apart by the sign of the sum."""
    model = nn.Linear(features, 2, bias=False).eval()
    with torch.no_grad():
        model.weight.copy_(torch.stack([-torch.ones(features), torch.ones(features)]))
    return model


@pytest.mark.parametrize(("ball", "eps", "nearest"), [(Linf, 0.5, 0.02), (L2, 1.5, 0.06), (L0, 3, 3)])
def test_on_a_plane_it_is_the_nearest_example_at_its_distance(ball, eps, nearest):
    """The nearest has all nine features at 0.02: its distance is known in every norm. On a line L0 does not shrink."""
    heights = torch.tensor([0.3, -0.25, 0.02, -0.15, 0.4, -0.6])
    x, y = heights[:, None].expand(-1, 9).clone(), (heights > 0).long()
    result = evaluate(plane(9), (x, y), ball(eps, bounds=(-1, 1)), waive={"chance": "six examples"})
    hit = result.weakest
    assert (hit.index, hit.id, hit.label, hit.predicted) == (2, result.ids[2], 1, 0)
    assert nearest <= hit.norm <= nearest + eps / 200


def test_it_is_one_of_the_broken_within_the_budget(full):
    hit = full.weakest
    assert hit.index in full.witnesses
    assert hit.id == full.ids[hit.index]
    assert hit.label == full.labels[hit.index] != hit.predicted
    assert 0 < hit.norm < float(EPS.budget)
    assert hit.eps.endswith("/255")
    assert hit.norm <= float(hit.eps.removesuffix("/255")) / 255 <= hit.norm * 1.1


def test_the_model_breaks_there(trained, data, full):
    """At the norm claimed another evaluation breaks the example, too."""
    x, y = data
    i = full.weakest.index
    again = evaluate(trained, (x[i : i + 1], y[i : i + 1]), Linf(full.weakest.norm))
    assert not again.robust[0]


@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_size_of_the_batch(trained, data, full, batch_size):
    hit = evaluate(trained, data, EPS, batch_size=batch_size).weakest
    assert (hit.id, hit.predicted, hit.eps) == (full.weakest.id, full.weakest.predicted, full.weakest.eps)
    assert hit.norm == pytest.approx(full.weakest.norm, rel=1e-5)


def test_the_order_of_the_data(trained, data, full):
    x, y = data
    hit = evaluate(trained, (x.flip(0), y.flip(0)), EPS).weakest
    assert hit.index == len(y) - 1 - full.weakest.index
    assert (hit.id, hit.eps) == (full.weakest.id, full.weakest.eps)


def test_there_is_none_where_attacks_broke_none(trained, data):
    assert evaluate(trained, data, Linf("0.0001"), n=20).weakest is None


def test_it_costs_little(trained, data):
    """Eight forward passes on sixteen examples, and one that verifies the winner."""
    seen = []

    def counting(x):
        seen.append(len(x))
        return trained(x)

    evaluate(counting, data, EPS, attacks="fgsm")
    assert seen[-9:] == [16] * 8 + [1]
