"""Brightness and contrast, and the photographic negative."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from pytest_robust.budget import Number
from pytest_robust.errors import ThreatError
from pytest_robust.threats.ball import Bounds, checked_bounds, spread
from pytest_robust.threats.linf import Linf
from pytest_robust.threats.region import Terrain
from pytest_robust.threats.transform import Transform, limit

_SWITCH = Linf(1, bounds=(0, 1))


@dataclass(frozen=True, eq=False)
class Photometric(Transform):
    """Images brighter or darker, and with more or less contrast, the same for all pixels, cut off at the bounds.

    A pixel x becomes ``middle + (1 + contrast) * (x - middle) + brightness``, with the middle of the bounds.

    Attributes:
        brightness: added or taken away, at most so much, in the units of the inputs.
        contrast: the factor lies between 1 - contrast and 1 + contrast.
        bounds: lowest and highest value of an input: two numbers, or two tensors with one value per channel.

    Raises:
        ThreatError: a limit that is no number, negative or too large, both 0, or bounds that are not finite.
    """

    norm: ClassVar[str] = "photometric"

    brightness: Number = 0.1
    contrast: Number = 0.1
    bounds: Bounds = (0, 1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bounds", _finite(self.bounds))
        super().__post_init__()

    @cached_property
    def limits(self) -> dict[str, float]:
        """``brightness``, in the units of the inputs, and ``contrast`` (0.1: 10 % more)."""
        low, high = _tensors(self.bounds)
        width = float((high - low).max())
        every = {
            "brightness": float(limit("brightness", self.brightness, width)),
            "contrast": float(limit("contrast", self.contrast, 1)),
        }
        return {name: most for name, most in every.items() if most > 0}

    @property
    def text(self) -> str:
        return f"{self.brightness},{self.contrast}"

    def _changed(self, images: Tensor, by: dict[str, Tensor]) -> Tensor:
        low, high = _over(images, self.bounds)
        none = images.new_zeros(len(images))
        brightness, contrast = (by.get(name, none).view(-1, 1, 1, 1) for name in ("brightness", "contrast"))
        # Of the change alone, so that no rounding touches an image that hardly changes.
        changed = images + (contrast * (images - (low + high) / 2) + brightness)
        return torch.minimum(torch.maximum(changed, low), high)


@dataclass(frozen=True, eq=False)
class Negation(Transform):
    """Each image, and its photographic negative: ``low + high - x`` (Hosseini et al., "On the limitation of convolutional
    neural networks in recognizing negative images", ICMLA 2017).

    These two and nothing between them, where every image would be grey: of the parameter, in [0, 1], only 1 is the negative.
    The gradient is that of the straight line between the two.

    Attributes:
        bounds: lowest and highest value of an input: two numbers, or two tensors with one value per channel.

    Raises:
        ThreatError: bounds that are not finite.
    """

    norm: ClassVar[str] = "negation"
    terrain: ClassVar[Terrain] = "single"

    region = staticmethod(_SWITCH.region)
    scaled = staticmethod(_SWITCH.scaled)

    bounds: Bounds = (0, 1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bounds", _finite(self.bounds))
        super().__post_init__()

    @cached_property
    def limits(self) -> dict[str, float]:
        return {"negative": 1.0}

    @property
    def text(self) -> str:
        """``1-x``."""
        low, high = _tensors(self.bounds)
        return f"{low.item() + high.item():g}-x" if low.ndim == high.ndim == 0 else "low+high-x"

    def _changed(self, images: Tensor, by: dict[str, Tensor]) -> Tensor:
        low, high = _over(images, self.bounds)
        share = by["negative"].view(-1, 1, 1, 1)
        negative = low + high - images
        return torch.where(share >= 1, negative, images) + (share - share.detach()) * (negative - images)


def _tensors(bounds: Bounds) -> tuple[Tensor, Tensor]:
    assert bounds is not None, "checked when the threat was made"
    low, high = (torch.as_tensor(bound, dtype=torch.float64, device="cpu") for bound in bounds)
    return low, high


def _over(images: Tensor, bounds: Bounds) -> tuple[Tensor, Tensor]:
    """The bounds so that they broadcast to images."""
    assert bounds is not None, "checked when the threat was made"
    # A number is filled in where the images are: no step of an attack may wait for a transfer.
    low, high = (spread(b, images, "a bound") if isinstance(b, Tensor) else images.new_full((), b) for b in bounds)
    return low, high


def _finite(bounds: Bounds) -> Bounds:
    checked = checked_bounds(bounds)
    if checked is None or not all(bool(bound.isfinite().all()) for bound in _tensors(checked)):
        raise ThreatError("brightness, contrast and negatives need finite bounds: their middle is what images turn about")
    return checked
