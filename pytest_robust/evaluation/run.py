"""One evaluation as it runs: the schedule on the survivors, every claim verified alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.attacks import Attack, Live
from pytest_robust.evaluation.health import Doubts, repeatable, strength
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.probes import (
    AHEAD,
    BLACK_BOX,
    REMEDY,
    SLOPES,
    black_box,
    black_box_sample,
    cut_off,
    slope,
)
from pytest_robust.evaluation.progress import Progress, Report
from pytest_robust.evaluation.result import Cost, HealthCheck, Stage
from pytest_robust.evaluation.schedule import Step
from pytest_robust.evaluation.search import Observed, Search
from pytest_robust.evaluation.subjects import Subjects
from pytest_robust.evaluation.tally import Break, Tally
from pytest_robust.evaluation.verify import verified

_PORTION, _LOOKS = 16, 128
"""Where a sample may decide: examples drawn at a time, at least, and into how many portions all of them fall, at most."""


class Run:
    """Runs attacks one after the other, each on what the ones before could not break.

    Attributes:
        stages: what each attack found for what it spent.
        spent: (n,) int64, forward and backward passes of these attacks on each example; those of an attack that the verdict
            cut short are not in it.
    """

    def __init__(
        self,
        name: str,
        subjects: Subjects,
        passes: Passes,
        steps: Sequence[Step],
        tally: Tally,
        report: Report | None,
    ) -> None:
        self.name, self.subjects, self.passes, self.steps = name, subjects, passes, steps
        self.tally, self.report = tally, report
        self._stages: dict[str, Stage] = {}
        self.spent = np.zeros(len(subjects.examples), dtype=np.int64)
        self._observed = Observed()
        self._rejected: set[int] = set()
        self._probes: list[HealthCheck] = []

    @property
    def stages(self) -> list[Stage]:
        return list(self._stages.values())

    def attack(self) -> None:
        """The whole schedule, or as much of it as makes the verdict certain; then a look at whether it could work."""
        for rows in self._portions():
            self.tally.draw(rows)
            for step in self.steps:
                if self.tally.certain:
                    break
                self._stage(step, self.tally.undecided, last=step is self.steps[-1])
            self.tally.look()
            if self.tally.certain and self._stays_certain():
                return
        self._stays_certain()

    def _portions(self) -> list[list[int]]:
        """The examples in the order of their turns: all at once, or where a sample may decide, some at a time.

        Order and sizes are fixed beforehand: neither outcomes nor batches may have a say in who is drawn.
        """
        rows = self._ordered(self.tally.rows_standing)
        size = max(_PORTION, len(rows) // _LOOKS) if self.tally.sequence is not None else max(1, len(rows))
        return [rows[start : start + size] for start in range(0, max(1, len(rows)), size)]

    def _stays_certain(self) -> bool:
        """Whether the verdict is certain, also after a look at whether the attacks could work.

        A FAIL is a proof: only a PASS, or a figure without a floor, can owe something to attacks that could not.
        """
        if not self._probes and not self.tally.fails and self.tally.survived and self.subjects.threat.budget.value > 0:
            with self.passes.exactly():
                self._probe()
            self.tally.doubtful |= self._doubts(sorted(self.tally.survived)).doubtful
            if self.tally.undecided and not self.tally.certain:
                # The PASS that was certain is so no more.
                self._stage(self.steps[-1], self.tally.undecided, last=True)
            self.tally.look()
        return self.tally.certain

    def health(self, logits: Tensor) -> list[HealthCheck]:
        """What the run says about itself.

        Args:
            logits: (n, C) clean logits, as they came in batches.
        """
        ran = {stage.attack for stage in self.stages if stage.attacked}
        doubts = self._doubts(self.tally.outlived)
        return [
            strength(
                [step.attack for step in self.steps if step.attack.name in ran],
                proof=self.tally.fails,
                survivors=bool(self.tally.survived),
            ),
            *doubts.checks(),
            *self._probes,
            *repeatable(self.subjects, self.passes, logits),
        ]

    def _probe(self) -> None:
        """A few survivors once more: does the loss follow the gradient, and does a search without gradients get farther?"""
        rows = self._ordered(sorted(self.tally.survived))
        if any(step.attack.uses_gradients for step in self.steps):
            self._probes.append(slope(self.subjects, self.passes, rows[:SLOPES]))
            self._probes.append(cut_off(self.subjects, self.passes, rows[:SLOPES]))
        rows = rows[: black_box_sample(self._decided_passes())]
        before = {row: self.subjects.trail.worn(row) for row in rows}
        broken: set[int] = set()

        def accept(row: int, found: Break) -> None:
            self.tally.revoke(row, found)
            broken.add(row)

        cost = self._meter()
        search = self._search(
            BLACK_BOX, accept, survived=lambda row: None, stop=lambda: False, spent=np.zeros_like(self.spent)
        )
        for group in self.subjects.examples.groups(rows):
            search.over(group)
        ahead = [row for row in rows if row in broken or self.subjects.trail.worn(row) > before[row] + AHEAD]
        missed = None
        if broken:
            self._add(Stage(BLACK_BOX.name, len(rows), len(broken), cost()))
            missed = self._remedy()
        self._probes.append(black_box(len(rows), len(broken), len(ahead), missed))

    def _remedy(self) -> Stage | None:
        """The gradients missed what a search without them finds: it is let loose on all who stand.

        Nothing is left to do where the floor is missed by now.
        """
        unfinished = self.tally.undecided
        self.tally.reopen()
        if self.tally.certain:
            return None
        if unfinished:
            # A PASS was certain before their turn. Now it may need them, and then it needs the whole schedule on them.
            self._stage(self.steps[-1], unfinished, last=False)
        self.steps = (*self.steps, Step(REMEDY))
        return self._stage(self.steps[-1], self.tally.undecided, last=True)

    def _decided_passes(self) -> int:
        """Passes of the attacks on examples with an outcome: what others in the batch had begun depends on its size."""
        rows = [row for row, by in enumerate(self.tally.broken_by) if by is not None or row in self.tally.survived]
        return int(self.spent[rows].sum())

    def _meter(self) -> Callable[[], Cost]:
        """What is spent from now on, when asked."""
        forward, backward, began = self.passes.forward, self.passes.backward, time.perf_counter()
        return lambda: Cost(self.passes.forward - forward, self.passes.backward - backward, time.perf_counter() - began)

    def _doubts(self, survivors: Sequence[int]) -> Doubts:
        # Of the survivors only, from the start: asked of each as it outlives a stage, all rows each time would be too slow.
        seen, rows = self._observed, set(survivors)
        return Doubts(
            survivors=survivors,
            masked=((rows & seen.tried) - seen.usable - seen.immovable) | (rows & seen.not_a_number),
            unstable=rows & seen.unstable,
            rejected=rows & self._rejected,
            # Without a budget nothing is meant to move.
            immovable=rows & seen.immovable if self.subjects.threat.budget.value > 0 else set(),
            needed=self.tally.needed,
        )

    def _outlived(self, row: int) -> None:
        self.tally.doubtful.discard(row)
        self.tally.doubtful |= self._doubts([row]).doubtful
        self.tally.settle(row, None)

    def _stage(self, step: Step, rows: Sequence[int], *, last: bool) -> Stage:
        attack = step.attack
        self.subjects.rank()
        rows = self._ordered(rows)
        worth = self._worth(step, rows)
        groups = self.subjects.examples.groups([row for row in rows if row in worth])
        spared = [row for row in rows if row not in worth]
        self.tally.begin([*spared, *(row for group in groups for row in group)], last=last)
        standing, cost = self.tally.standing, self._meter()
        for row in spared:
            self._outlived(row)

        def stop() -> bool:
            self._tell(attack)
            return self.tally.certain

        search = self._search(attack, self.tally.settle, survived=self._outlived, stop=stop, spent=self.spent)
        with self.passes.exactly() if step.exact else nullcontext():
            for group in groups:
                search.over(group)
        self._tell(attack)
        stage = Stage(attack.name, len(worth), standing - self.tally.standing, cost())
        self._add(stage)
        return stage

    def _add(self, stage: Stage) -> None:
        """To what the same attack did for other examples."""
        before = self._stages.get(stage.attack)
        self._stages[stage.attack] = stage if before is None else before.and_more(stage)

    def _ordered(self, rows: Sequence[int]) -> list[int]:
        """In the order that is the same however the data come."""
        ids = self.subjects.examples.ids
        return [rows[i] for i in keyed.order(self.subjects.seed, [ids[row] for row in rows])]

    def _worth(self, step: Step, rows: Sequence[int]) -> set[int]:
        """Rows on which the attack is worth its passes."""
        if not self.subjects.runs(step.attack):
            return set()
        return {row for row in rows if self.subjects.trail.worn(row) >= step.near}

    def _search(
        self,
        attack: Attack,
        accept: Callable[[int, Break], None],
        *,
        survived: Callable[[int], None],
        stop: Callable[[], bool],
        spent: npt.NDArray[np.int64],
    ) -> Search:
        """A search whose claims are verified one by one; ``accept`` gets those that hold."""

        def confirm(live: Live, claimed: Sequence[int]) -> list[bool]:
            judged = verified(self.subjects, self.passes, claimed, live.x, [attack.name] * len(claimed))
            for row, found in zip(claimed, judged, strict=True):
                if found is not None:
                    accept(row, found)
                elif self.passes.rough is None:
                    # Of a rough search it is to be expected, and says nothing about the model.
                    self._rejected.add(row)
            return [found is not None for found in judged]

        return Search(
            self.subjects,
            self.passes,
            attack,
            confirm=confirm,
            survived=survived,
            stop=stop,
            observed=self._observed,
            spent=spent,
        )

    def _tell(self, attack: Attack) -> None:
        if self.report is not None:
            total, standing = len(self.tally.broken_by), self.tally.standing
            decided = total - standing + len(self.tally.survived)
            self.report(Progress(self.name, attack.name, decided, total, standing / total))
