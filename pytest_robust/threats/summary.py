"""A threat in plain values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ThreatSummary:
    """The threat as reports show it: plain values only."""

    norm: str
    eps: str
    value: float
    space: str
    bounds: str

    def __str__(self) -> str:
        return f"{self.norm} {self.eps}"
