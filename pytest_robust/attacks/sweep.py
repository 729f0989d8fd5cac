"""Search of a region of few dimensions: all over it first, then around the best points. No gradient."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.attacks.live import Live
from pytest_robust.attacks.queries import Queries
from pytest_robust.errors import ThreatError
from pytest_robust.threats import Threat

_MOST = 8
"""More numbers than that are not few: no affordable count of queries covers them."""
_COVER = 0.5
"""Share of the queries that cover the region; the rest look around the best points."""
_KEPT = 4
"""How many of the best points are looked around, in turn: on rugged losses that misses half as much as one does."""
_FINEST = 0.05
"""How far from them the last queries are, as a share of the distance between those that cover the region."""


@dataclass(frozen=True)
class Sweep(Queries):
    """Where a point has only a few numbers, such as the parameters of a transform, they can be searched outright. That finds
    what gradients miss: over rotations and shifts the loss has many maxima, and a grid beats gradients by far (Engstrom et
    al., "Exploring the landscape of spatial robustness", ICML 2019).

    First every combination of the ends and the middle, then points that fill the region evenly (Kronecker sequence, shifted
    at random for each example: Cranley and Patterson, 1976), then random points around the best of these, nearer and nearer.

    Attributes: see ``Queries``.
    """

    n_steps: int = 400
    label: str = "sweep"

    def begin(self, threat: Threat, live: Live) -> None:
        """Raises ThreatError where a point has too many numbers to sweep them."""
        numbers = live.x[0].numel()
        if numbers > _MOST:
            raise ThreatError(
                f"{self.name} searches threats of at most {_MOST} numbers, such as Spatial, and a point of {threat.norm} "
                f"{threat.budget} has {numbers}; use 'square' for a search without gradients"
            )
        live.x = self._covering(threat, live, torch.zeros_like(live.step))
        lowest = torch.full((len(live), _KEPT), -torch.inf, device=live.x.device, dtype=live.x.dtype)
        live.state = {"best": live.x.flatten(1).unsqueeze(1).repeat(1, _KEPT, 1), "best_loss": lowest}

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        best, best_loss = live.state["best"], live.state["best_loss"]
        place = torch.where(live.step < self._covers, best_loss.argmin(1), self._turn(live.step)).unsqueeze(1)
        better = loss.to(best_loss.dtype).unsqueeze(1) > best_loss
        better &= torch.arange(_KEPT, device=place.device) == place
        live.state["best"] = torch.where(better.unsqueeze(2), live.x.flatten(1).unsqueeze(1), best)
        live.state["best_loss"] = torch.where(better, loss.to(best_loss.dtype).unsqueeze(1), best_loss)
        number = live.step + 1
        covering = live.rows(number < self._covers)
        live.x = torch.where(covering, self._covering(threat, live, number), self._near(threat, live, number))

    def _turn(self, number: Tensor) -> Tensor:
        """Which of the best points the ``number``-th query looks around."""
        return (number - self._covers) % _KEPT

    @property
    def _covers(self) -> int:
        """How many queries cover the region."""
        return max(1, round(_COVER * self.n_steps))

    def _covering(self, threat: Threat, live: Live, number: Tensor) -> Tensor:
        """The ``number``-th point, (S,) from 0, of those all over the region."""
        origin = live.x.flatten(1)
        lower, upper = _box(live)
        powers, strides = _sequence(origin.shape[1], origin.device)
        digits = (number.unsqueeze(1) + 1) // powers % 3
        ends = torch.where(digits == 1, upper, torch.where(digits == 2, lower, live.region.origin.flatten(1)))
        # In whole numbers, multiples of 2**-24, so that every device has the same points.
        shift = (keyed.uniform(live.key, (origin.shape[1],)) * 2**24).long()
        place = (shift + number.unsqueeze(1) * strides) % 2**24
        filling = torch.lerp(lower, upper, place.to(origin.dtype) / (2**24 - 1))
        combinations = min(3 ** origin.shape[1] - 1, self._covers)
        points = torch.where(number.unsqueeze(1) < combinations, ends, filling)
        return threat.project(points.view_as(live.x), live.region)

    def _near(self, threat: Threat, live: Live, number: Tensor) -> Tensor:
        """A random point around one of the best, the nearer the later."""
        lower, upper = _box(live)
        spacing = self._covers ** (-1 / lower.shape[1])
        progress = ((number - self._covers) / max(1, self.n_steps - self._covers)).clamp(0, 1)
        size = (spacing * _FINEST**progress).to(lower.dtype).unsqueeze(1)
        random = keyed.uniform(keyed.child(live.key, number), tuple(lower.shape[1:])) - 0.5
        turn = self._turn(number).view(-1, 1, 1).expand(-1, 1, lower.shape[1])
        moved = live.state["best"].gather(1, turn).squeeze(1) + size * (upper - lower) * random.to(lower.dtype)
        return threat.project(moved.view_as(live.x), live.region)


def _box(live: Live) -> tuple[Tensor, Tensor]:
    """(S, P) the ends of each number; where the region's box is without limit, those of its ball."""
    region = live.region
    lower = torch.where(region.lower.isfinite(), region.lower, region.origin - region.reach)
    upper = torch.where(region.upper.isfinite(), region.upper, region.origin + region.reach)
    return lower.flatten(1), upper.flatten(1)


@lru_cache(maxsize=8)
def _sequence(numbers: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Powers of 3, and the strides of the Kronecker sequence, (P,) int64 each; strides in units of 2**-24.

    With the root g > 1 of g^(P+1) = g + 1, the strides 1/g, 1/g^2, ... fill P dimensions evenly; for P = 1 it is the golden
    ratio.
    """
    g = 2.0
    for _ in range(64):
        g = (1 + g) ** (1 / (numbers + 1))
    strides = [round(g ** -(i + 1) * 2**24) | 1 for i in range(numbers)]
    return torch.tensor([3**i for i in range(numbers)], device=device), torch.tensor(strides, device=device)
