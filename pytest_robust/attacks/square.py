"""Random search: no gradient, one forward pass a step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.attacks.live import Live
from pytest_robust.attacks.queries import Queries
from pytest_robust.threats import Threat

_FIRST_SHARE = 0.8
"""Share of the features that the first proposals change (p in the paper)."""
_HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Shares of the steps after which the share of changed features is halved, as in the paper."""
_ACROSS = 2.0
"""Length of a proposal's step in radii: under Linf from any point to the far side of the ball."""


@dataclass(frozen=True)
class Square(Queries):
    """Square attack (Andriushchenko et al., ECCV 2020, algorithms 1 and 2): random squares, kept when the loss rises.

    Under Linf this is the paper's: vertical stripes to begin with, then squares at a random place, each channel moved to
    one side of the ball. Other norms take their own steepest step along the same random direction, projected on the
    region. Inputs without height and width have random features in place of a square.

    Attributes: see ``Queries``.
    """

    label: str = "square"

    def begin(self, threat: Threat, live: Live) -> None:
        live.x = threat.step(live.region.origin, _stripes(live), _full(live), live.region)
        lowest = torch.full((len(live),), -torch.inf, device=live.x.device, dtype=live.x.dtype)
        live.state = {"best": live.x, "best_loss": lowest}

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        state = live.state
        better = loss > state["best_loss"]
        state["best"] = torch.where(live.rows(better), live.x, state["best"])
        state["best_loss"] = torch.where(better, loss.to(live.x.dtype), state["best_loss"])
        live.x = threat.step(state["best"], self._proposal(live), _ACROSS * _full(live), live.region)

    def _proposal(self, live: Live) -> Tensor:
        """A random direction: up or down inside a square, the same within a channel; 0 outside."""
        key = keyed.child(live.key, live.step)
        shape = tuple(live.x.shape[1:])
        share = _FIRST_SHARE * 0.5 ** (live.step.unsqueeze(1) >= _halvings(self.n_steps, key.device)).sum(1)
        if len(shape) != 3:
            chosen = keyed.uniform(key, shape) < live.rows(share)
            return torch.where(chosen, _signs(key, shape) * _weights(key, shape), 0.0).to(live.x.dtype)
        channels, height, width = shape
        side = (share * height * width).sqrt().round().clamp(1, min(height, width))
        place = keyed.uniform(key, (2,))
        top, left = ((place[:, i] * (size - side + 1)).floor() for i, size in enumerate((height, width)))
        rows, columns = (torch.arange(size, device=key.device) for size in (height, width))
        inside = _between(rows, top, side).unsqueeze(2) & _between(columns, left, side).unsqueeze(1)
        return (inside.unsqueeze(1) * _signs(key, (channels, 1, 1)) * _weights(key, shape)).to(live.x.dtype)


@lru_cache(maxsize=8)
def _halvings(n_steps: int, device: torch.device) -> Tensor:
    """The steps at which the share is halved: whole numbers, so that no device rounds them otherwise."""
    return torch.tensor([math.ceil(share * n_steps) for share in _HALVINGS], device=device)


def _stripes(live: Live) -> Tensor:
    """The first proposal: every column of an image, or every feature, up or down."""
    shape = tuple(live.x.shape[1:])
    stripes = _signs(live.key, (shape[0], 1, shape[2]) if len(shape) == 3 else shape)
    return (stripes * _weights(live.key, shape)).to(live.x.dtype)


def _signs(key: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.where(keyed.uniform(key, shape, stream=1) < 0.5, -1.0, 1.0)


def _weights(key: Tensor, shape: tuple[int, ...]) -> Tensor:
    """In [0.5, 1.5): without them the steps of L0 and L1, which go to the largest features, would go to the first ones."""
    return 0.5 + keyed.uniform(key, shape, stream=2)


def _between(places: Tensor, first: Tensor, count: Tensor) -> Tensor:
    """(S, places) bool: ``count`` places from ``first`` on."""
    return (places >= first.unsqueeze(1)) & (places < (first + count).unsqueeze(1))


def _full(live: Live) -> Tensor:
    return torch.ones(len(live), device=live.x.device, dtype=live.x.dtype)
