"""L0: at most k features change, each as far as the bounds allow."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_robust.budget import Budget, Number
from pytest_robust.errors import ThreatError
from pytest_robust.threats.ball import Ball, Bounds
from pytest_robust.threats.region import Region


class L0Geometry:
    """Each set of k features is a box of its own; projection and maximiser choose the best k."""

    name = "l0"

    def start(self, region: Region, u: Tensor, v: Tensor) -> Tensor:
        chosen = largest(torch.where(region.upper > region.lower, u, -1.0), region.radius)
        return torch.where(chosen, torch.lerp(region.lower, region.upper, v), region.origin)

    def step(self, x: Tensor, grad: Tensor, size: Tensor, region: Region) -> Tensor:
        # Up to ``size`` features go where the linearised loss is largest. Of all that are changed by then, those stay whose
        # change is worth most to it: so a step can exchange one feature for a better one.
        best = torch.where(grad > 0, region.upper, torch.where(grad < 0, region.lower, x))
        gain = grad * (best - x)
        moved = torch.where(largest(gain, size.ceil()) & (gain > 0), best, x)
        worth = torch.where(moved != region.origin, grad * (moved - region.origin), -torch.inf)
        return torch.where(largest(worth, region.radius), moved, region.origin)

    def project(self, x: Tensor, region: Region) -> Tensor:
        clamped = x.clamp(region.lower, region.upper)
        # What keeping a feature saves of the squared distance, against putting it back to its origin.
        gain = (x - region.origin).square() - (x - clamped).square()
        return torch.where(largest(gain, region.radius), clamped, region.origin)

    def maximise(self, grad: Tensor, region: Region) -> Tensor:
        gain = grad.abs() * region.room(grad)
        best = torch.where(grad > 0, region.upper, region.lower)
        return torch.where(largest(gain, region.radius) & (gain > 0), best, region.origin)

    def distance(self, delta: Tensor) -> Tensor:
        return (delta != 0).sum(1).to(delta.dtype)


def largest(values: Tensor, k: Tensor) -> Tensor:
    """(rows, features) bool: the k largest values of each row, the first of equal ones."""
    rank = values.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(values.shape[1], device=values.device).expand_as(rank)
    return torch.zeros_like(values, dtype=torch.bool).scatter(1, rank, places < k)


class L0(Ball):
    """At most ``k`` features (single values, not pixels of several channels) change, anywhere within finite ``bounds``.

    Raises:
        ThreatError: k is no whole number, or the bounds are not finite.
    """

    geometry = L0Geometry()

    def __init__(self, k: Number | Budget, bounds: Bounds = (0, 1), mask: Tensor | None = None) -> None:
        super().__init__(k, bounds, mask)

    def with_eps(self, eps: Number | Budget) -> L0:
        """The same threat with another number of features."""
        return L0(eps, self.bounds, self.mask)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.budget.value.denominator != 1:
            raise ThreatError(f"L0 counts features: k must be a whole number, got {self.budget}")
        finite = self.bounds is not None and all(bool(torch.as_tensor(b).isfinite().all()) for b in self.bounds)
        if not finite:
            raise ThreatError("L0 needs finite bounds: without them one feature can move without limit")
