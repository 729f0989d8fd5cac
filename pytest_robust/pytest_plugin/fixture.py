"""The fixture ``robust``: one call evaluates one check, and fails the test when its floor is missed."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_robust.budget import Budget, Number
from pytest_robust.pytest_plugin import measured, progress, replay, shards
from pytest_robust.pytest_plugin.book import Book
from pytest_robust.pytest_plugin.call import (
    CallError,
    Reader,
    shared_device,
)
from pytest_robust.pytest_plugin.checks import Checks
from pytest_robust.pytest_plugin.marker import Declared, Default
from pytest_robust.pytest_plugin.options import DEFAULT_NORM
from pytest_robust.pytest_plugin.outcome import RobustWarning, judge, verdict_error
from pytest_robust.pytest_plugin.regressions import at_baseline
from pytest_robust.pytest_plugin.retraining import Failed, wanted
from pytest_robust.pytest_plugin.settings import Settings

if TYPE_CHECKING:
    from pytest_robust.attacks import Attack
    from pytest_robust.evaluation import Curve, Evaluation
    from pytest_robust.evaluation.means import Fluctuation
    from pytest_robust.store.witness import Witness
    from pytest_robust.threats import Threat


class Robust:
    """What the fixture ``robust`` gives a test: call it with a model and data.

    Where an argument is silent, the test's marker is asked, then the command line, then the ini file; with
    ``--robust-force`` the command line is asked first.
    """

    def __init__(
        self,
        item: pytest.Item,
        settings: Settings,
        declared: Declared,
        checks: Checks,
        *,
        budget: Budget | None = None,
        registered: Mapping[str, Callable[[], Attack]] | None = None,
    ) -> None:
        """
        Args:
            item: the test. settings, declared: what the run and the test's markers ask for.
            checks: the test's checks of an earlier run of it; new ones are added.
            budget: the one that the test is parametrised with. registered: attacks that plugins have added.
        """
        self._item, self._settings, self._declared, self._checks = item, settings, declared, checks
        self._budget = budget
        self._reader = Reader(item, settings, declared, budget, registered or {})
        self._book = Book(item, settings, declared, checks, budget)

    @property
    def results(self) -> tuple[Evaluation, ...]:
        """The evaluations of this test so far, in the order of their calls."""
        return tuple(e for id, e in self._checks.evaluations.items() if id in self._book.used)

    def __call__(
        self,
        model: Any,
        data: Any,
        threat: Threat | None = None,
        *,
        norm: str | None = None,
        eps: Number | Budget | None = None,
        bounds: Any = Default.BOUNDS,
        min_accuracy: Number | Mapping[Number, Number] | None = None,
        max_drop: Number | None = None,
        confidence: Number | None = None,
        attacks: str | Sequence[str | Attack] | None = None,
        n: int | None = None,
        profile: str | None = None,
        seed: int | None = None,
        device: str | None = None,
        name: str | None = None,
        objective: Any = None,
        batch_size: int | None = None,
        classes: Sequence[str] | None = None,
        normalize: Any = None,
        non_differentiable: Any = None,
        draws: int | None = None,
        waive: Mapping[str, str] | None = None,
        autocast: bool = False,
        train_data: Any = None,
    ) -> Evaluation:
        """Evaluate the model on the data under attack.

        Args:
            model, data, objective, batch_size, classes, normalize, non_differentiable, draws, waive, autocast: see
                ``pytest_robust.evaluate``.
            threat: a threat in full, instead of ``norm``, ``eps`` and ``bounds``.
            norm: linf (the default), l2, l1 or l0. eps: the budget, in the units of the input. bounds: see ``Linf``.
            min_accuracy: the floor, or a floor for each budget.
            max_drop: drop of robust accuracy against the baseline that is too much, instead of the run's margin.
            confidence, attacks, n, profile, seed, device: see the command line.
            name: tells several checks of one test apart in reports.
            train_data: what to train on with ``--robust-retrain``, instead of what the fixture ``robust_trainer`` names.

        Raises:
            AssertionError: robust accuracy is below the floor, or reaches it in an evaluation that is no evidence.
            pytest.UsageError: nothing names a budget, or two things do.
            RobustError: the model, the data and the threat do not fit together; ``CallError``: an argument cannot be used.
        """
        __tracebackhide__ = True
        from pytest_robust import evaluate

        id = self._book.id(name)
        if id not in self._checks.evaluations:
            with self._book.keeping_errors(id), self._watched() as watcher:
                asked = self._reader.asked(
                    model,
                    threat,
                    norm=norm,
                    eps=eps,
                    bounds=bounds,
                    min_accuracy=min_accuracy,
                    max_drop=max_drop,
                    confidence=confidence,
                    attacks=attacks,
                    n=n,
                    profile=profile,
                    seed=seed,
                    device=device,
                    objective=objective,
                    batch_size=batch_size,
                    classes=classes,
                    normalize=normalize,
                    non_differentiable=non_differentiable,
                    draws=draws,
                    waive=waive,
                    autocast=autocast,
                )
                self._compare_with_id(asked.threat)
                if self._settings.replay is not None:
                    return replay.again(self._item, id, asked, data)  # type: ignore[no-any-return]
                floors = asked.floors(asked.threat.budget)
                floor = self._settings.first("fail_under", *floors)
                alone = self._settings.gating.source is None
                sharing = shards.asked(self._settings)
                # Shards need not know the baseline, and must all have one radius.
                used = asked.threat if sharing is not None else at_baseline(self._settings.gating, id, asked.threat)
                evaluation = evaluate(
                    asked.model,
                    data,
                    used,
                    **asked.options,
                    min_accuracy=floor,
                    confidence=None if floor is None else self._settings.first("confidence", asked.chosen.confidence),
                    name=name or self._item.name,
                    # A comparison needs what the attacks by themselves make of every example.
                    stop_early=alone and self._only_asserts_a_floor(named=any(floor is not None for floor in floors)),
                    progress=watcher,
                    memory=shards.memory_of(self._item.config, self._settings),
                    # Whether there is a baseline is asked of all shards together, and must make no difference to one.
                    replay="first" if alone and sharing is None else "last",
                    shard=sharing,
                )
                self._book.remember(id, evaluation, asked, family=self._book.family(id))
                if self._settings.retrain and id in self._checks.records and wanted(self._checks.records[id]):
                    failed = Failed(evaluation, used, self._checks.records[id], asked, data, train_data)
                    self._checks.failed.append(failed)
        if id in self._checks.records:
            judge(self._checks.records[id])
        return self._checks.evaluations[id]

    def curve(
        self,
        model: Any,
        data: Any,
        threat: Threat | None = None,
        *,
        budgets: Sequence[Number | Budget] | None = None,
        eps: Number | Budget | None = None,
        min_accuracy: Number | Mapping[Number, Number] | None = None,
        name: str = "curve",
        **options: Any,
    ) -> Curve:
        """Evaluate the model on the data at every budget, each a check of its own: ``NAME@2/255``.

        Args:
            budgets: those of the curve, none above the threat's; left out, those with a floor, else parts of ``eps``.
            eps: the largest, where neither a threat nor budgets name it.
            min_accuracy: the floor at every budget, or a floor for each; one without is reported only.
            model, data, threat, options: as in ``robust(...)``, all but ``confidence`` and ``draws``.

        Raises:
            AssertionError: at one of the budgets, as in ``robust(...)``. TypeError: an option that there is not.
            pytest.UsageError, RobustError: see ``robust(...)``.
        """
        __tracebackhide__ = True
        from pytest_robust import curve

        if self._settings.replay is not None:
            # Of its points no adversarial examples are kept.
            return replay.passed_over(self._item)  # type: ignore[no-any-return]
        id = self._book.id(name)
        if id not in self._checks.curves:
            with self._book.keeping_errors(id), self._watched() as watcher:
                shards.refuse(self._settings, id, "curve")
                if "confidence" in options:
                    raise CallError("robust.curve(...): confidence is for a sample, and on a curve every example is decided")
                named = self._reader.budgets(budgets, min_accuracy)
                if named is not None and threat is None and eps is None:
                    eps = max(named, key=lambda budget: budget.value)
                asked = self._reader.asked(model, threat, eps=eps, min_accuracy=min_accuracy, **options)
                if asked.options.pop("draws") is not None:
                    raise CallError("robust.curve(...): draws are for one budget at a time; use robust(...)")
                self._compare_with_id(asked.threat)
                if self._settings.force and self._settings.command_line.eps:
                    named = None
                found = curve(asked.model, data, asked.threat, **asked.options, budgets=named, name=name, progress=watcher)
            self._checks.curves[id] = found
            for budget, evaluation in zip(found.budgets, found.evaluations, strict=True):
                judged = replace(evaluation, floor=self._settings.first("fail_under", *asked.floors(budget)))
                self._book.remember(f"{id}@{budget}", judged, asked, family=id)
        found = self._checks.curves[id]
        for budget in found.budgets:
            self._book.used.add(f"{id}@{budget}")
        for budget in found.budgets:
            judge(self._checks.records[f"{id}@{budget}"])
        return found

    def fluctuation(
        self,
        model: Any,
        data: Any,
        threat: Threat | None = None,
        *,
        norm: str | None = None,
        eps: Number | Budget | None = None,
        samples: int = 10,
        min_ndcg: Number | None = None,
        min_consistency: Number | None = None,
        max_drop: Number | None = None,
        confidence: Number | None = None,
        n: int | None = None,
        seed: int | None = None,
        waive: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> Fluctuation:
        """Measure what random edits do to retrieval or translation; a floor is of the mean over the worst edits of texts.

        That is a measure, and no evidence: a search finds worse edits. Each metric with a floor is a check of its own,
        ``NAME::ndcg@10``; where none has one, the first metric that there is.

        Args:
            model, data, threat, samples, n, seed: see ``pytest_robust.fluctuation``. norm, eps: as in ``robust(...)``.
            min_ndcg, min_consistency: the floors. confidence: with it the lower limit of the bootstrap interval must reach
                the floor, else the figure itself.
            max_drop, waive, name: see ``robust(...)``.

        Raises:
            AssertionError: a floor is missed, or met by texts that nothing was tried on. pytest.UsageError, RobustError: see
                ``robust(...)``.
        """
        __tracebackhide__ = True
        from pytest_robust import fluctuation

        if self._settings.replay is not None:
            # There is no search, so nothing is stored.
            return replay.passed_over(self._item)  # type: ignore[no-any-return]
        id = self._book.id(name)
        if id not in self._checks.fluctuations:
            with self._book.keeping_errors(id):
                shards.refuse(self._settings, id, "fluctuation")
                asked = self._reader.asked(
                    model, threat, norm=norm, eps=eps, n=n, seed=seed, confidence=confidence, max_drop=max_drop,
                    min_ndcg=min_ndcg, min_consistency=min_consistency, waive=waive,
                )  # fmt: skip
                self._compare_with_id(asked.threat)
                seed, n, profile = (asked.options[option] for option in ("seed", "n", "profile"))
                most = n or measured.most(profile)
                found = fluctuation(asked.model, data, asked.threat, samples=samples, seed=seed, n=most)  # type: ignore[arg-type]
                floors = measured.gated(found, asked.chosen)
                sure = self._settings.first("confidence", asked.chosen.confidence)
                ids = {metric: self._book.id(metric if name is None else f"{name}::{metric}") for metric in floors}
                for check in measured.records(found, floors, ids, sure, profile, asked.options["waive"] or {}):
                    outcomes, family = found.outcomes(check["metric"]), self._book.family(check["id"])
                    self._book.keep(check, outcomes, asked, family, metrics=len(floors))
            self._checks.fluctuations[id] = found, tuple(ids.values())
        found, own = self._checks.fluctuations[id]
        for gated in own:
            judge(self._checks.records[gated])
        return found

    def witness(self, model: Any, path: str | Path, *, device: str | None = None, **options: Any) -> Witness:
        """The model is right on a stored adversarial example, and on its clean input.

        Args:
            model: as in ``robust(...)``. path: of the file, relative to the project's root.
            device: see the command line. options: ``normalize`` and others of ``Witness.assert_right``.

        Raises:
            AssertionError: it is still wrong. RobustError: the file cannot be used, or the model not be asked.
        """
        __tracebackhide__ = True
        from pytest_robust import load_witness

        found = load_witness(self._item.config.rootpath / path)
        self._checks.witnesses += 1
        try:
            found.assert_right(model, device=shared_device(self._settings.first("device", device) or "auto"), **options)
        except AssertionError as error:
            raise verdict_error(str(error)) from None
        return found

    @contextlib.contextmanager
    def _watched(self) -> Iterator[progress.Watcher]:
        watcher = progress.watch(self._item.config, self._item.name)
        try:
            yield watcher
        finally:
            watcher.close()

    def _only_asserts_a_floor(self, *, named: bool) -> bool:
        """With a floor of the whole run, or an advisory one, a test may go on to ask for more than the verdict."""
        return (named or not isinstance(self._item, pytest.Function)) and self._declared.tier != "advisory"

    def _compare_with_id(self, threat: Threat) -> None:
        """A row must not be labelled with a budget that was not attacked.

        Raises:
            pytest.UsageError: the marker names one threat and the call another.
        """
        settings, marked = self._settings, self._declared
        norm = settings.first("norm", marked.norm) or DEFAULT_NORM
        if self._budget is None or (self._budget.is_that(threat.budget) and norm == threat.norm):
            return
        said, used = f"{norm} {self._budget}", f"{threat.norm} {threat.budget}"
        if marked.eps is not None:
            raise pytest.UsageError(f"the marker says {said}, the call asks for {used}: name the threat in one of them")
        warnings.warn(
            RobustWarning(f"{self._item.nodeid}: the id says {said}, as the run asks; the call asked for {used}"),
            stacklevel=3,
        )
