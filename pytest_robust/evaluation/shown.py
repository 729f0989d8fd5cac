"""A few broken examples beside their clean inputs, for reports to draw."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.data.examples import Examples, Text
from pytest_robust.evaluation.result import Weakest
from pytest_robust.evaluation.subjects import Subjects
from pytest_robust.models.edited import Edited
from pytest_robust.models.protocol import Model
from pytest_robust.threats import Threat
from pytest_robust.threats.transform import Transform

_SHOWN = 6


def side_by_side(
    model: Model, examples: Examples, threat: Threat, seed: int, witnesses: Mapping[int, Tensor], weakest: Weakest | None
) -> dict[int, Tensor]:
    """By row, the clean and the adversarial input of a few broken examples: (2, ...) float32, on the CPU.

    The one that the smallest change breaks comes first, then others by content, wherever they stand in the data. Points
    that nobody can look at, such as token embeddings, give nothing.

    Args:
        model: takes inputs, also where the threat moves the parameters of a transform. examples: encoded.
    """
    if model.space != "input":
        return {}
    pairs = {}
    for row in _in_order(examples, seed, witnesses, weakest)[:_SHOWN]:
        clean = model.batch(examples.take([row])).x[0].cpu()
        point = witnesses[row]
        moved = threat.apply(clean, point) if isinstance(threat, Transform) else point
        pairs[row] = torch.stack([clean.float(), moved.float()])
    return pairs


def changed_texts(
    subjects: Subjects, witnesses: Mapping[int, Tensor], weakest: Weakest | None
) -> dict[int, tuple[Text, Text]]:
    """By row, each broken text as it was and as it broke the model; nothing where points are not edits of texts.

    In the order in which they are worth a look: see ``side_by_side``.
    """
    if not isinstance(subjects.model, Edited):
        return {}
    found = {}
    for row in _in_order(subjects.examples, subjects.seed, witnesses, weakest):
        _, context, _ = subjects.place([row])
        (clean,), (changed,) = subjects.model.clean(context), subjects.model.texts(witnesses[row].unsqueeze(0), context)
        found[row] = (clean, changed)
    return found


def _in_order(examples: Examples, seed: int, witnesses: Mapping[int, Tensor], weakest: Weakest | None) -> list[int]:
    first = None if weakest is None else weakest.index
    rows = keyed.ordered(seed, sorted(witnesses), examples.ids)
    return sorted(rows, key=lambda row: row != first)
