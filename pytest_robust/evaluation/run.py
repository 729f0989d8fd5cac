"""One evaluation as it runs: the schedule on the survivors, every claim verified alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.attacks import Attack, Live, Sweep
from pytest_robust.errors import ShardError
from pytest_robust.evaluation.beyond import BEYOND, CONVERGENCE, Beyond, Found, black_box, convergence
from pytest_robust.evaluation.checkpoint import Checkpoint, State
from pytest_robust.evaluation.controls import controls_sample, huge_budget, planted
from pytest_robust.evaluation.health import Doubts, repeatable, strength
from pytest_robust.evaluation.memory import Memory, Past
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.probes import SLOPES, cut_off, slope
from pytest_robust.evaluation.progress import Progress, Report
from pytest_robust.evaluation.replay import replay
from pytest_robust.evaluation.result import Cost, HealthCheck, Stage, add_stage
from pytest_robust.evaluation.schedule import Step
from pytest_robust.evaluation.search import Observed, Search
from pytest_robust.evaluation.subjects import Subjects
from pytest_robust.evaluation.tally import Break, Tally
from pytest_robust.evaluation.verify import verified
from pytest_robust.regression import REPLAY
from pytest_robust.shard import Shard

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
        *,
        custom: bool = False,
        controls: bool = False,
        probing: bool = True,
        past: Past | None = None,
        shard: Shard | None = None,
    ) -> None:
        """
        Args:
            past: what is known from before. shard: attack its share alone, and leave what it came to in the past.
            custom: the steps are the user's, who may have chosen too few. controls: try the search on tasks that have a
                solution. probing: look at survivors once more; without it, that they survived says little.
        """
        self.name, self.subjects, self.passes, self.steps = name, subjects, passes, steps
        self.tally, self.report = tally, report
        self._stages: dict[str, Stage] = {}
        self.custom, self.controls, self.probing = custom, controls, probing
        self.spent = np.zeros(len(subjects.examples), dtype=np.int64)
        self._observed = Observed()
        self._rejected: set[int] = set()
        self._probes: list[HealthCheck] = []
        self._past, self._shard = past, shard
        state = State(tally, subjects.trail, self._observed, self._rejected, self.spent, self._stages, passes)
        self._checkpoint = None if past is None or past.key is None else Checkpoint(past.memory, past.key, past.sign, state)

    @property
    def stages(self) -> list[Stage]:
        return list(self._stages.values())

    def attack(self) -> None:
        """The whole schedule, or as much of it as makes the verdict certain; then a look at whether it could work."""
        self._attack()
        if self._shard is not None:
            return  # what follows, or is tried last, is chosen among all who survived
        if self._past is not None and self._past.replay == "last":
            for row, outcome in self._replayed(self._past.memory, sorted(self.tally.survived)).items():
                self.tally.revoke(row, outcome)

    def _attack(self) -> None:
        portions = self._portions()
        resumed = self._resumed()
        for number, rows in enumerate(portions):
            if number < resumed[0]:
                continue
            self.tally.draw(rows)
            if self._past is not None and self._past.replay == "first" and (number, 0) >= resumed:
                self._replay(self._past.memory, self.tally.undecided)
            for at, step in enumerate(self.steps):
                if (number, at) < resumed:
                    continue
                if self.tally.certain:
                    break
                if self._checkpoint is not None and not self._probes:
                    self._checkpoint.begin((number, at))
                self._stage(step, self.tally.undecided, last=step is self.steps[-1])
            self.tally.look()
            if self.tally.certain and self._stays_certain():
                return
        if self._shard is None:
            self._stays_certain()
        elif self._checkpoint is not None:
            self._checkpoint.save(complete=True)

    def _resumed(self) -> tuple[int, int]:
        """The portion and the step to begin with.

        Raises:
            ShardError: what the shards came to is not of this model.
        """
        found = None if self._checkpoint is None else self._checkpoint.resume()
        if found is None and self._past is not None and self._past.merging:
            raise ShardError(
                f"{self.name}: the model acts otherwise here than where the shards ran, on the same examples: by another "
                "kind of device, or a function that no digest sees; merge on a machine like theirs"
            )
        return found or (0, 0)

    def _replay(self, memory: Memory, rows: Sequence[int]) -> None:
        """A stage before the attacks."""
        rows = self._ordered(rows)
        found = self._replayed(memory, rows)
        if found:
            self.tally.begin(rows, last=False)
            for row in rows:
                self.tally.settle(row, found.get(row))

    def _replayed(self, memory: Memory, rows: Sequence[int]) -> dict[int, Break]:
        """Which of these rows adversarial examples found before still break."""
        threat, ids, cost = self.subjects.threat, self.subjects.examples.ids, self._meter()
        known = memory.known(threat.norm, threat.space, [ids[row] for row in rows])
        if not known:
            return {}
        found = replay(self.subjects, self.passes, rows, known, self._observed.contested)
        add_stage(self._stages, Stage(REPLAY, sum(ids[row] in known for row in rows), len(found), cost()))
        return found

    def _portions(self) -> list[list[int]]:
        """The examples in the order of their turns: all at once, or where a sample may decide, some at a time.

        Order and sizes are fixed beforehand: neither outcomes nor batches may have a say in who is drawn.
        """
        rows, shard = self._ordered(self.tally.rows_standing), self._shard
        if shard is not None:
            # Ranked among all, for in the clean outcome two machines may differ.
            ranked = enumerate(self._ordered(range(len(self.subjects.examples))))
            mine = {row for rank, row in ranked if shard.takes(rank)}
            rows = [row for row in rows if row in mine]
        size = max(_PORTION, len(rows) // _LOOKS) if self.tally.sequence is not None else max(1, len(rows))
        return [rows[start : start + size] for start in range(0, max(1, len(rows)), size)]

    def _stays_certain(self) -> bool:
        """Whether the verdict is certain, also after a look at whether the attacks could work.

        A FAIL is a proof: only a PASS, or a figure without a floor, can owe something to attacks that could not.
        """
        probing = self.probing and not self._probes and self.subjects.threat.budget.value > 0
        if probing and not self.tally.fails and self.tally.survived:
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
                exhausted=self._exhausted,
            ),
            *doubts.checks(),
            *self._probes,
            *repeatable(self.subjects, self.passes, logits),
        ]

    def _probe(self) -> None:
        """Survivors once more: do their gradients lead anywhere, and does another search get farther than the attacks?"""
        if self._exhausted:
            return
        rows, spent = self._ordered(sorted(self.tally.survived)), self._decided_passes()
        terrain = self.subjects.threat.terrain
        # Between single points, and between texts, no loss can rise.
        gradients = terrain in ("smooth", "few") and any(step.attack.uses_gradients for step in self.steps)
        if gradients:
            self._probes.append(slope(self.subjects, self.passes, rows[:SLOPES]))
            self._probes.append(cut_off(self.subjects, self.passes, rows[:SLOPES]))
        if self.custom and terrain == "smooth":
            self._probes.append(convergence(self._beyond(CONVERGENCE, spent)))
        if not self.tally.fails:
            # Controls take the other half of what probes may spend.
            beyond = BEYOND[terrain]
            found = self._beyond(beyond, spent // 2 if self.controls else spent)
            self._probes.append(black_box(found, masks=terrain == "smooth"))
        rows = self._ordered(sorted(self.tally.survived))[: controls_sample(spent)]
        if self.controls and gradients and terrain == "smooth" and rows and not self.tally.fails:
            self._probes.append(planted(self.subjects, self.passes, rows))
            self._probes += filter(None, [huge_budget(self.subjects, self.passes, rows)])

    @property
    def _exhausted(self) -> bool:
        """Whether the schedule tried everything that the threat allows."""
        return self.subjects.threat.terrain == "single" and any(isinstance(step.attack, Sweep) for step in self.steps)

    def _beyond(self, search: Beyond, spent: int) -> Found:
        """A search that the schedule does not have, on a sample of the survivors. What it breaks is broken."""
        rows = self._ordered(sorted(self.tally.survived))[: search.sample(spent)]
        before = {row: self.subjects.trail.worn(row) for row in rows}
        broken: set[int] = set()

        def accept(row: int, found: Break) -> None:
            self.tally.revoke(row, found)
            broken.add(row)

        cost, nothing = self._meter(), np.zeros_like(self.spent)
        on_some = self._search(search.probe, accept, survived=lambda row: None, stop=lambda: False, spent=nothing)
        for group in self.subjects.examples.groups(rows):
            on_some.over(group)
        ahead = [row for row in rows if row in broken or self.subjects.trail.worn(row) > before[row] + search.ahead]
        found = Found(len(rows), len(broken), len(ahead))
        if not broken and not found.mostly_ahead:
            return found
        add_stage(self._stages, Stage(search.probe.name, len(rows), len(broken), cost()))
        return replace(found, missed=self._remedy(Step(search.remedy)))

    def _remedy(self, step: Step) -> Stage | None:
        """The attacks missed what another search finds: it is let loose on all who stand.

        Nothing is left to do where the floor is missed by now.
        """
        unfinished = self.tally.undecided
        self.tally.reopen()
        if self.tally.certain:
            return None
        if unfinished:
            # A PASS was certain before their turn. Now it may need them, and then it needs the whole schedule on them.
            self._stage(self.steps[-1], unfinished, last=False)
        self.steps = (*self.steps, step)
        return self._stage(step, self.tally.undecided, last=True)

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
        seen, rows, edits = self._observed, set(survivors), self.subjects.threat.terrain == "edits"
        return Doubts(
            survivors=survivors,
            by_gradients=bool(seen.tried) and not edits,
            # Edits that change no token that matters foretell nothing, and rightly; a search without gradients follows.
            masked=set() if edits else ((rows & seen.tried) - seen.usable - seen.immovable) | (rows & seen.not_a_number),
            unstable=rows & seen.unstable,
            rejected=rows & self._rejected,
            contested=rows & seen.contested if self.passes.random else None,
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
        told = {} if self._checkpoint is None else self._checkpoint.settled()
        for row, outcome in told.items():
            self._outlived(row) if outcome is None else self.tally.settle(row, outcome)

        def stop() -> bool:
            self._tell(attack)
            if self._checkpoint is not None and not self._probes:
                self._checkpoint.save_if_due()
            return self.tally.certain

        search = self._search(attack, self.tally.settle, survived=self._outlived, stop=stop, spent=self.spent)
        with self.passes.exactly() if step.exact else nullcontext():
            for group in groups:
                search.over([row for row in group if row not in told])
        self._tell(attack)
        stage = Stage(attack.name, len(worth), standing - self.tally.standing, cost())
        add_stage(self._stages, stage)
        return stage

    def _ordered(self, rows: Sequence[int]) -> list[int]:
        """In the order that is the same however the data come."""
        return keyed.ordered(self.subjects.seed, rows, self.subjects.examples.ids)

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
            judged = verified(
                self.subjects, self.passes, claimed, live.x, [attack.name] * len(claimed), self._observed.contested
            )
            for row, found in zip(claimed, judged, strict=True):
                if found is not None:
                    accept(row, found)
                elif self.passes.rough is None and not self.passes.random:
                    # Of a rough search, or a mean of draws, it is to be expected, and says nothing about the model.
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
