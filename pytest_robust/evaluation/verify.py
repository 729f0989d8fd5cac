"""A claim is no adversarial example before it was broken again by itself."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.subjects import Subjects
from pytest_robust.evaluation.tally import Break
from pytest_robust.threats import Region


def verified(
    subjects: Subjects, passes: Passes, rows: Sequence[int], x: Tensor, found_by: Sequence[str]
) -> list[Break | None]:
    """Each claim by itself: strictly inside the threat, and misclassified by a fresh forward pass of its own.

    Args:
        rows: examples whose inputs have equal shapes. x: (B, ...) the points claimed to break them.
        found_by: for each, the attack that found it.

    Returns:
        For each the break, None where the claim does not hold.
    """
    _, context, region = subjects.place(rows)
    found: list[Break | None] = [None] * len(rows)
    for threat, places in subjects.by_threat(rows):
        part = _only(places, region)
        sealed = threat.seal(x[places], part)
        inside, distance = threat.contains(sealed, part).tolist(), threat.distance(sealed, part).tolist()
        for i, place in enumerate(places):
            one, row = slice(place, place + 1), rows[place]
            logits = passes.logits(sealed[i : i + 1], {name: tensor[one] for name, tensor in context.items()})
            goal = subjects.put(subjects.goal[[row]])
            broken = subjects.objective.broken(logits, goal) & logits.isfinite().all(1)
            if inside[i] and bool(broken.item()):
                found[place] = Break(found_by[place], sealed[i].cpu(), int(logits.argmax(1).item()), distance[i])
    return found


def _only(places: Sequence[int], region: Region) -> Region:
    return region.map(lambda tensor: tensor[places])
