"""How far an evaluation has come, so that one that was killed goes on from there, to the same result."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from pytest_robust.evaluation.memory import SIGN, Arrays, Kept, Memory, pack, prefixed, same_sign, under, unpack
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.result import CLEAN, Stage
from pytest_robust.evaluation.search import Observed
from pytest_robust.evaluation.tally import Break, Tally
from pytest_robust.evaluation.trail import Trail

_EVERY = 20.0
"""Seconds between two savings: what a kill may cost."""
TOLD = "told."
"""What the names of arrays begin with that are of rows settled since."""
Position = tuple[int, int]
"""A portion of the examples, and a step of the schedule on it."""


@dataclass(frozen=True)
class State:
    """All that an evaluation knows while its attacks run."""

    tally: Tally
    trail: Trail
    observed: Observed
    rejected: set[int]
    spent: npt.NDArray[np.int64]
    stages: dict[str, Stage]
    passes: Passes


class Checkpoint:
    """Saves the state as it was when a stage began, and what the stage has settled since.

    An example in the middle of a stage is saved as it was at the beginning: it takes that stage anew, and since no example
    depends on another, to the same end.
    """

    def __init__(self, memory: Memory, key: str, sign: Arrays, state: State) -> None:
        """``sign``: by which the model is known again, should it act otherwise with the same weights and source."""
        self._memory, self._key, self._sign, self._state = memory, key, sign, state
        self._saved = time.monotonic()
        self._start: Kept | None = None
        self._position: Position = (0, 0)
        self._since: Kept | None = None

    def resume(self) -> Position | None:
        """Put the state back as it was saved; the stage to go on with. None where nothing was saved, or of another model."""
        kept = self._memory.progress(self._key)
        if kept is None or not same_sign(under(SIGN, kept[1]), self._sign):
            return None
        content, arrays = kept
        if wrong(content["start"]["broken_by"]) != wrong(self._state.tally.broken_by):
            return None  # on another machine it is right about other examples
        _restore(self._state, content["start"], arrays)
        self._since = (content["since"], arrays)
        position: Position = tuple(content["position"])
        return position

    def begin(self, position: Position) -> None:
        """A stage begins."""
        self._position, self._start = position, _captured(self._state)
        if position != (0, 0):
            self.save_if_due()

    def settled(self) -> dict[int, Break | None]:
        """What the stage that goes on had settled, with what was learnt about these rows; nothing the next time."""
        if self._since is None:
            return {}
        (content, arrays), self._since = self._since, None
        return _told(self._state, content, arrays)

    def save_if_due(self) -> None:
        """Save, unless that was done a short while ago."""
        if time.monotonic() - self._saved >= _EVERY:
            self.save()

    def save(self, *, complete: bool = False) -> None:
        """Save; ``complete``: the last stage of the schedule is done."""
        if self._start is None:
            return
        start, arrays = self._start
        since, told = _since(self._state)
        content = {"position": list(self._position), "start": start, "since": since, "complete": complete}
        self._memory.keep(self._key, content, arrays | told | prefixed(SIGN, self._sign))
        self._saved = time.monotonic()


def _captured(state: State) -> Kept:
    tally, trail = state.tally, state.trail
    content = {
        "broken_by": list(tally.broken_by),
        "distances": [tally.breaks[row].distance for row in sorted(tally.breaks)],
        "survived": sorted(tally.survived),
        "doubtful": sorted(tally.doubtful),
        "drawn": sorted(tally.drawn),
        "rejected": sorted(state.rejected),
        "observed": {field.name: sorted(getattr(state.observed, field.name)) for field in fields(Observed)},
        "stages": [asdict(stage) for stage in state.stages.values()],
        "passes": [state.passes.forward, state.passes.backward],
    }
    arrays = {"predicted": tally.predicted.copy(), "spent": state.spent.copy()}
    return content, arrays | {name: array.copy() for name, array in trail.arrays().items()} | pack(tally.witnesses)


def _restore(state: State, content: dict[str, Any], arrays: Arrays) -> None:
    tally = state.tally
    tally.broken_by[:] = content["broken_by"]
    tally.predicted[:] = arrays["predicted"]
    for (row, point), distance in zip(unpack(arrays).items(), content["distances"], strict=True):
        tally.breaks[row] = Break(str(tally.broken_by[row]), point, int(tally.predicted[row]), distance)
    for rows, name in ((tally.survived, "survived"), (tally.doubtful, "doubtful"), (tally.drawn, "drawn")):
        rows |= set(content[name])
    tally.standing = tally.broken_by.count(None)
    state.rejected.update(content["rejected"])
    for name, rows in content["observed"].items():
        getattr(state.observed, name).update(rows)
    state.stages.update((s["attack"], Stage.of(s)) for s in content["stages"])
    state.passes.forward, state.passes.backward = content["passes"]
    state.spent[:] = arrays["spent"]
    for name, array in state.trail.arrays().items():
        array[:] = arrays[name]


def _since(state: State) -> Kept:
    told = state.tally.told
    rows = sorted(told)
    broken = {row: found for row in rows if (found := told[row]) is not None}
    content = {
        "rows": rows,
        "rejected": sorted(state.rejected & told.keys()),
        "observed": {field.name: sorted(getattr(state.observed, field.name) & told.keys()) for field in fields(Observed)},
        "broken": [[row, found.attack, found.predicted, found.distance] for row, found in broken.items()],
        "passes": [state.passes.forward, state.passes.backward],
    }
    arrays = {name: array[rows] for name, array in {"spent": state.spent, **state.trail.arrays()}.items()}
    return content, prefixed(TOLD, arrays | pack({row: found.witness for row, found in broken.items()}))


def _told(state: State, content: dict[str, Any], arrays: Arrays) -> dict[int, Break | None]:
    told = under(TOLD, arrays)
    rows, witnesses = content["rows"], unpack(told)
    state.rejected.update(content["rejected"])
    for name, seen in content["observed"].items():
        getattr(state.observed, name).update(seen)
    state.passes.forward, state.passes.backward = content["passes"]
    state.spent[rows] = told["spent"]
    for name, array in state.trail.arrays().items():
        array[rows] = told[name]
    broken = {row: Break(by, witnesses[row], predicted, distance) for row, by, predicted, distance in content["broken"]}
    return {row: broken.get(row) for row in rows}


def wrong(broken_by: Sequence[str | None]) -> list[int]:
    """The rows that are wrong without attack."""
    return [row for row, by in enumerate(broken_by) if by == CLEAN]
