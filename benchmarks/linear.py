"""How far reported robust accuracy is from the truth, where the truth has a closed form.

A linear classifier of scikit-learn's digits, inputs in [0, 1]. The worst point of ball and box is known in every norm; each
attack's robust accuracy minus the exact one is given in points. Zero is right, more is an attack too weak, less than zero
an attack outside the threat. Attacks of other libraries take --steps steps; points outside ball or box break nothing.
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt
import torch
from common import digits, seeded, show, surviving, train
from peers import chosen
from torch import nn

from pytest_robust import evaluate, threats

Array = npt.NDArray[np.float64]
BUDGETS = {"linf": 0.1, "l2": 0.6, "l1": 2.5, "l0": 2}


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


def exact(layer: nn.Linear, x: Array, y: npt.NDArray[np.int64], norm: str, eps: float) -> Array:
    """(n,) margins left at the worst point of the ball and [0, 1]; robust where positive."""
    weight, bias = (tensor.detach().double().numpy() for tensor in (layer.weight, layer.bias))
    logits = x @ weight.T + bias
    rows = np.arange(len(y))
    left = np.full((len(weight), len(y)), np.inf)
    for other in range(len(weight)):
        gain = best_gain(norm, weight[other] - weight[y], x, 1 - x, eps)
        left[other] = np.where(y == other, np.inf, logits[rows, y] - logits[:, other] - gain)
    least: Array = left.min(0)
    return least


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100, help="gradient steps of the other libraries (default: 100)")
    parser.add_argument("--no-peers", action="store_true", help="leave other libraries out")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)

    (x, y), (x_test, y_test) = digits()
    model = train(seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))), x, y, epochs=60)
    flat, labels = x_test.flatten(1).double().numpy(), y_test.numpy()
    layer = model[1]  # type: ignore[index]
    left = {norm: exact(layer, flat, labels, norm, eps) for norm, eps in BUDGETS.items()}
    truth = {norm: 100 * float((margins > 0).mean()) for norm, margins in left.items()}

    rows = [["exact, %", *(f"{truth[norm]:.1f}" for norm in BUDGETS)]]
    outcome = {
        norm: evaluate(model, (x_test, y_test), threats.make(norm, eps), device="cpu") for norm, eps in BUDGETS.items()
    }
    rows.append(["pytest-robust standard", *(f"{100 * outcome[norm].accuracy - truth[norm]:+.1f}" for norm in BUDGETS)])
    wrong = sum(int((outcome[norm].robust != (left[norm] > 0)).sum()) for norm in BUDGETS)
    peers, line = ([], "left out") if args.no_peers else chosen()
    for peer in peers:
        cells = []
        for norm, eps in BUDGETS.items():
            if norm not in peer.norms:
                cells.append("-")
                continue
            moved = peer.attack(model, norm, eps, args.steps)(x_test.clone(), y_test)
            accuracy = 100 * float(surviving(model, x_test, y_test, moved, norm, eps).double().mean())
            cells.append(f"{accuracy - truth[norm]:+.1f}")
        rows.append([peer.name, *cells])
    show(rows, ["attack", *(f"{norm} {eps}" for norm, eps in BUDGETS.items())], f"peers: {line}",
         f"pytest-robust: {wrong} of {len(labels) * len(BUDGETS)} outcomes differ from the exact ones")  # fmt: skip
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
