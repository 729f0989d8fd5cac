"""Balls around token embeddings: text models attacked in the space where gradients exist."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from pytest_robust.errors import ThreatError
from pytest_robust.threats.ball import Ball, Bounds, Geometry
from pytest_robust.threats.l2 import L2Geometry
from pytest_robust.threats.linf import LinfGeometry

_GEOMETRIES: dict[str, Geometry] = {"linf": LinfGeometry(), "l2": L2Geometry()}


@dataclass(frozen=True, eq=False)
class EmbeddingBall(Ball):
    """All token embeddings within ``eps`` of the text's, padding and special tokens fixed.

    Attributes:
        eps: the radius, in the units of the model's embeddings.
        norm: ``"l2"`` or ``"linf"``.
        per: ``"token"``: each token's vector has the radius to itself (Zhu et al., FreeLB, ICLR 2020, bound the whole
            sequence instead); ``"sequence"``: all tokens of a text share it.

    Raises:
        ThreatError: eps is no number or negative, or no such norm or ``per``.
    """

    space = "embedding"

    bounds: Bounds = field(default=None, init=False)
    mask: Tensor | None = field(default=None, init=False)
    norm: str = "l2"
    per: Literal["token", "sequence"] = "token"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm not in _GEOMETRIES:
            raise ThreatError(f"an embedding ball has norm 'l2' or 'linf', got {self.norm!r}")
        if self.per not in ("token", "sequence"):
            raise ThreatError(f"an embedding ball is per 'token' or per 'sequence', got {self.per!r}")

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

    def _fold(self, tensor: Tensor) -> Tensor:
        return tensor.flatten(0, 1) if self.per == "token" else tensor.flatten(1)

    def _radius_shape(self, origin: Tensor) -> tuple[int, ...]:
        batch, tokens = origin.shape[:2]
        return (batch, tokens, 1) if self.per == "token" else (batch, 1)
