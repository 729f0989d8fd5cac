"""Transforms of images by a few parameters: what moves is the row of parameters, not the pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from pytest_robust.budget import Budget, Number, exact
from pytest_robust.errors import ThreatError
from pytest_robust.threats.ball import describe_bounds
from pytest_robust.threats.linf import Linf
from pytest_robust.threats.region import Terrain
from pytest_robust.threats.summary import ThreatSummary

_BOX = Linf(1, bounds=(-1, 1))


@dataclass(frozen=True, eq=False)
class Transform(ABC):
    """Images under a transform of a few parameters, each between the limits that the user gives it.

    A point is a row of parameters, (B, P) in [-1, 1]: 0 for the image as it is, 1 and -1 for the limits. So every attack
    that can move a point in a box can search it. ``apply`` makes images of points, ``amounts`` says what they mean.

    Images are (B, C, H, W).
    """

    space: ClassVar[str] = "transform"
    norm: ClassVar[str]
    terrain: ClassVar[Terrain] = "few"

    # To attacks, the parameters are the Linf ball around no change.
    region = staticmethod(_BOX.region)
    scaled = staticmethod(_BOX.scaled)
    start = staticmethod(_BOX.start)
    step = staticmethod(_BOX.step)
    project = staticmethod(_BOX.project)
    maximise = staticmethod(_BOX.maximise)
    seal = staticmethod(_BOX.seal)
    contains = staticmethod(_BOX.contains)
    distance = staticmethod(_BOX.distance)

    def __post_init__(self) -> None:
        if not self.limits:
            raise ThreatError(f"{self.norm} {self.text} allows no change; give at least one limit above 0")

    @cached_property
    @abstractmethod
    def limits(self) -> dict[str, float]:
        """What each parameter is at most, in its own unit, by name, in their order in a point; those that may move."""

    @property
    @abstractmethod
    def text(self) -> str:
        """The limits as the user typed them, for reports."""

    @abstractmethod
    def _changed(self, images: Tensor, by: dict[str, Tensor]) -> Tensor:
        """(B, C, H, W) images, each changed by its amounts, (B,) each."""

    @property
    def budget(self) -> Budget:
        """1, the whole way to the limits; shown as these."""
        return Budget(Fraction(1), self.text)

    def summary(self) -> ThreatSummary:
        """The threat in plain values, for reports."""
        return ThreatSummary(self.norm, self.text, 1.0, self.space, describe_bounds(getattr(self, "bounds", None)))

    def with_eps(self, eps: Number | Budget) -> Transform:
        """Raises ThreatError: a transform has limits of its own in place of an eps."""
        raise ThreatError(
            f"{self.norm} {self.text} has no eps to set to {eps}; make a {type(self).__name__} for each set of limits"
        )

    def origin(self, inputs: Tensor) -> Tensor:
        """(B, P) zeros: the parameters of no change.

        Raises:
            ThreatError: inputs that are not (B, C, H, W).
        """
        if inputs.ndim != 4:
            raise ThreatError(
                f"{self.norm} {self.text} transforms images of shape (channels, height, width), and one input has shape "
                f"{tuple(inputs.shape[1:])}; reshape the data, and flatten it inside the model"
            )
        return inputs.new_zeros(len(inputs), len(self.limits))

    def amounts(self, params: Tensor) -> dict[str, Tensor]:
        """What parameters (B, P), or (P,), mean: by name, in the units of the limits."""
        return {name: limit * params[..., i] for i, (name, limit) in enumerate(self.limits.items())}

    def apply(self, images: Tensor, params: Tensor) -> Tensor:
        """Images transformed, differentiable in the parameters; parameters of 0 give back the image itself, bit by bit.

        Args:
            images: (B, C, H, W), or one image (C, H, W). params: (B, P), or (P,), in [-1, 1], as
                ``Evaluation.adversarial`` gives them.
        """
        if images.ndim == 3:
            return self.apply(images.unsqueeze(0), params.unsqueeze(0)).squeeze(0)
        changed = self._changed(images, self.amounts(params))
        unmoved = (params == 0).all(1).view(-1, 1, 1, 1)
        # The value of the image and the gradient of the transform.
        return torch.where(unmoved, images + (changed - changed.detach()), changed)


def limit(what: str, value: Number, most: float) -> Budget:
    """A limit as typed.

    Raises:
        ThreatError: no number, or outside [0, most].
    """
    try:
        number = exact(value)
    except ValueError as error:
        raise ThreatError(f"{what}: {error}") from None
    if not 0 <= number <= most:
        raise ThreatError(f"{what} lies between 0 and {most:g}, got {value!r}")
    return Budget(number, str(value).strip().replace(" ", ""))
