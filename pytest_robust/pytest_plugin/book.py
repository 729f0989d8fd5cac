"""How the checks of one test are called, and what is noted of each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from pytest_robust.budget import Budget
from pytest_robust.pytest_plugin import memory, shards
from pytest_robust.pytest_plugin.call import FIXTURE, Asked, budget_id, ungrouped, without_file
from pytest_robust.pytest_plugin.checks import Checks, error_line, properties, reproduce
from pytest_robust.pytest_plugin.marker import Declared
from pytest_robust.pytest_plugin.regressions import compared
from pytest_robust.pytest_plugin.settings import Settings
from pytest_robust.reports.record import Record, record
from pytest_robust.store.runs import check_file

if TYPE_CHECKING:
    from pytest_robust.evaluation import Evaluation, Outcomes


@dataclass
class Book:
    """The checks of one run of a test.

    Attributes:
        item, settings, declared, budget: as in ``Robust``. checks: those of an earlier run of the test among them.
        used: the ids of this run.
    """

    item: pytest.Item
    settings: Settings
    declared: Declared
    checks: Checks
    budget: Budget | None
    used: set[str] = field(default_factory=set)

    def id(self, name: str | None) -> str:
        """The node id; with the check's name, or a number from the second call on."""
        own = ungrouped(self.item.nodeid)
        base = own if name is None else f"{own}::{name}"
        id, number = base, 1
        while id in self.used:
            number += 1
            id = f"{base}#{number}"
        self.used.add(id)
        return id

    @contextlib.contextmanager
    def keeping_errors(self, id: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.checks.errors[id] = error_line(error)
            raise
        self.checks.errors.pop(id, None)  # of an earlier run of the test

    def remember(self, id: str, evaluation: Evaluation, asked: Asked, *, family: str | None) -> None:
        """
        Args:
            family: the same for checks that differ in the budget.

        Raises:
            BaselineError: the baseline of the check cannot be read.
        """
        if self.settings.shard is not None:
            self.checks.evaluations[id], self.checks.shares[id] = evaluation, shards.share(evaluation)
            return
        again, weak = reproduce(self.item, self.settings, self.budget), evaluation.weakest
        replay = f"{again} --robust-replay {weak.index}" if weak is not None and self._is_kept(evaluation) else None
        self.keep(record(evaluation, id) | {"replay": replay}, evaluation, asked, family, metrics=1)
        self.checks.evaluations[id] = evaluation
        self.item.config.hook.pytest_robust_result(config=self.item.config, item=self.item, result=evaluation)

    def keep(
        self, check: Record, outcomes: Evaluation | Outcomes, asked: Asked, family: str | None, *, metrics: int
    ) -> None:
        """Complete a record with what the test and the run say of it.

        Args:
            metrics: so many checks come of this call.

        Raises:
            BaselineError: the baseline of the check cannot be read.
        """
        items = self.item.session.items
        # Robust and clean accuracy, of each robust test of the session.
        accuracies = 2 * metrics * sum(FIXTURE in getattr(item, "fixturenames", ()) or without_file(item) for item in items)
        check = {"replay": None} | check | {
            "tier": self.declared.tier or "critical",
            # Others have one, so that this has none may be a slip.
            "lacks_floor": check["floor"] is None and asked.floors_by_budget,
            "family": family,
            "reproduce": reproduce(self.item, self.settings, self.budget),
            "comparison": compared(self.settings.gating, check["id"], outcomes, asked.chosen.max_drop, accuracies),
        }  # fmt: skip
        self.checks.records[check["id"]] = check
        self.item.user_properties.extend(properties(check))

    def family(self, id: str) -> str | None:
        """The same for checks of this test that differ in the budget; None where it has one only."""
        if self.budget is None:
            return None
        return id.replace(budget_id(self.settings, self.declared, self.budget), "*")

    def _is_kept(self, evaluation: Evaluation) -> bool:
        """Whether its adversarial examples are stored."""
        key = None if evaluation.identity is None else evaluation.identity.check
        return key is not None and check_file(memory.folder(self.item.config).root, key).is_file()
