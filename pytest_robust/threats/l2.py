"""L2: the Euclidean length of the perturbation is at most eps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pytest_robust.threats.ball import Ball
from pytest_robust.threats.region import Region

_NEWTON_STEPS = 12
"""The set of features at their bound grows with every step; six are enough in practice, and all are feasible."""


class L2Geometry:
    """Projection and maximiser have one form, clamp(t * direction): only the scale t has to be found."""

    name = "l2"

    def start(self, region: Region, u: Tensor, v: Tensor) -> Tensor:
        gauss = (-2 * torch.log1p(-u)).sqrt() * (2 * math.pi * v).cos()  # Box and Muller, 1958
        return self.project(region.origin + unit(gauss) * region.radius, region)

    def step(self, x: Tensor, grad: Tensor, size: Tensor, region: Region) -> Tensor:
        # What cannot move must not take its share of the step.
        movable = torch.where(region.upper > region.lower, grad, 0.0)
        return self.project(x + unit(movable) * size, region)

    def project(self, x: Tensor, region: Region) -> Tensor:
        delta = x.clamp(region.lower, region.upper) - region.origin
        # The clamp first is exact: where the clamped point is in the ball, it is the projection; where not, scaling
        # the unclamped delta down is what the optimality conditions ask for.
        outside = _length(delta) > region.radius
        whole = x - region.origin
        return torch.where(outside, _scaled(unit(whole), region, _length(whole)), region.origin + delta)

    def maximise(self, grad: Tensor, region: Region) -> Tensor:
        return _scaled(unit(grad), region, torch.full_like(region.radius, math.inf))

    def distance(self, delta: Tensor) -> Tensor:
        return _length(delta).squeeze(1)


def _length(rows: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return length


def _scaled(direction: Tensor, region: Region, most: Tensor) -> Tensor:
    """origin + clamp(t * direction) with the largest t <= ``most`` that keeps the norm within the radius.

    With A the features that reach their bound at t, the norm is the radius at t = sqrt((radius^2 - sum_A room^2) /
    sum_notA direction^2). Iterated from A empty, t and A only grow and every iterate is feasible.

    Args:
        direction: (rows, features), rows of length 1 or 0. most: (rows, 1).
    """
    # Everything in units of the radius, so that no square overflows or underflows.
    radius = torch.where(region.radius > 0, region.radius, 1.0)
    room, size = region.room(direction) / radius, direction.abs()
    t = torch.ones_like(radius)
    for _ in range(_NEWTON_STEPS):
        bound = size * t >= room
        left = (1 - torch.where(bound, room, 0.0).square().sum(1, keepdim=True)).clamp_min(0)
        free = torch.where(bound, 0.0, size).square().sum(1, keepdim=True)
        grown = (left / torch.where(free > 0, free, 1.0)).sqrt().clamp_max(1e18)
        t = torch.where(free > 0, torch.maximum(t, grown), t)
    t = torch.minimum(t, most / radius) * region.radius
    return (region.origin + direction * t).clamp(region.lower, region.upper)


def unit(grad: Tensor) -> Tensor:
    """Rows of Euclidean length 1, whatever the scale of the gradient; a zero row stays zero."""
    largest = grad.abs().amax(1, keepdim=True)
    scaled = grad / torch.where(largest > 0, largest, 1.0)  # so that no square underflows or overflows
    length = _length(scaled)
    return scaled / torch.where(length > 0, length, 1.0)


class L2(Ball):
    """The Euclidean length of the perturbation is at most ``eps``. See ``Ball`` for the arguments."""

    geometry = L2Geometry()
