"""What the attacks that look for the nearest adversarial point have in common.

They minimise ``|x - origin|^2 - weight * loss``, in units of the region's size. The weight grows, so that the minimum moves
out from the origin, and crosses the decision boundary where that is nearest. The usual hinge, which switches the loss off
beyond the boundary, is not needed: a run ends there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_robust.attacks.live import Live
from pytest_robust.threats import Threat


def extent(threat: Threat, live: Live, grad: Tensor) -> Tensor:
    """(S,) Euclidean distance from the origin to the region's best point for the gradient; 1 where that is 0."""
    length = _length(threat.maximise(grad, live.region) - live.region.origin)
    return torch.where(length > 0, length, 1.0)


def weight(first: float, progress: Tensor) -> Tensor:
    """(S,) weight of the loss, a hundred times as much in the end as at first.

    Args:
        progress: (S,) from 0 to 1.
    """
    return first * 100.0**progress


def _length(x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return length
