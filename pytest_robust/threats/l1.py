"""L1: the absolute changes of all features sum to at most eps."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_robust.threats.ball import Ball
from pytest_robust.threats.region import Region


class L1Geometry:
    """Exact projection on the ball cut by the box; without the box-awareness, L1 attacks report far too much (Croce and
    Hein, "Mind the box", ICML 2021).
    """

    name = "l1"

    def start(self, region: Region, u: Tensor, v: Tensor) -> Tensor:
        exponential = -torch.log1p(-u)  # normalised exponentials are uniform on the simplex
        delta = exponential / exponential.sum(1, keepdim=True) * torch.where(v < 0.5, -1.0, 1.0)
        return self.project(region.origin + delta * region.radius, region)

    def step(self, x: Tensor, grad: Tensor, size: Tensor, region: Region) -> Tensor:
        here = Region(x, region.lower, region.upper, size)
        return self.project(self.maximise(grad, here), region)

    def project(self, x: Tensor, region: Region) -> Tensor:
        delta = x - region.origin
        room, size = region.room(delta), delta.abs()
        threshold = _threshold(size, room, region.radius)
        kept = torch.minimum((size - threshold).clamp_min(0), room)
        return region.origin + kept * delta.sign()

    def maximise(self, grad: Tensor, region: Region) -> Tensor:
        """Fractional knapsack: fill the features of largest gradient to their bound until the radius is spent."""
        room = torch.minimum(region.room(grad), region.radius)
        rank = grad.abs().argsort(dim=1, descending=True, stable=True)
        sorted_room = room.gather(1, rank)
        spent_before = sorted_room.cumsum(1) - sorted_room
        spent = torch.minimum(sorted_room, (region.radius - spent_before).clamp_min(0))
        return region.origin + torch.zeros_like(grad).scatter(1, rank, spent) * grad.sign()

    def distance(self, delta: Tensor) -> Tensor:
        return delta.abs().sum(1)


def _threshold(size: Tensor, room: Tensor, radius: Tensor) -> Tensor:
    """The t >= 0 with sum_i clamp(size_i - t, 0, room_i) = radius; 0 where the sum is not above the radius at t = 0.

    The sum is piecewise linear and decreasing in t, with breakpoints size_i (slope starts) and size_i - room_i (it ends).
    """
    points = torch.cat([size, (size - room).clamp_min(0)], dim=1)
    slopes = torch.cat([torch.ones_like(size), -torch.ones_like(size)], dim=1)
    points, rank = points.sort(dim=1, descending=True)
    slopes = slopes.gather(1, rank)
    slope, offset = slopes.cumsum(1), (slopes * points).cumsum(1)
    below = (offset - slope * points < radius).sum(1, keepdim=True)  # breakpoints at which the sum is still too small
    # Between the last of these and the next one, the sum is offset - slope * t.
    at = (below - 1).clamp_min(0)
    t = (offset.gather(1, at) - radius) / slope.gather(1, at).clamp_min(1)
    everything = torch.minimum(size, room).sum(1, keepdim=True)
    return torch.where(everything <= radius, 0.0, t.clamp_min(0))


class L1(Ball):
    """The absolute changes of all features sum to at most ``eps``. See ``Ball`` for the arguments."""

    geometry = L1Geometry()
