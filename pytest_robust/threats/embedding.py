"""Balls around token embeddings: text models attacked in the space where gradients exist."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from pytest_robust.errors import ThreatError
from pytest_robust.threats.ball import Ball, Bounds, Geometry
from pytest_robust.threats.l2 import L2Geometry
from pytest_robust.threats.linf import LinfGeometry
from pytest_robust.threats.summary import ThreatSummary

_GEOMETRIES: dict[str, Geometry] = {"linf": LinfGeometry(), "l2": L2Geometry()}


@dataclass(frozen=True, eq=False)
class EmbeddingBall(Ball):
    """All token embeddings within ``eps`` of the text's, padding and special tokens fixed.

    Attributes:
        eps: the radius: a number in the units of the model's embeddings; or, measured on the model when it is evaluated,
            ``"2%norm"``: 2 % of the median norm of its tokens' embeddings; ``"0.5nn"``: half of the radius within which the
            median token stays nearest to itself, which is half its distance to the nearest other one; ``"typo:1"``: the
            radius at which moved vectors do as much as the worst of ten samples of one random typing error per text.
        norm: ``"l2"`` or ``"linf"``.
        per: ``"token"``: each token's vector has the radius to itself (Zhu et al., FreeLB, ICLR 2020, bound the whole
            sequence instead); ``"sequence"``: all tokens of a text share it.
        earlier: what this budget was once measured as, for a baseline, and is to stay while the model's scale does.

    Raises:
        ThreatError: eps is no number or negative, or no such norm or ``per``.
    """

    space = "embedding"

    bounds: Bounds = field(default=None, init=False)
    mask: Tensor | None = field(default=None, init=False)
    norm: str = "l2"
    per: Literal["token", "sequence"] = "token"
    earlier: ThreatSummary | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm not in _GEOMETRIES:
            raise ThreatError(f"an embedding ball has norm 'l2' or 'linf', got {self.norm!r}")
        if self.per not in ("token", "sequence"):
            raise ThreatError(f"an embedding ball is per 'token' or per 'sequence', got {self.per!r}")

    def measured(self, radius: float) -> EmbeddingBall:
        """The same ball with the radius that a model makes of its budget, shown as typed."""
        return replace(self, eps=self.budget.measured(radius), earlier=None)

    def summary(self) -> ThreatSummary:
        return replace(super().summary(), eps=self.budget.shown)

    @property
    def geometry(self) -> Geometry:
        return _GEOMETRIES[self.norm]

    def per_coordinate(self, features: int, tokens: int) -> float:
        """The change of each coordinate when the budget is spent evenly.

        Args:
            features: coordinates of a token. tokens: those of a text that may move.
        """
        together = features * (tokens if self.per == "sequence" else 1)
        return self._radius if self.norm == "linf" else self._radius / together**0.5

    @property
    def _radius(self) -> float:
        if self.budget.unit is not None:
            raise ThreatError(
                f"eps {self.budget} has no size without a model; evaluate() measures it on the one it is given"
            )
        return super()._radius

    def _fold(self, tensor: Tensor) -> Tensor:
        return tensor.flatten(0, 1) if self.per == "token" else tensor.flatten(1)

    def _radius_shape(self, origin: Tensor) -> tuple[int, ...]:
        batch, tokens = origin.shape[:2]
        return (batch, tokens, 1) if self.per == "token" else (batch, 1)
