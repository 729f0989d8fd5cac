"""S(x) for a batch: where each example may move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Terrain = Literal["smooth", "few", "single", "edits"]


@dataclass(frozen=True)
class Region:
    """The box and the radius of a batch of examples; the threat's norm makes it a set.

    Attributes:
        origin: (B, ...) the clean points.
        lower, upper: (B, ...) bounds, ``lower <= origin <= upper``; equal where nothing may move, infinite where unbounded.
        radius: (B, 1), or (B, L, 1) for a ball per token.
    """

    origin: Tensor
    lower: Tensor
    upper: Tensor
    radius: Tensor

    @property
    def reach(self) -> Tensor:
        """The radius, shaped so that it broadcasts to the points."""
        return self.radius.view(*self.radius.shape[:-1], *[1] * (self.origin.ndim - self.radius.ndim + 1))

    def map(self, f: Callable[[Tensor], Tensor]) -> Region:
        """``f`` applied to every tensor."""
        return Region(f(self.origin), f(self.lower), f(self.upper), f(self.radius))

    @staticmethod
    def cat(regions: list[Region]) -> Region:
        return Region(
            *(torch.cat([getattr(r, name) for r in regions]) for name in ("origin", "lower", "upper", "radius")),
        )

    def room(self, direction: Tensor) -> Tensor:
        """How far each feature can go from the origin in the sign of ``direction``, >= 0; 0 where that is 0."""
        up, down = self.upper - self.origin, self.origin - self.lower
        return torch.where(direction > 0, up, torch.where(direction < 0, down, 0.0))


def rounded(exact: Tensor, origin: Tensor) -> Tensor:
    """``exact``, float64, in the type and on the device of ``origin``, rounded towards it and never away from it."""
    value, start = exact.to(origin.dtype), origin.to(exact.device)
    outside = (value.double() - start.double()).abs() > (exact - start.double()).abs()
    return torch.where(outside, torch.nextafter(value, start), value).to(origin.device)


def precise(tensor: Tensor) -> Tensor:
    """``tensor`` in float64, on the CPU where the device has no float64 (MPS)."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()
