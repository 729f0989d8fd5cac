"""One evaluation in several jobs: each runs the schedule on its share of the examples, then one goes on from all of them.

What is chosen among all survivors (probes, controls, remedies, the replay of what earlier runs found), and health, belong to
the one that goes on: it resumes as an interrupted evaluation does, at the end of the last attack, and comes to the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from torch import Tensor

from pytest_robust.errors import ShardError
from pytest_robust.evaluation.checkpoint import TOLD, wrong
from pytest_robust.evaluation.memory import SIGN, Arrays, Kept, pack, prefixed, same_sign, under, unpack
from pytest_robust.evaluation.result import UNDECIDED, HealthCheck, Stage, add_stage
from pytest_robust.evaluation.search import Observed
from pytest_robust.evaluation.tally import Tally
from pytest_robust.shard import Shard

MERGE = "merge"
"""In place of a shard: go on from what all of them have come to."""


def parse(text: str | None) -> tuple[Shard | None, bool]:
    """The shard meant, and whether it is all of them that are gone on from.

    Raises:
        ValueError: it is neither.
    """
    merging = text == MERGE
    return (None if text is None or merging else Shard.parse(text)), merging


def no_verdict(shard: Shard) -> HealthCheck:
    """The finding that takes every verdict away from a share."""
    return HealthCheck("shard", "invalid", f"shard {shard} attacked its share alone: no verdict before all are merged")


def share(tally: Tally) -> tuple[list[str | None], np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """``broken_by`` with all undecided that are of another share, and who may still be robust: an upper bound."""
    standing = enumerate(tally.broken_by)
    by = [UNDECIDED if name is None and row not in tally.survived else name for row, name in standing]
    return by, np.array([name in (None, UNDECIDED) for name in by], dtype=np.bool_)


def merged(parts: Sequence[Kept]) -> Kept:
    """What all shards of a check came to, as a checkpoint of all examples.

    Args:
        parts: the checkpoints of the shards, complete ones, in any order.

    Raises:
        ShardError: a share is missing, there twice or incomplete, or they are not of one evaluation.
    """
    _check(parts)
    start, since = ([part[0][name] for part in parts] for name in ("start", "since"))
    owned = [sorted(one["drawn"]) for one in start]
    broken_by = list(start[0]["broken_by"])
    for one, rows in zip(start, owned, strict=True):
        for row in rows:
            broken_by[row] = one["broken_by"][row]
    points = [unpack(arrays) for _, arrays in parts]
    distances = {
        row: distance
        for one, found in zip(start, points, strict=True)
        for row, distance in zip(found, one["distances"], strict=True)
    }
    told_rows = [row for one in since for row in one["rows"]]
    content = {
        "position": parts[0][0]["position"],
        "complete": True,
        "start": {
            "broken_by": broken_by,
            "distances": [distances[row] for row in sorted(distances)],
            **{name: _union(one[name] for one in start) for name in ("survived", "doubtful", "drawn", "rejected")},
            "observed": _observed(start),
            "stages": _stages(start),
            "passes": _sums(start),
        },
        "since": {
            "rows": sorted(told_rows),
            "rejected": _union(one["rejected"] for one in since),
            "observed": _observed(since),
            "broken": sorted(found for one in since for found in one["broken"]),
            "passes": _sums(since),
        },
    }
    arrays = _by_row([part[1] for part in parts], owned) | _told([part[1] for part in parts], told_rows)
    told = [unpack(under(TOLD, part[1])) for part in parts]
    arrays |= pack(_joined(points)) | prefixed(TOLD, pack(_joined(told)))
    return content, arrays | prefixed(SIGN, under(SIGN, parts[0][1]))


def _check(parts: Sequence[Kept]) -> None:
    first, arrays = parts[0]
    size = len(first["start"]["broken_by"])
    right = set(range(size)) - set(wrong(first["start"]["broken_by"]))
    taken: set[int] = set()
    for content, own in parts:
        start, drawn = content["start"], set(content["start"]["drawn"])
        if not content["complete"]:
            raise ShardError("a shard was cut short before its last attack was done; run it again")
        if len(start["broken_by"]) != size or content["position"] != first["position"]:
            raise ShardError("the shards are not of one evaluation; run all of them on the same project")
        if wrong(start["broken_by"]) != wrong(first["start"]["broken_by"]) or not _same_model(own, arrays):
            raise ShardError(
                "without attack the model acts otherwise in one shard than in another; run all on equal machines"
            )
        if drawn & taken:
            raise ShardError(f"{len(drawn & taken)} examples are in two shards; give each shard once")
        if {row for row in drawn if start["broken_by"][row] is None} != set(content["since"]["rows"]):
            raise ShardError("a shard has not decided its whole share; run it again")
        taken |= drawn
    if taken != right:
        raise ShardError(f"{len(right - taken)} examples are in no shard; give all shards of one run")


def _same_model(one: Arrays, other: Arrays) -> bool:
    return same_sign(under(SIGN, one), under(SIGN, other))


def _by_row(parts: Sequence[Arrays], owned: Sequence[Sequence[int]]) -> Arrays:
    """Arrays with a row per example: each row of the shard that has the example."""
    arrays = {}
    for name in ("predicted", "spent", "closest", "reach"):
        array = parts[0][name].copy()
        for part, rows in zip(parts, owned, strict=True):
            array[rows] = part[name][rows]
        arrays[name] = array
    return arrays


def _told(parts: Sequence[Arrays], rows: Sequence[int]) -> Arrays:
    """Arrays with a row per example settled since: all of them, in the order of the examples."""
    order = np.argsort(np.asarray(rows, dtype=np.int64))
    names = (TOLD + name for name in ("spent", "closest", "reach"))
    return {name: np.concatenate([part[name] for part in parts])[order] for name in names}


def _joined(parts: Iterable[Mapping[int, Tensor]]) -> dict[int, Tensor]:
    return {row: point for part in parts for row, point in part.items()}


def _union(rows: Iterable[Iterable[int]]) -> list[int]:
    return sorted(set().union(*rows))


def _observed(parts: Sequence[dict[str, Any]]) -> dict[str, list[int]]:
    return {field.name: _union(one["observed"][field.name] for one in parts) for field in fields(Observed)}


def _sums(parts: Sequence[dict[str, Any]]) -> list[int]:
    """Forward and backward passes of all."""
    return [sum(one["passes"][i] for one in parts) for i in range(2)]


def _stages(parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The stages before the last one, each on the shares of all."""
    stages: dict[str, Stage] = {}
    for one in parts:
        for kept in one["stages"]:
            add_stage(stages, Stage.of(kept))
    return [asdict(stage) for stage in stages.values()]
