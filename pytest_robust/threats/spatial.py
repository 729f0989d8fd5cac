"""Rotations, shifts and zooms of images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from pytest_robust.budget import Number
from pytest_robust.errors import ThreatError
from pytest_robust.threats.transform import Transform, limit

_PADDINGS = ("zeros", "border", "reflection")


@dataclass(frozen=True, eq=False)
class Spatial(Transform):
    """Images rotated about their centre, then shifted (Engstrom et al., "Exploring the landscape of spatial robustness",
    ICML 2019), and zoomed if wanted; by bilinear interpolation, in one step.

    Attributes:
        degrees: rotation, at most so far either way. shift: up to this share of the width and of the height, either way.
        scale: zoom, between 1 - scale and 1 + scale.
        padding: what comes in from outside: ``"zeros"`` (black, as in the paper), ``"border"`` (the nearest pixel) or
            ``"reflection"``.

    Raises:
        ThreatError: a limit that is no number, negative or too large, all of them 0, or no such padding.
    """

    norm: ClassVar[str] = "spatial"

    degrees: Number = 30
    shift: Number = 0.1
    scale: Number = 0
    padding: Literal["zeros", "border", "reflection"] = "zeros"

    def __post_init__(self) -> None:
        if self.padding not in _PADDINGS:
            raise ThreatError(f"padding is one of {', '.join(map(repr, _PADDINGS))}, got {self.padding!r}")
        super().__post_init__()

    @cached_property
    def limits(self) -> dict[str, float]:
        """``degrees`` (counter-clockwise), ``right`` and ``down`` (shares of width and height), ``zoom`` (0.1: by 10 %)."""
        degrees, shift, scale = (
            float(limit(what, value, most))
            for what, value, most in (
                ("degrees", self.degrees, 180),
                ("shift", self.shift, 1),
                ("scale", self.scale, 0.99),
            )
        )
        every = {"degrees": degrees, "right": shift, "down": shift, "zoom": scale}
        return {name: most for name, most in every.items() if most > 0}

    @property
    def text(self) -> str:
        """``30deg,0.1``, and the zoom and the padding where they are not the usual ones."""
        more = [str(self.scale)] if "zoom" in self.limits else []
        return ",".join([f"{self.degrees}deg", str(self.shift), *more, *([self.padding] if self.padding != "zeros" else [])])

    def _changed(self, images: Tensor, by: dict[str, Tensor]) -> Tensor:
        height, width = images.shape[-2:]
        none = images.new_zeros(len(images))
        angle = torch.deg2rad(by.get("degrees", none)).view(-1, 1, 1)
        right, down, zoom = (by.get(name, none).view(-1, 1, 1) for name in ("right", "down", "zoom"))
        # Where each pixel of the result comes from, in pixels from the centre, down being positive. Elementwise, and not by
        # ``affine_grid``: a matrix product may round by the size of the batch.
        x, y = (torch.arange(n, device=images.device, dtype=images.dtype) - (n - 1) / 2 for n in (width, height))
        x, y = x.view(1, 1, -1) - right * width, y.view(1, -1, 1) - down * height
        cos, sin = angle.cos() / (1 + zoom), angle.sin() / (1 + zoom)
        grid = torch.stack([(cos * x - sin * y) * (2 / width), (sin * x + cos * y) * (2 / height)], dim=-1)
        return functional.grid_sample(images, grid, "bilinear", self.padding, align_corners=False)
