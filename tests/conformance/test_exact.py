"""The known answers are right: nothing found by trying beats them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pytest_robust.conformance.legality import excess, surviving
from pytest_robust.conformance.linear import best_gain, linear_data, linear_model, margins
from pytest_robust.conformance.relu import relu_data, relu_margins, relu_network


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_no_point_of_ball_and_box_beats_the_closed_form(norm):
    rng = np.random.default_rng(0)
    grad, down, up = rng.normal(size=(5, 3)), rng.random((5, 3)), rng.random((5, 3))
    grad[0, 0], down[1, 1], up[1, 1] = 0.0, 0.0, 0.0
    eps = {"linf": 0.3, "l2": 0.5, "l1": 0.6, "l0": 2}[norm]
    best = best_gain(norm, grad, down, up, eps)
    for row in range(5):
        # L0's best points are corners; a grid that holds them, and zero, is dense enough for the others.
        axes = [np.unique([*np.linspace(-down[row, i], up[row, i], 81), 0.0]) for i in range(3)]
        points = np.stack([axis.ravel() for axis in np.meshgrid(*axes)], 1)
        order = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}[norm]
        inside = points[np.linalg.norm(points, order, axis=1) <= eps]
        found = (inside @ grad[row]).max()
        assert best[row] - 0.1 <= found <= best[row] + 1e-9


def test_a_point_outside_the_threat_breaks_nothing():
    x, y = torch.full((4, 2), 0.5), torch.zeros(4, dtype=torch.int64)
    moved = torch.tensor([[0.5, 0.6], [0.5, 0.9], [0.5, 0.45], [0.5, 1.2]])

    def first_unless_second_is_larger(x):
        return torch.stack([x[:, 0], x[:, 1] - 0.05], 1)

    robust = [surviving(first_unless_second_is_larger, x, y, moved, "linf", eps).tolist() for eps in (0.11, 0.5, 0.8)]
    assert robust == [[False, True, True, True], [False, False, True, True], [False, False, True, True]]


def margins_at(model, points, y):
    """(n, points) margins of a model at points (n, points, features)."""
    logits = model(points.flatten(0, 1)).view(*points.shape[:2], -1)
    own = logits.gather(2, y[:, None, None].expand(-1, points.shape[1], 1))
    others = logits.scatter(2, y[:, None, None].expand(-1, points.shape[1], 1), -torch.inf).amax(2, keepdim=True)
    return (own - others)[..., 0]


def random_points(norm, eps, x, count=4000):
    """(n, count, features) points on the ball, cut by the box."""
    random = torch.Generator().manual_seed(0)
    moves = 2 * torch.rand(len(x), count, x.shape[1], generator=random, dtype=x.dtype) - 1
    size = moves.abs().amax(2, keepdim=True) if norm == "linf" else moves.abs().sum(2, keepdim=True)
    surface = moves / size * eps
    corners = moves.sign() * eps if norm == "linf" else surface
    share = torch.rand(len(x), count, 1, generator=random, dtype=x.dtype)
    return (x[:, None] + torch.cat([corners, surface, share * surface], 1)).clamp(0, 1)


@pytest.mark.parametrize("norm", ["linf", "l1"])
@pytest.mark.parametrize("seed", range(3))
def test_no_point_beats_the_corners_of_a_small_network_and_some_come_close(norm, seed):
    network = relu_network(2, 8, 3, seed)
    x, y = relu_data(network, seed, 20)
    network = network.double()
    exact = relu_margins(network, x.numpy(), y.numpy(), norm, 0.2)
    found = margins_at(network, random_points(norm, 0.2, x.double()), y).amin(1).detach().numpy()
    assert (exact <= found + 1e-9).all()
    assert np.abs(exact - found).max() < 0.1
    assert 0 < (exact > 0).mean() < 1


def test_the_corners_of_a_network_without_bends_are_the_closed_form():
    network = relu_network(3, 3, 4, seed=0)
    network[0].weight.data, network[0].bias.data = torch.eye(3), torch.ones(3)  # never off in [0, 1]
    layer = torch.nn.Linear(3, 4)
    layer.weight.data, layer.bias.data = network[2].weight.data, network[2].bias.data + network[2].weight.data.sum(1)
    x, y = relu_data(network, 0, 30)
    for norm, eps in (("linf", 0.1), ("l1", 0.3)):
        known = margins(layer, x.double().numpy(), y.numpy(), norm, eps)
        assert relu_margins(network, x.double().numpy(), y.numpy(), norm, eps) == pytest.approx(known, abs=1e-6)


@pytest.mark.parametrize(
    ("norm", "moved", "outside"),
    [
        ("linf", [0.5, 0.8], 0.1),
        ("l2", [0.8, 0.9], 0.3),
        ("l1", [0.6, 0.3], 0.1),
        ("l0", [0.6, 0.3], 1.8),
        ("linf", [0.5, 0.7], 0.0),
        ("linf", [0.5, float("nan")], np.inf),
    ],
)
def test_how_far_a_point_is_outside_the_ball(norm, moved, outside):
    x = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
    assert excess(norm, 0.2, x, torch.tensor([moved], dtype=torch.float64)) == pytest.approx([outside], abs=1e-12)


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_a_point_outside_the_box_is_outside(value):
    x = torch.tensor([[0.0, 1.0]])
    assert excess("linf", 0.5, x, torch.full_like(x, value))[0] > 0.05
    assert excess("linf", 2.0, x, torch.full_like(x, value), low=-1, high=2)[0] == 0


def test_linear_problems_have_the_labels_of_the_layer_but_for_some():
    for classes in (1, 4):
        layer = linear_model(classes, 6, seed=3)
        x, y = linear_data(layer, seed=3, n=200)
        clean = margins(layer, x.double().numpy(), y.numpy(), "linf", 0.0)
        assert 0.8 < (clean > 0).mean() < 0.97
