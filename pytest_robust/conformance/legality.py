"""Whether points are inside ball and box, in float64 and apart from the engine's own geometry."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Array = npt.NDArray[np.float64]
_ROUNDING = 1e-5
"""Rounding in float32, as a share of eps, that is forgiven to those who do not guard against it."""


def excess(norm: str, eps: float, x: Tensor, moved: Tensor, low: float = 0.0, high: float = 1.0) -> Array:
    """(n,) how far points are outside the ball of ``x`` or the box, in the norm's units; 0 inside, infinite for NaN.

    Args:
        x, moved: (n, ...). low, high: the box, infinite for none.
    """
    origin, point = (tensor.detach().cpu().flatten(1).double().numpy() for tensor in (x, moved))
    delta = np.abs(point - origin)
    size = {"linf": delta.max(1), "l2": np.sqrt((delta**2).sum(1)), "l1": delta.sum(1), "l0": (delta != 0).sum(1)}[norm]
    outside = np.maximum(size - eps, np.maximum(low - point, point - high).max(1))
    beyond: Array = np.where(np.isnan(outside), math.inf, np.maximum(outside, 0.0))
    return beyond


def surviving(model: nn.Module, x: Tensor, y: Tensor, moved: Tensor, norm: str, eps: float) -> Tensor:
    """(n,) bool: right at ``x``, and right at ``moved`` or ``moved`` is outside the ball or [0, 1].

    Rounding in float32 is forgiven, so that libraries which do not guard against it are not marked down for it.
    """
    inside = torch.from_numpy(excess(norm, eps, x, moved) <= _ROUNDING * eps + 1e-6)
    with torch.no_grad():
        right: Tensor = (model(x).argmax(1) == y) & ((model(moved).argmax(1) == y) | ~inside.to(x.device))
    return right
