"""Balls of a norm, cut by a box: what every lp threat shares."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.budget import Budget, Number
from pytest_robust.errors import ThreatError
from pytest_robust.threats.region import Region, Terrain, precise, rounded
from pytest_robust.threats.summary import ThreatSummary

Bound = float | Tensor
Bounds = tuple[Bound, Bound] | None


class Geometry(Protocol):
    """A norm: every method takes and returns points as (rows, features), one ball per row.

    Results lie in the region up to rounding; ``Ball.seal`` makes that exact.
    """

    name: str

    def start(self, region: Region, u: Tensor, v: Tensor) -> Tensor:
        """A random point of the region from two fields of uniform numbers."""
        ...

    def step(self, x: Tensor, grad: Tensor, size: Tensor, region: Region) -> Tensor:
        """From ``x`` one steepest-ascent step of norm ``size``, (rows, 1), projected on the region."""
        ...

    def project(self, x: Tensor, region: Region) -> Tensor:
        """The nearest point of the region, in the Euclidean distance."""
        ...

    def maximise(self, grad: Tensor, region: Region) -> Tensor:
        """A point of the region at which the linear function ``grad`` is largest."""
        ...

    def distance(self, delta: Tensor) -> Tensor:
        """(rows,) norms."""
        ...


@dataclass(frozen=True, eq=False)
class Ball(ABC):
    """All x' with ``norm(x' - x) <= eps`` inside ``bounds``, in the units of the tensor the user passes.

    Attributes:
        eps: the radius: a number, or a string such as ``"8/255"`` that is kept exact and shown as typed.
        bounds: lowest and highest allowed value: two numbers, two tensors (one value per channel or per feature), or None.
        mask: bool, broadcastable to one input; False where nothing may move. None: everything may.

    Raises:
        ThreatError: eps is no number or negative, or the bounds are no pair with low < high.
    """

    space = "input"
    terrain: ClassVar[Terrain] = "smooth"

    eps: Number | Budget
    bounds: Bounds = (0, 1)
    mask: Tensor | None = None
    budget: Budget = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "budget", Budget.parse(self.eps))
        except ValueError as error:
            raise ThreatError(str(error)) from None
        if self.budget.unit is not None and self.space != "embedding":
            raise ThreatError(
                f"eps {self.budget} is in a unit of token embeddings; it is for EmbeddingBall, not for {self.norm}"
            )
        object.__setattr__(self, "bounds", checked_bounds(self.bounds))

    @property
    @abstractmethod
    def geometry(self) -> Geometry:
        """The norm."""

    @property
    def norm(self) -> str:
        return self.geometry.name

    def with_eps(self, eps: Number | Budget) -> Ball:
        """The same threat with another budget."""
        return replace(self, eps=eps)

    def summary(self) -> ThreatSummary:
        """The threat in plain values, for reports."""
        return ThreatSummary(self.norm, str(self.budget), float(self.budget), self.space, describe_bounds(self.bounds))

    def origin(self, inputs: Tensor) -> Tensor:
        """The inputs themselves."""
        return inputs

    def region(self, origin: Tensor, free: Tensor | None = None) -> Region:
        """Where the points ``origin``, (B, ...), may move.

        Args:
            free: bool, broadcastable to ``origin``: False where nothing may move, in addition to the mask.

        Raises:
            ThreatError: bounds or mask do not fit the shape of one input, or the mask holds other than yes and no.
        """
        exact = precise(origin)
        lower, upper = self._box(exact)
        for movable in (free, self._fitted_mask(origin)):
            if movable is not None:
                lower = torch.where(movable.to(exact.device), lower, exact)
                upper = torch.where(movable.to(exact.device), upper, exact)
        if self.norm == "linf":
            # The ball is a box itself: folded in once, a projection is one clamp.
            lower = torch.maximum(lower, _moved(exact, -self._radius))
            upper = torch.minimum(upper, _moved(exact, self._radius))
        radius = torch.full(self._radius_shape(origin), self._radius, dtype=torch.float64, device=exact.device)
        return Region(origin, rounded(lower, origin), rounded(upper, origin), radius.to(origin.dtype).to(origin.device))

    def scaled(self, region: Region, by: Tensor) -> Region:
        """The regions of budgets ``by`` times as large, (B,), up to rounding: for searches that leave the threat.

        Args:
            by: inf leaves bounds and mask alone.
        """
        radius = region.radius * by.view(-1, *[1] * (region.radius.ndim - 1))
        if self.norm != "linf":
            return replace(region, radius=radius)
        lower, upper = (bound.to(region.origin) for bound in self._box(precise(region.origin)))
        movable = region.upper > region.lower
        reach = replace(region, radius=radius).reach
        lower = torch.where(movable, torch.maximum(lower, region.origin - reach), region.origin)
        upper = torch.where(movable, torch.minimum(upper, region.origin + reach), region.origin)
        return Region(region.origin, lower, upper, radius)

    def start(self, region: Region, keys: Tensor) -> Tensor:
        """A random point of each example's region.

        Args:
            keys: (B,) int64, one per example (see ``keyed``).
        """
        shape = tuple(region.origin.shape[1:])
        u, v = (self._fold(keyed.uniform(keys, shape, stream).to(region.origin.dtype)) for stream in (0, 1))
        return self.geometry.start(region.map(self._fold), u, v).view_as(region.origin)

    def step(self, x: Tensor, grad: Tensor, size: Tensor, region: Region) -> Tensor:
        """From ``x`` one steepest-ascent step, projected on the region.

        Args:
            size: (B,) length of the step, as a share of the radius.
        """
        length = self._fold(size.view(-1, *[1] * (region.radius.ndim - 1)) * region.radius)
        folded = region.map(self._fold)
        return self.geometry.step(self._fold(x), self._fold(grad), length, folded).view_as(x)

    def project(self, x: Tensor, region: Region) -> Tensor:
        """The nearest point of the region, in the Euclidean distance, up to rounding."""
        return self.geometry.project(self._fold(x), region.map(self._fold)).view_as(x)

    def maximise(self, grad: Tensor, region: Region) -> Tensor:
        """The point of the region at which the linear function ``grad`` is largest: exact on a linear model."""
        return self.geometry.maximise(self._fold(grad), region.map(self._fold)).view_as(grad)

    def seal(self, x: Tensor, region: Region) -> Tensor:
        """The point projected in float64 and rounded towards the origin, so that it lies in the region exactly."""
        exact = region.map(precise)
        # A hair inside, so that the rounding of the float64 norm itself cannot put the point outside.
        radius = torch.full_like(exact.radius, self._radius * (1 - 1e-12))
        exact = replace(exact, radius=radius if self.norm != "l0" else exact.radius)
        point = self.project(precise(x), exact)
        if x.dtype == torch.float64 and self.norm in ("l2", "l1"):
            # There is no finer type to round from: one step inwards covers what origin + delta rounded up.
            point = torch.nextafter(point, exact.origin)
        return rounded(point, region.origin)

    def contains(self, x: Tensor, region: Region) -> Tensor:
        """(B,) bool: inside the box and the ball, judged in float64, for each example by itself."""
        point, exact = precise(x), region.map(precise)
        inside = ((point >= exact.lower) & (point <= exact.upper)).flatten(1).all(1)
        return inside.to(x.device) & (self.distance(x, region) <= self._radius).to(x.device)

    def distance(self, x: Tensor, region: Region) -> Tensor:
        """(B,) float64: how far from the origin each point is, in the norm; of a ball per token, the farthest token."""
        moved = self._fold(precise(x) - precise(region.origin))
        return self.geometry.distance(moved).view(region.radius.shape).flatten(1).amax(1)

    def _box(self, origin: Tensor) -> tuple[Tensor, Tensor]:
        """The bounds of each feature, moved where the origin itself is beyond them."""
        low, high = (-math.inf, math.inf) if self.bounds is None else self.bounds
        lower = torch.minimum(origin, spread(low, origin, "the lower bound").expand_as(origin))
        upper = torch.maximum(origin, spread(high, origin, "the upper bound").expand_as(origin))
        return lower, upper

    def _fold(self, tensor: Tensor) -> Tensor:
        """(B, ...) as (rows, features)."""
        return tensor.flatten(1)

    def _radius_shape(self, origin: Tensor) -> tuple[int, ...]:
        return (origin.shape[0], 1)

    @property
    def _radius(self) -> float:
        """The largest float64 that is not above eps."""
        value = float(self.budget)
        return math.nextafter(value, 0) if self.budget.value < Fraction(value) else value

    def _fitted_mask(self, origin: Tensor) -> Tensor | None:
        if self.mask is None:
            return None
        mask = torch.as_tensor(self.mask)
        if not bool((mask == mask.bool()).all()):
            raise ThreatError("a mask holds True and False, or 1 and 0: what may move and what may not; weights are no mask")
        try:
            return mask.bool().to(origin.device).expand(origin.shape[1:])
        except RuntimeError:
            raise ThreatError(
                f"the mask has shape {tuple(self.mask.shape)}, one input has {tuple(origin.shape[1:])}: "
                "give a mask of that shape, or one that broadcasts to it"
            ) from None


def _moved(origin: Tensor, by: float) -> Tensor:
    """origin + by in float64, rounded towards the origin (the rounding error is that of Knuth's two-sum)."""
    moved = origin + by
    part = moved - origin
    error = (origin - (moved - part)) + (by - part)
    farther = error * by < 0  # the exact sum lies nearer than the rounded one
    return torch.where(farther, torch.nextafter(moved, origin), moved)


def checked_bounds(bounds: Bounds) -> Bounds:
    if bounds is None:
        return None
    try:
        low, high = (torch.as_tensor(b, dtype=torch.float64, device="cpu") for b in bounds)
        fine = bool((low < high).all())
    except (TypeError, ValueError, RuntimeError):
        fine = False
    if not fine:
        raise ThreatError(f"bounds must be None or a pair (low, high) with low < high, got {bounds!r}")
    return tuple(b.item() if b.ndim == 0 else b for b in (low, high))  # type: ignore[return-value]


def spread(bound: Bound, origin: Tensor, what: str) -> Tensor:
    """A bound as a tensor that broadcasts to (B, ...): a number, one value per channel, or one per feature."""
    value = torch.as_tensor(bound, dtype=origin.dtype).to(origin.device)
    one = tuple(origin.shape[1:])
    if value.ndim == 0 or value.shape == one:
        return value
    if value.ndim == 1 and len(one) > 1 and value.shape[0] == one[0]:
        return value.view(-1, *[1] * (len(one) - 1))
    try:
        return value.expand(one)
    except RuntimeError:
        raise ThreatError(
            f"{what} has shape {tuple(value.shape)}, one input has {one}: give a number, one value per channel "
            f"({one[0] if one else 1}), or one per feature"
        ) from None


def describe_bounds(bounds: Bounds) -> str:
    """``[0, 1]``, ``per feature`` or ``unbounded``."""
    if bounds is None:
        return "unbounded"
    low, high = bounds
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        low, high = (torch.as_tensor(b).double() for b in bounds)
        return f"[{low.min().item():g}, {high.max().item():g}], per feature"
    return f"[{low:g}, {high:g}]"
