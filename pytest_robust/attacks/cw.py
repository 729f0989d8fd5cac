"""Carlini and Wagner's attack: Adam on distance and margin."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_robust.attacks.checks import checked_counts, checked_loss
from pytest_robust.attacks.live import Live
from pytest_robust.attacks.nearest import extent, weight
from pytest_robust.attacks.pgd import started
from pytest_robust.attacks.protocol import BaseAttack
from pytest_robust.threats import Threat

_KEEP, _KEEP_SQUARE = 0.9, 0.999
"""Decay of Adam's two averages (beta_1 and beta_2; Kingma and Ba, ICLR 2015)."""
_EDGE = 0.99
"""Nearest that a start comes to the edge of its cube, as a share of its half side: at the edge nothing moves any more."""


@dataclass(frozen=True)
class CW(BaseAttack):
    """Carlini and Wagner's attack (S&P 2017, section VI): Adam on ``|x - origin|^2 - weight * margin``.

    The variable w makes a point of a cube, ``middle + half * tanh(w)``: the bounds, and a radius to every side. The model is
    asked at that point's projection on the region.

    Attributes:
        loss: ``"margin"``, or with ``n_targets`` ``"margin-t"``; any other loss works, too.
        n_steps: gradient steps per run. n_restarts: runs; the first starts at the clean point.
        weight: of the loss at the beginning of a run; in the end it is a hundred times as much.
        rate: length of a first step, as a share of the region's size.
        n_targets: drive towards so many of the most promising other classes, in turn. 0: no target.
    """

    loss: str = "margin"
    n_steps: int = 200
    n_restarts: int = 1
    weight: float = 0.5
    rate: float = 0.2
    n_targets: int = 0

    name = "cw"

    def __post_init__(self) -> None:
        checked_counts(n_steps=self.n_steps, n_restarts=self.n_restarts)
        checked_loss(self.loss, targeted=self.n_targets > 0)

    def begin(self, threat: Threat, live: Live) -> None:
        live.x = started(threat, live, always=False)
        middle, half = _cube(live)
        place = (live.x - middle) / torch.where(half > 0, half, 1.0)
        zeros = torch.zeros_like(live.x)
        live.state = {
            "w": place.clamp(-_EDGE, _EDGE).atanh(),
            "mean": zeros,
            "square": zeros,
            "extent": torch.ones_like(live.closest, dtype=live.x.dtype),
        }

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        state, rows, region = live.state, live.rows, live.region
        state["extent"] = torch.where(live.step == 0, extent(threat, live, grad), state["extent"])
        middle, half = _cube(live)
        bent = state["w"].tanh()
        away = 2 * (middle + half * bent - region.origin) / rows(state["extent"].square())
        slope = (
            (away - rows(weight(self.weight, live.step / self.n_steps).to(grad.dtype)) * grad) * half * (1 - bent.square())
        )
        # In units of one size for all features, so that Adam's tiny constant means the same under every scale.
        slope = slope * rows(state["extent"]) / torch.where(half > 0, half, 1.0)
        state["mean"] = _KEEP * state["mean"] + (1 - _KEEP) * slope
        state["square"] = _KEEP_SQUARE * state["square"] + (1 - _KEEP_SQUARE) * slope.square()
        taken = rows((live.step + 1).to(slope.dtype))
        mean, square = state["mean"] / (1 - _KEEP**taken), state["square"] / (1 - _KEEP_SQUARE**taken)
        rate = self.rate * (rows(_per_feature(live)) / torch.where(half > 0, half, 1.0)).clamp_max(1.0)
        state["w"] = state["w"] - rate * mean / (square.sqrt() + 1e-12)
        live.x = threat.project(middle + half * state["w"].tanh(), region)


def _cube(live: Live) -> tuple[Tensor, Tensor]:
    """Middle and half side of the bounds cut by one radius to every side."""
    region = live.region
    lower = torch.maximum(region.lower, region.origin - region.reach)
    upper = torch.minimum(region.upper, region.origin + region.reach)
    return (lower + upper) / 2, (upper - lower) / 2


def _per_feature(live: Live) -> Tensor:
    """(S,) the region's size divided evenly among the features that may move."""
    movable = (live.region.upper > live.region.lower).flatten(1).sum(1).clamp_min(1)
    size: Tensor = live.state["extent"] / movable.sqrt()
    return size
