"""A threat in plain values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ThreatSummary:
    """The threat as reports show it: plain values only.

    Attributes:
        scale: where eps was measured on the model, in whose units it was typed: the median norm of its tokens' embeddings.
    """

    norm: str
    eps: str
    value: float
    space: str
    bounds: str
    scale: float | None = None

    def __str__(self) -> str:
        return f"{self.norm} {self.eps}"
