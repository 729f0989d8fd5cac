"""How far reported robust accuracy is from the truth, where the truth has a closed form.

A linear classifier of scikit-learn's digits, inputs in [0, 1]. The worst point of ball and box is known in every norm; each
attack's robust accuracy minus the exact one is given in points. Zero is right, more is an attack too weak, less than zero
an attack outside the threat. Attacks of other libraries take --steps steps; points outside ball or box break nothing.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from common import digits, show, train
from peers import chosen
from torch import nn

from pytest_robust import evaluate, threats
from pytest_robust.conformance.legality import surviving
from pytest_robust.conformance.linear import margins
from pytest_robust.conformance.networks import seeded

BUDGETS = {"linf": 0.1, "l2": 0.6, "l1": 2.5, "l0": 2}


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
    left = {norm: margins(layer, flat, labels, norm, eps) for norm, eps in BUDGETS.items()}
    truth = {norm: 100 * float((least > 0).mean()) for norm, least in left.items()}

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
