"""One evaluation as it runs: the schedule on the survivors, every claim verified alone."""

from __future__ import annotations

import time
from collections.abc import Sequence

from torch import Tensor

from pytest_robust import keyed
from pytest_robust.attacks import Attack, Live
from pytest_robust.evaluation.health import Doubts, repeatable, strength
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.progress import Progress, Report
from pytest_robust.evaluation.result import Cost, HealthCheck, Stage
from pytest_robust.evaluation.search import Observed, Search
from pytest_robust.evaluation.subjects import Subjects
from pytest_robust.evaluation.tally import Break, Tally


class Run:
    """Runs attacks one after the other, each on what the ones before could not break.

    Attributes:
        stages: what each attack found for what it spent.
    """

    def __init__(
        self, name: str, subjects: Subjects, passes: Passes, attacks: Sequence[Attack], tally: Tally, report: Report | None
    ) -> None:
        self.name, self.subjects, self.passes, self.attacks = name, subjects, passes, attacks
        self.tally, self.report = tally, report
        self.stages: list[Stage] = []
        self._observed = Observed()
        self._rejected: set[int] = set()

    def attack(self) -> None:
        """The whole schedule, or as much of it as makes the verdict certain."""
        for attack in self.attacks:
            if self.tally.certain:
                break
            self._stage(attack, last=attack is self.attacks[-1])

    def health(self, logits: Tensor) -> list[HealthCheck]:
        """What the run says about itself.

        Args:
            logits: (n, C) clean logits, as they came in batches.
        """
        doubts = self._doubts(self.tally.outlived)
        return [
            strength([attack for attack in self.attacks if attack.name in {stage.attack for stage in self.stages}]),
            *doubts.checks(),
            *repeatable(self.subjects, self.passes, logits),
        ]

    def _doubts(self, survivors: Sequence[int]) -> Doubts:
        seen = self._observed
        return Doubts(
            survivors=survivors,
            masked=(seen.tried - seen.usable - seen.immovable) | seen.not_a_number,
            unstable=seen.unstable,
            rejected=self._rejected,
            # Without a budget nothing is meant to move.
            immovable=seen.immovable if self.subjects.threat.budget.value > 0 else set(),
            needed=self.tally.needed,
        )

    def _outlived(self, row: int) -> None:
        self.tally.doubtful |= self._doubts([row]).doubtful
        self.tally.settle(row, None)

    def _stage(self, attack: Attack, *, last: bool) -> None:
        ids = self.subjects.examples.ids
        rows = self.tally.rows_standing
        rows = [rows[i] for i in keyed.order(self.subjects.seed, [ids[row] for row in rows])]
        groups = self.subjects.examples.groups(rows)
        self.tally.begin([row for group in groups for row in group], last=last)
        standing, forward, backward = self.tally.standing, self.passes.forward, self.passes.backward
        began = time.perf_counter()

        def stop() -> bool:
            self._tell(attack)
            return self.tally.certain

        search = Search(
            self.subjects,
            self.passes,
            attack,
            confirm=lambda live, claimed: self._confirm(attack, live, claimed),
            survived=self._outlived,
            stop=stop,
            observed=self._observed,
        )
        for group in groups:
            search.over(group)
        self._tell(attack)
        cost = Cost(self.passes.forward - forward, self.passes.backward - backward, time.perf_counter() - began)
        self.stages.append(Stage(attack.name, len(rows), standing - self.tally.standing, cost))

    def _confirm(self, attack: Attack, live: Live, rows: Sequence[int]) -> list[bool]:
        """Each claim by itself: strictly inside the threat, and misclassified by a fresh forward pass of its own."""
        threat, objective = self.subjects.threat, self.subjects.objective
        sealed = threat.seal(live.x, live.region)
        inside = threat.contains(sealed, live.region).tolist()
        accepted = []
        for i, row in enumerate(rows):
            one = slice(i, i + 1)
            logits = self.passes.logits(sealed[one], {name: tensor[one] for name, tensor in live.context.items()})
            broken = inside[i] and bool((objective.broken(logits, live.goal[one]) & logits.isfinite().all(1)).item())
            if broken:
                self.tally.settle(row, Break(attack.name, sealed[i].cpu(), int(logits.argmax(1).item())))
            else:
                self._rejected.add(row)
            accepted.append(broken)
        return accepted

    def _tell(self, attack: Attack) -> None:
        if self.report is not None:
            total, standing = len(self.tally.broken_by), self.tally.standing
            decided = total - standing + len(self.tally.survived)
            self.report(Progress(self.name, attack.name, decided, total, standing / total))
