"""What a running evaluation tells about itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a check is.

    Attributes:
        name: the check. attack: the attack that is running.
        decided, total: examples with a final outcome, and all. accuracy: robust accuracy so far, an upper bound.
    """

    name: str
    attack: str
    decided: int
    total: int
    accuracy: float


Report = Callable[[Progress], None]
