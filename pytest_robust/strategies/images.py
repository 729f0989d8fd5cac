"""Image transforms: drawn by their parameters, and shrunk to the image itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from pytest_robust.threats import Transform

_LEVELS = 8
"""Into how many equal parts each limit is divided, where the user does not say."""


@dataclass(frozen=True, eq=False)
class ImageTransform:
    """Transforms one after the other, each by its own parameters. Call it with an image.

    Attributes:
        threats: the transforms. parameters: for each of them a row, in [-1, 1]: shares of its limits.
    """

    threats: tuple[Transform, ...]
    parameters: tuple[tuple[float, ...], ...]

    def __call__(self, images: Tensor) -> Tensor:
        """One image, (C, H, W), or several, (B, C, H, W), all by the same parameters."""
        for threat, row in zip(self.threats, self.parameters, strict=True):
            params = torch.tensor(row, dtype=images.dtype, device=images.device)
            images = threat.apply(images, params if images.ndim == 3 else params.expand(len(images), -1))
        return images

    def __repr__(self) -> str:
        """What is changed, in the units of the limits: it says more than the parameters."""
        changes = []
        for threat, row in zip(self.threats, self.parameters, strict=True):
            amounts = threat.amounts(torch.tensor(row, dtype=torch.float64))
            changes += [f"{name} {float(amount):.4g}" for name, amount in amounts.items() if amount != 0]
        return f"<{', '.join(changes) or 'the image as it is'}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        # Hypothesis would else print the fields.
        printer.text(repr(self))


def image_transforms(*threats: Transform, levels: int = _LEVELS) -> st.SearchStrategy[ImageTransform]:
    """Transforms within the limits of ``Spatial``, ``Photometric`` and their like, applied in this order.

    They shrink to the image as it is: the simplest change is that of fewest and smallest parameters.

    Args:
        levels: each parameter is one of so many equal parts of its limit, either way.

    Raises:
        ValueError: no transform, or levels below 1.
    """
    if not threats:
        raise ValueError("image_transforms() needs at least one transform, such as Spatial(degrees=10, shift=0.05)")
    if levels < 1:
        raise ValueError(f"levels must be at least 1, got {levels}")
    rows = [st.tuples(*[_shares(threat, levels)] * len(threat.limits)) for threat in threats]
    return st.builds(ImageTransform, st.just(threats), st.tuples(*rows))


def _shares(threat: Transform, levels: int) -> st.SearchStrategy[float]:
    if threat.terrain == "single":
        # Single points, and nothing between them.
        return st.sampled_from([0.0, 1.0])
    return st.integers(-levels, levels).map(lambda level: level / levels)
