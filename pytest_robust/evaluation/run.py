"""One evaluation as it runs: the schedule on the survivors, every claim verified alone."""

from __future__ import annotations

import time
from collections.abc import Sequence

from torch import Tensor

from pytest_robust import keyed
from pytest_robust.attacks import Attack, Live
from pytest_robust.evaluation import health
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.progress import Progress, Report
from pytest_robust.evaluation.result import Cost, HealthCheck, Stage
from pytest_robust.evaluation.search import Search
from pytest_robust.evaluation.subjects import Subjects
from pytest_robust.evaluation.tally import Tally


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
        self._tried: set[int] = set()
        self._usable: set[int] = set()
        self._unstable: set[int] = set()
        self._rejected: set[int] = set()

    def attack(self) -> None:
        """The whole schedule, or as much of it as makes the verdict certain."""
        attackable = self.subjects.objective.attackable(self.subjects.examples.labels).tolist()
        for row in self.tally.rows_standing():
            if not attackable[row]:
                self.tally.survived.add(row)
        for attack in self.attacks:
            if self.tally.certain:
                break
            self._stage(attack, last=attack is self.attacks[-1])

    def health(self, logits: Tensor) -> list[HealthCheck]:
        """What the run says about itself.

        Args:
            logits: (n, C) clean logits, as they came in batches.
        """
        # After an early verdict some were never attacked: they say nothing about the attack.
        survivors = [row for row in self.tally.rows_standing() if row in self._tried]
        return [
            health.strength(self.attacks),
            health.gradients(survivors, self._usable),
            health.finite(survivors, self._unstable),
            health.verified(survivors, self._rejected),
            *health.repeatable(self.subjects, self.passes, logits, survivors),
        ]

    def _stage(self, attack: Attack, *, last: bool) -> None:
        rows = [row for row in self.tally.rows_standing() if row not in self.tally.survived]
        rows = [rows[i] for i in keyed.order(self.subjects.seed, [self.subjects.examples.ids[row] for row in rows])]
        standing, forward, backward = self.tally.standing, self.passes.forward, self.passes.backward
        began = time.perf_counter()
        if self.report is not None:
            self._tell(attack)

        def survived(row: int) -> None:
            if last:
                self.tally.survived.add(row)

        def stop() -> bool:
            if self.report is not None:
                self._tell(attack)
            return self.tally.certain

        search = Search(
            self.subjects,
            self.passes,
            attack,
            confirm=lambda live, claimed: self._confirm(attack, live, claimed),
            survived=survived,
            stop=stop,
        )
        search.over(rows)
        self._tried |= search.tried
        self._usable |= search.usable
        self._unstable |= search.unstable
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
                self.tally.broke(row, attack.name, sealed[i].cpu(), int(logits.argmax(1).item()))
            else:
                self._rejected.add(row)
            accepted.append(broken)
        return accepted

    def _tell(self, attack: Attack) -> None:
        total = len(self.tally.broken_by)
        standing = self.tally.standing
        decided = total - standing + len(self.tally.survived)
        assert self.report is not None
        self.report(Progress(self.name, attack.name, decided, total, standing / total))
