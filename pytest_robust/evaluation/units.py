"""Budgets of token embeddings made radii of the model at hand, and what moved vectors would be as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.budget import Budget
from pytest_robust.data.examples import Examples
from pytest_robust.errors import ModelError, ThreatError
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.typos import radius_of_typos
from pytest_robust.models import adapt
from pytest_robust.models.embedded_text import EmbeddedText
from pytest_robust.models.units import Units, median_norm, nearest, to_nearest, units_of
from pytest_robust.threats import EmbeddingBall, Threat

_SAME_SCALE = 0.05
"""How much the median norm of a token may differ for a radius of a baseline to be kept."""
_SNAPPED = 32
"""Broken texts whose vectors are held against the tokens."""


@dataclass(frozen=True)
class Measured:
    """A threat whose budget has a size.

    Attributes:
        scale: the median norm of a token, where the budget was in a unit of the model. notes: what to tell.
        spent: passes of a calibration.
    """

    threat: Threat
    scale: float | None = None
    notes: tuple[str, ...] = ()
    spent: Passes | None = None


def units(model: object, *, norm: str = "l2", device: str = "auto") -> Units:
    """The units of a text model: how large its token embeddings are, and how far apart. ``print`` shows them as a card.

    Args:
        model: as ``evaluate`` takes it. norm: of the embedding ball, ``"l2"`` or ``"linf"``.

    Raises:
        ModelError: a model without token embeddings. ThreatError: no such norm.
    """
    EmbeddingBall(0, norm=norm)
    adapted = adapt(model, device=device)
    if not isinstance(adapted, EmbeddedText):
        raise ModelError(f"{adapted.name} has no token embeddings to measure; give a text model, as (model, tokenizer)")
    with adapted.isolated():
        return units_of(adapted, norm)


def measured(threat: Threat, model: object, examples: Examples) -> Measured:
    """The threat with a radius in the model's own numbers; others as they are.

    Args:
        model: adapted, without draws, and inside ``isolated``. examples: not encoded.

    Raises:
        ThreatError: a budget of pixels, or a unit that has no size here.
    """
    if not isinstance(threat, EmbeddingBall) or not isinstance(model, EmbeddedText):
        return Measured(threat)
    budget = threat.budget
    if budget.is_of_pixels:
        card = units_of(model, threat.norm)
        raise ThreatError(
            f"eps {budget} is {card.of_pixels(float(budget))} on this model: it is a pixel budget; for text use "
            f"CharacterEdits(k), WordEdits(k, substitutes=...), or eps='1%norm'\n{card}"
        )
    if budget.unit is None:
        return Measured(threat)
    scale = median_norm(model, threat.norm)
    before = threat.earlier
    if before is not None and before.scale is not None and abs(scale / before.scale - 1) <= _SAME_SCALE:
        note = (
            f"eps {budget} is {before.value:.4g} as in the baseline, where the median norm of a token was "
            f"{before.scale:.4g}; here it is {scale:.4g}"
        )
        return Measured(threat.measured(before.value), scale, (note,))
    radius, spent = _radius(threat, model, examples, scale)
    return Measured(threat.measured(radius), scale, (), spent)


def measured_alike(budget: Budget, threat: Threat, model: object, examples: Examples) -> Budget:
    """Another budget of the same threat, as ``measured`` makes it."""
    if not isinstance(threat, EmbeddingBall):
        return budget
    return measured(threat.with_eps(budget), model, examples).threat.budget


def as_text(threat: Threat, model: object, encoded: Examples, witnesses: Mapping[int, Tensor], seed: int) -> tuple[str, ...]:
    """What the moved vectors of broken texts would be as text: a sentence, where points are embeddings.

    Args:
        witnesses: (L, D) points by row.
    """
    if not isinstance(threat, EmbeddingBall) or not isinstance(model, EmbeddedText) or not witnesses:
        return ()
    rows = keyed.ordered(seed, sorted(witnesses), encoded.ids)[:_SNAPPED]
    changed = total = 0
    for row in rows:
        batch = model.batch(encoded.take([row]))
        free = torch.ones_like(batch.x[0, :, :1], dtype=torch.bool) if batch.free is None else batch.free[0]
        moved = free.expand_as(batch.x[0]).all(1).cpu()
        points = witnesses[row][moved].double()
        points = points if model.device.type == "mps" else points.to(model.device)
        _, found = nearest(model, points, threat.norm)
        changed += int((found.cpu() != batch.context["input_ids"][0].cpu()[moved]).sum())
        total += len(points)
    share = f"{changed} of {total:,} tokens of {len(rows)} broken texts change"
    if not changed:
        share = f"no token changes at this radius ({total:,} tokens of {len(rows)} broken texts)"
    return (f"moved vectors are no text, and measure how smooth the model is: put to the nearest token each, {share}",)


def _radius(threat: EmbeddingBall, model: EmbeddedText, examples: Examples, scale: float) -> tuple[float, Passes | None]:
    value = float(threat.budget)
    if threat.budget.unit == "norm":
        return value * scale, None
    if threat.budget.unit == "nn":
        return value * float(to_nearest(model, threat.norm).median()) / 2, None
    return radius_of_typos(model, examples, threat, int(value), scale)
