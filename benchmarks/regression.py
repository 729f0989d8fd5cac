"""How often a comparison with a baseline says what: PASS / REGRESSED / INCONCLUSIVE, by how much accuracy really dropped.

Simulated, for no model is needed to flip outcomes: of the examples a known share changes, so many more from right to wrong
than back. The margin is 2 points, the interval that of 90 %. Without a drop one comparison in twenty may say REGRESSED, and
at a drop of the margin one in twenty PASS. "covered": how often the true drop was not above the upper limit, from the drop
where it was least often to the one where it was most often.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
from common import show

from pytest_robust.regression import Change, Paired

MARGIN, DROPS = 0.02, (0.0, 0.01, 0.02, 0.03, 0.05)
ROWS = ((200, 0.04), (200, 0.10), (500, 0.10), (619, 0.04), (1000, 0.04), (1546, 0.10), (2000, 0.10), (5000, 0.04))
"""Examples, and the share that flips. 619 and 1546 are what ``Change.deciding`` asks for, so that four of five pass."""
SHOWN = ("pass", "regressed", "inconclusive")


def simulated(n: int, flips: float, drop: float, repeats: int, rng: np.random.Generator) -> dict[str, float]:
    """The share of each verdict, and of upper limits that are not below the drop."""
    counts = rng.multinomial(n, [(flips + drop) / 2, (flips - drop) / 2, 1 - flips], repeats)[:, :2]
    shares = dict.fromkeys((*SHOWN, "covered"), 0.0)
    for (broken, robust), times in zip(*np.unique(counts, axis=0, return_counts=True), strict=True):
        change = Change(Paired(n, int(broken), int(robust)), MARGIN)
        shares[change.verdict] += times / repeats
        shares["covered"] += (change.interval[1] >= drop) * times / repeats
    return shares


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20_000, help="comparisons per cell")
    options = parser.parse_args(argv)
    rng, rows, fine = np.random.default_rng(0), [], True
    # The statistic is that of large samples: on small ones it errs in up to 5.5 % where 5 % is meant.
    most = 0.055 + 3 * math.sqrt(0.05 * 0.95 / options.repeats)
    for n, flips in ROWS:
        found = {drop: simulated(n, flips, drop, options.repeats, rng) for drop in DROPS if drop <= flips}
        fine &= found[0.0]["regressed"] <= most and found[MARGIN]["pass"] <= most
        cells = [" / ".join(f"{100 * found[drop][name]:.0f}" for name in SHOWN) if drop in found else "-" for drop in DROPS]
        covered = [shares["covered"] for shares in found.values()]
        rows.append([f"{n}", f"{100 * flips:g}%", *cells, f"{100 * min(covered):.1f} - {100 * max(covered):.1f}"])
    drops = ("no drop", *(f"{100 * drop:g} pt" for drop in DROPS[1:]))
    show(rows, ["examples", "flips", *drops, "covered, %"], "cells: PASS / REGRESSED / INCONCLUSIVE, in percent")
    return 0 if fine else 1


if __name__ == "__main__":
    raise SystemExit(main())
