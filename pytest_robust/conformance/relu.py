"""Small networks with one hidden layer, whose robust accuracy is known exactly."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Array = npt.NDArray[np.float64]


def relu_network(features: int, hidden: int, classes: int, seed: int) -> nn.Sequential:
    """Random weights, in eval mode: linear, ReLU, linear."""
    generator = torch.Generator().manual_seed(seed)
    first = nn.utils.skip_init(nn.Linear, features, hidden)
    last = nn.utils.skip_init(nn.Linear, hidden, classes)
    with torch.no_grad():
        first.weight.copy_(torch.randn(hidden, features, generator=generator))
        # Every hyperplane goes through a point of [0, 1]^features: there are bends to meet.
        first.bias.copy_(-(first.weight * torch.rand(hidden, features, generator=generator)).sum(1))
        last.weight.copy_(torch.randn(classes, hidden, generator=generator))
        last.bias.copy_(-0.5 * last.weight.mean(1))
    return nn.Sequential(first, nn.ReLU(), last).eval()


def relu_margins(network: nn.Sequential, x: Array, y: npt.NDArray[np.int64], norm: str, eps: float) -> Array:
    """(n,) margins left at the worst point of the ball and [0, 1]; an example is robust where it is positive.

    The hyperplanes at which hidden units switch cut ball and box into one polytope per activation pattern. Inside each the
    network is linear, so its worst point is a corner of one of them: a point where as many hyperplanes meet as there are
    features. All of these are tried.

    Args:
        network: linear, ReLU, linear. x: (n, features), very few features. norm: linf or l1, whose balls are polytopes.
    """
    first, _, last = network
    w, b, v, c = (parameter.detach().double().numpy() for layer in (first, last) for parameter in layer.parameters())
    return np.array([_least(w, b, v, c, row, int(label), norm, eps) for row, label in zip(x, y, strict=True)])


def _least(w: Array, b: Array, v: Array, c: Array, x: Array, label: int, norm: str, eps: float) -> float:
    """The least of all margins of one example."""
    each = np.eye(len(x))
    faces = np.vstack([each, -each]) if norm == "linf" else np.array(list(itertools.product((-1.0, 1.0), repeat=len(x))))
    normals = np.vstack([faces, each, each, w])
    offsets = np.concatenate([faces @ x + eps, 0 * x, 0 * x + 1, -b])
    meeting = np.array(list(itertools.combinations(range(len(normals)), len(x))))
    meeting = meeting[np.abs(np.linalg.det(normals[meeting])) > 1e-12]
    corners = np.linalg.solve(normals[meeting], offsets[meeting][..., None])[..., 0]
    inside = ((corners - x) @ faces.T <= eps + 1e-12).all(1) & (corners >= -1e-12).all(1) & (corners <= 1 + 1e-12).all(1)
    logits = np.maximum(corners[inside] @ w.T + b, 0) @ v.T + c
    rivals = np.delete(logits, label, axis=1)
    return float((logits[:, [label]] - rivals).min())


def relu_data(network: nn.Sequential, seed: int, n: int) -> tuple[Tensor, Tensor]:
    """Uniform inputs in [0, 1] with the network's own labels."""
    features = network[0].in_features
    assert isinstance(features, int)
    x = torch.rand(n, features, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return x, network(x).argmax(1)
