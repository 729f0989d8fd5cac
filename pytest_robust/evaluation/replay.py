"""Adversarial examples found before, tried first: a forward pass each, and a proof like any other where they still work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

import torch
from torch import Tensor

from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.subjects import Subjects
from pytest_robust.evaluation.tally import Break
from pytest_robust.evaluation.verify import verified
from pytest_robust.regression import REPLAY


def replay(
    subjects: Subjects, passes: Passes, rows: Sequence[int], known: Mapping[str, Sequence[Tensor]], contested: set[int]
) -> dict[int, Break]:
    """The rows that points found before break, each point brought into what the threat allows now.

    Args:
        known: points to try, by content id. One of another shape than the example's is left out.
        contested: see ``verified``.
    """
    ids, broken = subjects.examples.ids, dict[int, Break]()
    for turn in zip_longest(*(known.get(ids[row], ()) for row in rows)):
        tries = {row: point for row, point in zip(rows, turn, strict=True) if point is not None and row not in broken}
        for group in subjects.examples.groups(list(tries)):
            for start in range(0, len(group), passes.most):
                some = {row: tries[row] for row in group[start : start + passes.most]}
                broken |= _tried(subjects, passes, some, contested)
    return broken


def _tried(subjects: Subjects, passes: Passes, tries: Mapping[int, Tensor], contested: set[int]) -> dict[int, Break]:
    shape = subjects.place(list(tries)[:1])[0].shape[1:]
    fitting = [row for row, point in tries.items() if point.shape == shape]
    if not fitting:
        return {}
    x, context, region = subjects.place(fitting)
    points = torch.stack([tries[row] for row in fitting]).to(x)
    points = torch.where(points.isfinite(), points, x)
    inside = subjects.threat.seal(points, region)
    logits = passes.logits(inside, context)
    claimed = subjects.objective.broken(logits, subjects.put(subjects.goal[fitting])) & logits.isfinite().all(1)
    at = claimed.nonzero().flatten().tolist()
    rows = [fitting[i] for i in at]
    judged = verified(subjects, passes, rows, inside[at], [REPLAY] * len(rows), contested) if rows else []
    return {row: found for row, found in zip(rows, judged, strict=True) if found is not None}
