"""How many examples a check with ``confidence=`` attacks until its verdict is clear, by how far the truth is from the floor.

Simulated, for no model is needed to count draws: sets of examples of which a known share is robust, all of them right
without attack, in random orders. The share attacked on average, its 95th percentile, and how often the verdict was wrong.
"""

from __future__ import annotations

import argparse

import numpy as np
from common import show

from pytest_robust.evaluation.sequential import ConfidenceSequence

FLOOR = 0.5
LOOKS = 128


def draws(total: int, robust: int, confidence: float, rng: np.random.Generator) -> tuple[int, bool]:
    """Examples attacked in one run, and whether its verdict was right; it looks every ``total / LOOKS`` examples."""
    needed, sequence = int(np.ceil(FLOOR * total)), ConfidenceSequence(total, confidence)
    survived = np.cumsum(rng.permutation(np.arange(total) < robust))
    for size in [*range(max(16, total // LOOKS), total, max(16, total // LOOKS)), total]:
        least, most = sequence.interval(int(survived[size - 1]), size)
        if least >= needed or most < needed:
            return size, (least >= needed) == (robust >= needed)
    raise AssertionError("all are drawn, and the count is not known")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--confidence", type=float, default=0.99)
    parser.add_argument("--repeats", type=int, default=400, help="random orders per row")
    options = parser.parse_args(argv)
    rng, rows, fine = np.random.default_rng(0), [], True
    for total in (1000, 10_000):
        for points in (20, 10, 5, 2, -2, -5, -10, -20):
            robust = round(total * (FLOOR + points / 100))
            runs = [draws(total, robust, options.confidence, rng) for _ in range(options.repeats)]
            shares, right = np.array([size / total for size, _ in runs]), np.mean([right for _, right in runs])
            fine &= bool(1 - right <= 1 - options.confidence)
            fine &= total < 10_000 or abs(points) < 10 or bool(shares.mean() <= 0.05)
            cells = (f"{100 * value:.1f}%" for value in (shares.mean(), np.quantile(shares, 0.95), 1 - right))
            rows.append([f"{total}", f"{points:+d}", *cells])
    show(rows, ["examples", "points from the floor", "attacked", "95th percentile", "wrong"])
    return 0 if fine else 1


if __name__ == "__main__":
    raise SystemExit(main())
