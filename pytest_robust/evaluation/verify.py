"""A claim is no adversarial example before it was broken again by itself."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.subjects import Subjects
from pytest_robust.evaluation.tally import Break
from pytest_robust.evaluation.votes import vote
from pytest_robust.models.edited import Edited
from pytest_robust.threats import Edits, Region, Threat


def verified(
    subjects: Subjects,
    passes: Passes,
    rows: Sequence[int],
    x: Tensor,
    found_by: Sequence[str],
    contested: set[int] | None = None,
) -> list[Break | None]:
    """Each claim by itself: strictly inside the threat, and misclassified by a fresh pass, or vote, of its own.

    Args:
        rows: examples whose inputs have equal shapes. x: (B, ...) the points claimed to break them.
        found_by: for each, the attack that found it. contested: where to note rows of which votes say too little.

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
            own, goal = {name: tensor[one] for name, tensor in context.items()}, subjects.put(subjects.goal[[row]])
            if not inside[i] or not _measured(subjects, threat, sealed[i : i + 1], own, part.radius[i]):
                continue
            ballot = vote(passes, sealed[i : i + 1], own, subjects.objective.broken, goal)
            if ballot.broken:
                found[place] = Break(found_by[place], sealed[i].cpu(), ballot.predicted, distance[i])
            elif ballot.contested and contested is not None:
                contested.add(row)
    return found


def _measured(subjects: Subjects, threat: Threat, x: Tensor, context: dict[str, Tensor], radius: Tensor) -> bool:
    """Whether the text that a point makes is within the budget, counted from the texts alone; True where points are not
    edits.
    """
    if not isinstance(threat, Edits) or not isinstance(subjects.model, Edited):
        return True
    most = int(radius)
    (clean,), (changed,) = subjects.model.clean(context), subjects.model.texts(x, context)
    return threat.measure(clean, changed, most) <= most


def _only(places: Sequence[int], region: Region) -> Region:
    return region.map(lambda tensor: tensor[places])
