"""The broken example that breaks at the smallest change: the one to look at first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.result import Weakest
from pytest_robust.evaluation.subjects import Subjects
from pytest_robust.evaluation.tally import Break
from pytest_robust.evaluation.verify import verified
from pytest_robust.threats import Threat

_CANDIDATES, _HALVINGS = 16, 8
"""Examples whose witnesses are shrunk, and forward passes on each."""


def nearest(subjects: Subjects, passes: Passes, witnesses: Mapping[int, Tensor]) -> tuple[int, Break] | None:
    """The row that breaks at the smallest change, and how; None where there are no witnesses.

    The witnesses of the rows of smallest clean margin are shrunk by bisection between the clean point and themselves, and
    the smallest is verified like any claim. Only a few are looked at, and only on one line each: its norm is an upper bound.
    """
    ids, margins = subjects.examples.ids, subjects.trail.clean * subjects.scale.double().numpy()
    rows = sorted(witnesses, key=lambda row: (-margins[row], ids[row]))[:_CANDIDATES]
    claims: list[tuple[float, int, Tensor]] = []
    for group in subjects.examples.groups(rows):
        _, _, region = subjects.place(group)
        known = subjects.put(torch.stack([witnesses[row] for row in group]))
        # Between texts there is nothing to shrink to.
        halved = [] if subjects.threat.terrain == "edits" else [shrunk(subjects, passes, group, known)]
        for points in (known, *halved):
            norms = subjects.threat.distance(points, region).tolist()
            claims += zip(norms, map(rows.index, group), points, strict=True)
    for _, place, point in sorted(claims, key=lambda claim: claim[:2]):
        row = rows[place]
        (found,) = verified(subjects, passes, [row], point.unsqueeze(0), ["shrunk"])
        if found is not None:
            return row, found
    return None


def weakest(subjects: Subjects, threat: Threat, found: tuple[int, Break] | None) -> Weakest | None:
    """What a report says of the row that ``nearest`` found, in the units of this threat."""
    if found is None:
        return None
    row, hit = found
    label, eps = int(subjects.examples.labels[row]), threat.budget.at_most(hit.distance)
    return Weakest(row, subjects.examples.ids[row], label, hit.predicted, hit.distance, eps)


def shrunk(subjects: Subjects, passes: Passes, rows: Sequence[int], witnesses: Tensor) -> Tensor:
    """(B, ...) points between the clean points and the witnesses at which the model is still broken, by bisection.

    Args:
        rows: examples whose inputs have equal shapes.
    """
    x, context, _ = subjects.place(rows)
    goal = subjects.put(subjects.goal[list(rows)])
    low = torch.zeros(len(rows), *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device)
    high = torch.ones_like(low)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        logits = passes.logits(torch.lerp(x, witnesses, middle), context)
        broken = (subjects.objective.broken(logits, goal) & logits.isfinite().all(1)).view_as(low)
        low, high = torch.where(broken, low, middle), torch.where(broken, middle, high)
    return torch.lerp(x, witnesses, high)
