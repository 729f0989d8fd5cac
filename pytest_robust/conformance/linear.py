"""Linear models, whose robust accuracy has a closed form in every norm."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Array = npt.NDArray[np.float64]


def best_gain(norm: str, grad: Array, down: Array, up: Array, eps: float) -> Array:
    """(n,) the largest <grad, d> over the ball and -down <= d <= up.

    Args:
        grad, down, up: (n, features), down and up >= 0.
    """
    size, room = np.abs(grad), np.where(grad > 0, up, down)
    gains: Array
    if norm == "linf":
        gains = size * np.minimum(room, eps)
    elif norm == "l0":
        gains = -np.sort(-size * room, axis=1)[:, : int(eps)]
    elif norm == "l1":  # fractional knapsack: fill the features with the largest gradient first
        order = np.argsort(-size, axis=1)
        room = np.take_along_axis(room, order, 1)
        gains = np.take_along_axis(size, order, 1) * np.clip(eps - (np.cumsum(room, 1) - room), 0, room)
    else:
        gains = size * _water_filled(size, room, eps)
    total: Array = gains.sum(1)
    return total


def _water_filled(size: Array, room: Array, eps: float) -> Array:
    """The best point of an l2 ball and box: min(room, t * size), of length eps, or shorter where the room is."""
    most = _length(room * (size > 0))
    low, high = np.zeros((len(size), 1)), np.full((len(size), 1), 2.0)
    while (short := _length(np.minimum(room, high * size)) < np.minimum(eps, most)).any():
        high = np.where(short, 2 * high, high)
    for _ in range(100):  # bisection for t
        middle = (low + high) / 2
        over = _length(np.minimum(room, middle * size)) > eps
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    point: Array = np.minimum(room, low * size)
    return point


def _length(d: Array) -> Array:
    """(n, 1) Euclidean lengths."""
    length: Array = np.sqrt((d**2).sum(1, keepdims=True))
    return length


def margins(
    layer: nn.Linear,
    x: Array,
    y: npt.NDArray[np.int64],
    norm: str,
    eps: float,
    *,
    low: float | Array = 0.0,
    high: float | Array = 1.0,
    mask: npt.NDArray[np.bool_] | bool = True,
) -> Array:
    """(n,) margins left at the worst point of the ball and the box; an example is robust where it is positive.

    Args:
        layer: (features -> classes); with a single output, class 1 is predicted where that is positive.
        x: (n, features). low, high: lowest and highest allowed values. mask: False where nothing may move.
    """
    weight, bias = (tensor.detach().cpu().double().numpy() for tensor in (layer.weight, layer.bias))
    if len(weight) == 1:
        weight, bias = np.vstack([0 * weight, weight]), np.concatenate([0 * bias, bias])
    logits = x @ weight.T + bias
    rows = np.arange(len(y))
    left = np.full((len(weight), len(y)), np.inf)
    for other in range(len(weight)):
        gain = best_gain(norm, weight[other] - weight[y], (x - low) * mask, (high - x) * mask, eps)
        left[other] = np.where(y == other, np.inf, logits[rows, y] - logits[:, other] - gain)
    least: Array = left.min(0)
    return least


def linear_model(classes: int, features: int, seed: int) -> nn.Linear:
    """A random layer in eval mode; with one class, a single output."""
    generator = torch.Generator().manual_seed(seed)
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, features, classes)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
        layer.bias.copy_(torch.randn(layer.bias.shape, generator=generator) / 10)
    layer.eval()
    return layer


def linear_data(layer: nn.Linear, seed: int, n: int) -> tuple[Tensor, Tensor]:
    """Uniform inputs in [0, 1], a few at the bounds, with the layer's own labels but for one in ten."""
    rng = np.random.default_rng(seed)
    x = rng.random((n, layer.in_features)).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = 0.0
    weight, bias = (tensor.detach().double().numpy() for tensor in (layer.weight, layer.bias))
    logits = x @ weight.T + bias
    y = logits.argmax(1) if len(weight) > 1 else (logits[:, 0] > 0).astype(np.int64)
    wrong = rng.random(n) < 0.1
    y[wrong] = (y[wrong] + 1) % max(2, len(weight))
    return torch.from_numpy(x), torch.from_numpy(y)
