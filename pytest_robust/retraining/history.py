"""What a training tells about itself, while it runs and afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """One measurement on the validation examples, of the average weights.

    Attributes:
        step: updates so far. passes: forward and backward, one per example, so far. clean, robust: of ``n`` examples, those
            right without attack, and those right under PGD as well. loss: mean of the training since the look before.
        seconds: of training so far.
    """

    step: int
    passes: int
    clean: int
    robust: int
    n: int
    loss: float
    seconds: float


@dataclass(frozen=True)
class Event:
    """Something that changed the course of a training: at which step, and what, in words."""

    step: int
    what: str


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training is.

    Attributes:
        step, steps: updates so far and planned. epoch: from 0. clean, robust: accuracies of the last look, None before it.
        seconds_left: at the pace so far.
    """

    step: int
    steps: int
    epoch: int
    clean: float | None
    robust: float | None
    seconds_left: float


Report = Callable[[TrainingProgress], None]
