"""How large a model's token embeddings are, and how far apart: what budgets of text are measured in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_robust.models.embedded_text import EmbeddedText

_CHUNK, _ASKED = 4096, 256
"""Embeddings at a time, and tokens whose nearest other one is looked for."""
_ORDER = {"l2": 2.0, "linf": torch.inf}


@dataclass(frozen=True)
class Units:
    """The sizes of a model's ordinary token embeddings, as the model consumes them, in the norm of an embedding ball.

    Ordinary: in the vocabulary, not special, and not named unused.

    Attributes:
        model: its name. norm: ``"l2"`` or ``"linf"``. tokens: how many there are. features: coordinates of each.
        median: of their norms. length: of their l2 norms.
        near, nearest: 5 % and one half of them have their nearest other token at most so far away.
    """

    model: str
    norm: str
    tokens: int
    features: int
    median: float
    length: float
    near: float
    nearest: float

    def __str__(self) -> str:
        """The card."""
        return (
            f"units of {self.model}, {self.norm}, {self.tokens:,} ordinary tokens of {self.features} features:\n"
            f"  median norm of a token      {self.median:.4g}   1%norm is {self.median / 100:.4g}\n"
            f"  nearest other token         {self.nearest:.4g} (median), {self.near:.4g} (5 % are nearer)\n"
            f"  1nn, half of that median    {self.nearest / 2:.4g}   below it the median token decodes to itself\n"
            f"  8/255, a budget of pixels   {self.of_pixels(8 / 255)}"
        )

    def of_pixels(self, eps: float) -> str:
        """What a budget of pixels comes to here, spent on every coordinate in a linf ball."""
        spent = eps * self.features**0.5 if self.norm == "linf" else eps
        return f"{100 * spent / self.length:.2g}% of a token norm, {2 * eps / self.nearest:.2g}nn"


def median_norm(model: EmbeddedText, norm: str) -> float:
    """The median norm of ordinary tokens' embeddings."""
    norms = [chunk.norm(_ORDER[norm], dim=1) for _, chunk in _chunks(model)]
    return float(torch.cat(norms).median())


def to_nearest(model: EmbeddedText, norm: str) -> Tensor:
    """(Q,) distances to the nearest other token, of a few ordinary tokens from all over the vocabulary."""
    ids = model.ordinary()
    asked = ids[torch.linspace(0, len(ids) - 1, min(_ASKED, len(ids))).round().long().to(ids.device)]
    return nearest(model, _exact(model.embedded(asked)), norm, but=asked)[0]


def nearest(model: EmbeddedText, points: Tensor, norm: str, but: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The ordinary token nearest to each of these points: (Q,) distances, and ids.

    Args:
        points: (Q, D) float64. but: (Q,) for each a token that does not count.
    """
    least = points.new_full((len(points),), torch.inf)
    found = torch.full((len(points),), -1, device=points.device)
    for ids, chunk in _chunks(model):
        distances = torch.cdist(points, chunk, _ORDER[norm])
        if but is not None:
            distances = distances.masked_fill(but.to(ids.device).unsqueeze(1) == ids, torch.inf)
        closest, at = distances.min(1)
        nearer = closest < least
        least, found = torch.where(nearer, closest, least), torch.where(nearer, ids[at], found)
    return least, found


def units_of(model: EmbeddedText, norm: str) -> Units:
    """The units of a model."""
    near = to_nearest(model, norm)
    ids = model.ordinary()
    return Units(
        model.name,
        norm,
        tokens=len(ids),
        features=model.embedded(ids[:1]).shape[-1],
        median=median_norm(model, norm),
        length=median_norm(model, "l2"),
        near=float(near.quantile(0.05)),
        nearest=float(near.median()),
    )


def _chunks(model: EmbeddedText) -> Iterator[tuple[Tensor, Tensor]]:
    """Ids and embeddings of ordinary tokens, in float64."""
    for ids in model.ordinary().split(_CHUNK):
        vectors = _exact(model.embedded(ids))
        yield ids.to(vectors.device), vectors


def _exact(vectors: Tensor) -> Tensor:
    """In float64, on the CPU where the device has none (MPS)."""
    return (vectors.cpu() if vectors.device.type == "mps" else vectors).double()
