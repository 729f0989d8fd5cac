"""What a training tells about itself, while it runs and afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from pytest_robust.retraining.weights import State


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


@dataclass
class Course:
    """Where a training is; with the weights and the optimizer, all that it needs to go on.

    Attributes:
        step: updates so far. epoch, position: the epoch, and batches of it that are done. returns: after collapses.
        seconds: of training so far. done: it is over. late: because time was. lr: what returns have made of the learning
            rate, a factor.
        best: the average weights of the best look, by name; best_look: its place in ``looks``.
        looks, events: so far.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    returns: int = 0
    seconds: float = 0.0
    done: bool = False
    late: bool = False
    lr: float = 1.0
    best: State = field(default_factory=dict)
    best_look: int = 0
    looks: list[Look] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """As mappings, lists and tensors."""
        return vars(self) | {"looks": list(map(asdict, self.looks)), "events": list(map(asdict, self.events))}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Course:
        """What ``plain`` made."""
        looks, events = ([kind(**part) for part in plain[name]] for kind, name in ((Look, "looks"), (Event, "events")))
        return cls(**plain | {"looks": looks, "events": events})


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
