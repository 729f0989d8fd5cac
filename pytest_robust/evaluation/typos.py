"""How far vectors must move to do as much as typing errors do."""

from __future__ import annotations

import torch

from pytest_robust import keyed
from pytest_robust.data.examples import Examples
from pytest_robust.errors import ThreatError
from pytest_robust.evaluation.passes import Passes
from pytest_robust.models.edited import Edited
from pytest_robust.models.embedded_text import EmbeddedText
from pytest_robust.objectives import Untargeted
from pytest_robust.threats import CharacterEdits, EmbeddingBall
from pytest_robust.threats.edits import edited

_TEXTS, _SAMPLES, _STEPS, _HALVINGS = 32, 10, 10, 10
_LEAST, _MOST = 0.001, 1.0
"""Where the radius is looked for, in median norms of a token."""
_margin = Untargeted().margin


def radius_of_typos(
    model: EmbeddedText, examples: Examples, ball: EmbeddingBall, typos: int, scale: float
) -> tuple[float, Passes]:
    """The radius at which moved vectors raise the mean margin loss as far as the worst of ten samples of typing errors.

    By bisection, on a few examples chosen by content: no number but these, the model and the ball has a say.

    Args:
        scale: the median norm of a token.

    Returns:
        The radius, and the passes spent on it.

    Raises:
        ThreatError: typing errors do less than the smallest radius, or more than the largest.
    """
    part = examples.subset(keyed.order(0, examples.ids)[:_TEXTS])
    edits = CharacterEdits(typos)
    as_edited = Edited(model, sites=edits.sites, edited=edited, most_options=edits.most_options)
    passes = Passes(as_edited, _TEXTS)
    wanted = _of_samples(as_edited, passes, part, edits)
    encoded, moved = model.encode(part), Passes(model, _TEXTS)

    def reached(radius: float) -> bool:
        return _of_vectors(model, moved, encoded, ball.measured(radius)) >= wanted

    low, high = _LEAST * scale, _MOST * scale
    if reached(low) or not reached(high):
        what = "less than vectors moved by 0.1%norm" if reached(low) else "more than vectors moved by 100%norm"
        raise ThreatError(
            f"eps {ball.budget} has no radius here: on {len(part)} of these texts the worst of {_SAMPLES} samples of typing "
            f"errors does {what}; give eps as '2%norm', or use CharacterEdits({typos})"
        )
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if reached(middle) else (middle, high)
    moved.forward, moved.backward = moved.forward + passes.forward, moved.backward + passes.backward
    return high, moved


def _of_samples(model: Edited, passes: Passes, examples: Examples, edits: CharacterEdits) -> float:
    """The mean over texts of the largest margin loss over samples."""
    encoded, total = model.encode(examples), 0.0
    for rows in encoded.groups(range(len(encoded))):
        batch, labels = model.batch(encoded.take(rows)), encoded.labels[rows].to(model.device)
        region = edits.region(batch.x, batch.free)
        losses = []
        for sample in range(_SAMPLES):
            keys = torch.tensor([keyed.key("typos", sample, encoded.ids[row]) for row in rows], device=batch.x.device)
            losses.append(_margin(passes.logits(edits.start(region, keys), batch.context), labels))
        total += float(torch.stack(losses).amax(0).double().sum())
    return total / len(encoded)


def _of_vectors(model: EmbeddedText, passes: Passes, encoded: Examples, ball: EmbeddingBall) -> float:
    """The mean over texts of the largest margin loss that steepest ascent meets."""
    total = 0.0
    for rows in encoded.groups(range(len(encoded))):
        batch, labels = model.batch(encoded.take(rows)), encoded.labels[rows].to(model.device)
        region, x = ball.region(batch.x, batch.free), batch.x
        best, step = torch.full((len(x),), -torch.inf, device=x.device), torch.full((len(x),), 2.5 / _STEPS, device=x.device)
        for _ in range(_STEPS):
            _, losses, grad = passes.gradient(lambda logits, at: _margin(logits, labels[at]), x, batch.context)  # noqa: B023
            best = torch.maximum(best, losses)
            x = ball.step(x, grad, step.to(x.dtype), region)
        best = torch.maximum(best, _margin(passes.logits(x, batch.context), labels))
        total += float(best.double().sum())
    return total / len(encoded)
