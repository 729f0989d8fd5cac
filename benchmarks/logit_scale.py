"""Whether the scale of the logits changes the reported robust accuracy. It must not: the decisions are the same.

A small convolutional network of scikit-learn's digits, its logits multiplied by 1e-4, 1 and 1e4, under Linf. Robust
accuracy in percent at each scale, and the number of examples whose outcome is not the same at all scales.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from common import digits, show, train
from peers import chosen
from torch import Tensor, nn

from pytest_robust import Linf, evaluate
from pytest_robust.conformance.legality import surviving
from pytest_robust.conformance.networks import Wrapped, seeded

SCALES = (1e-4, 1.0, 1e4)


def network() -> nn.Module:
    """Two convolutions and a linear layer on 1x8x8."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip


def row(name: str, robust: list[Tensor]) -> list[str]:
    """The table's row for the outcomes at every scale, each (n,) bool."""
    differing = int((torch.stack(robust).any(0) != torch.stack(robust).all(0)).sum())
    return [name, *(f"{100 * outcome.double().mean().item():.1f}" for outcome in robust), str(differing)]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eps", type=float, default=0.15, help="radius (default: 0.15)")
    parser.add_argument("--steps", type=int, default=40, help="gradient steps of the other libraries (default: 40)")
    parser.add_argument("--no-peers", action="store_true", help="leave other libraries out")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.manual_seed(0)

    (x, y), (x_test, y_test) = digits()
    model = train(seeded(network), x, y, epochs=15, noise=0.3)
    scaled = [Wrapped(model, lambda inner, x, scale=scale: inner(x) * scale).eval() for scale in SCALES]

    threat = Linf(args.eps)
    rows = [
        row("pytest-robust standard", [
            torch.from_numpy(evaluate(one, (x_test, y_test), threat, device="cpu").robust) for one in scaled
        ])
    ]  # fmt: skip
    peers, line = ([], "left out") if args.no_peers else chosen()
    for peer in peers:
        robust = []
        for one in scaled:
            torch.manual_seed(0)  # the same random start at every scale, whichever generator the library draws from
            np.random.seed(0)
            moved = peer.attack(one, "linf", args.eps, args.steps)(x_test.clone(), y_test)
            robust.append(surviving(one, x_test, y_test, moved, "linf", args.eps))
        rows.append(row(peer.name, robust))
    show(rows, ["attack", *(f"x {scale:g}" for scale in SCALES), "examples that differ"], f"peers: {line}")
    return int(rows[0][-1] != "0")


if __name__ == "__main__":
    raise SystemExit(main())
