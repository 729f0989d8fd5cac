"""What must change no outcome: the scale and the shift of the logits, the batch, the order and the company of the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pytest_robust.conformance.check import Check, Outcome
from pytest_robust.conformance.networks import Wrapped, blobs, trained
from pytest_robust.conformance.strength import NETWORK_EPS
from pytest_robust.conformance.subject import Subject
from pytest_robust.threats import make

N, NORMS = 16, 2
"""Examples, and norms of those that the subject can do, the first ones: batches of one example take their time."""
SCALES = {"2^-14": 2.0**-14, "2^14": 2.0**14}
"""Powers of two: the scaled logits are the same to the last bit, and rounding excuses nothing."""
SHIFTS = (-100.0, 100.0)
BATCHES = (1, 7)
"""Compared with all of the data as one batch."""


@dataclass(frozen=True)
class _Variant:
    """Another way to run the same.

    Attributes:
        function: stands between the network and its output. rows: positions of the data that are run together; None: all.
    """

    function: Callable[[nn.Module, Tensor], Tensor] | None = None
    batch_size: int = N
    rows: tuple[Tensor, ...] = (torch.arange(N),)

    def outcomes(self, subject: Subject, norm: str) -> npt.NDArray[np.int64]:
        """(N, 2) which examples stand, and the passes spent on them, in the order of the plain run."""
        model = trained() if self.function is None else Wrapped(trained(), self.function).eval()
        (x, y), threat, outcomes = blobs(N, seed=2), make(norm, NETWORK_EPS[norm]), np.zeros((N, 2), dtype=np.int64)
        for rows in self.rows:
            result = subject.attack(model, (x[rows], y[rows]), threat, batch_size=self.batch_size)
            outcomes[rows.numpy()] = np.stack([result.standing, result.passes], axis=1)
        return outcomes


@lru_cache(maxsize=8)
def _plain(subject: Subject, norm: str) -> npt.NDArray[np.int64]:
    return _Variant().outcomes(subject, norm)


def scale(subject: Subject) -> Outcome:
    variants = {
        f"logits x {name}": _Variant(lambda model, x, by=by: model(x) * by)  # type: ignore[misc]
        for name, by in SCALES.items()
    }
    return _same(subject, variants, "same outcomes and passes at logits x 6e-5 and x 16384")


def shift(subject: Subject) -> Outcome:
    variants = {f"logits {by:+g}": _Variant(lambda model, x, by=by: model(x) + by) for by in SHIFTS}  # type: ignore[misc]
    return _same(subject, variants, "same outcomes at logits - 100 and + 100", rounded=True)


def batch(subject: Subject) -> Outcome:
    variants = {f"batches of {size}": _Variant(batch_size=size) for size in BATCHES}
    return _same(subject, variants, f"same outcomes and passes in batches of {', '.join(map(str, BATCHES))} and {N}")


def order(subject: Subject) -> Outcome:
    rows = torch.randperm(N, generator=torch.Generator().manual_seed(3))
    return _same(subject, {"another order": _Variant(rows=(rows,))}, "same outcomes and passes in another order")


def company(subject: Subject) -> Outcome:
    halves = torch.arange(N).chunk(2)
    return _same(subject, {"in two halves": _Variant(rows=halves)}, "same outcomes and passes in two halves")


def _same(subject: Subject, variants: dict[str, _Variant], expected: str, *, rounded: bool = False) -> Outcome:
    """Compare with the outcomes of the plain run, example by example, in every norm.

    Passes belong to them, for an attack that depends on its company takes another way before it comes out otherwise.

    Args:
        rounded: the variants round the logits, which may cost a pass more or less: passes are not compared.
    """
    differing, compared = [], slice(0, 1 if rounded else 2)
    for norm in subject.norms[:NORMS]:
        plain = _plain(subject, norm)
        for name, variant in variants.items():
            count = int((variant.outcomes(subject, norm) != plain)[:, compared].any(1).sum())
            differing += [f"{count} of {N} differ under {norm}, {name}"] if count else []
    got = differing[0] + (f", and {len(differing) - 1} more" if differing[1:] else "") if differing else "the same"
    return Outcome.of(not differing, expected, got)


CHECKS = (
    Check("logit-scale", scale),
    Check("logit-shift", shift),
    Check("batch-size", batch),
    Check("order", order),
    Check("halves", company),
)
