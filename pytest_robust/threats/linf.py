"""Linf: every feature moves by at most eps."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_robust.threats.ball import Ball
from pytest_robust.threats.region import Region


class LinfGeometry:
    """The region's box already holds the ball (see ``Ball.region``), so every operation is a clamp."""

    name = "linf"

    def start(self, region: Region, u: Tensor, v: Tensor) -> Tensor:
        return torch.lerp(region.lower, region.upper, u)

    def step(self, x: Tensor, grad: Tensor, size: Tensor, region: Region) -> Tensor:
        return grad.sign().mul_(size).add_(x).clamp_(region.lower, region.upper)

    def project(self, x: Tensor, region: Region) -> Tensor:
        return x.clamp(region.lower, region.upper)

    def maximise(self, grad: Tensor, region: Region) -> Tensor:
        return torch.where(grad > 0, region.upper, torch.where(grad < 0, region.lower, region.origin))

    def distance(self, delta: Tensor) -> Tensor:
        return delta.abs().amax(1)


class Linf(Ball):
    """Every feature moves by at most ``eps``. See ``Ball`` for the arguments."""

    geometry = LinfGeometry()
