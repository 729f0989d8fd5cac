"""The fixture ``robust``: one call evaluates one check, and fails the test when its floor is missed."""

from __future__ import annotations

import contextlib
import itertools
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_robust.budget import Budget, Number
from pytest_robust.errors import RobustError, ThreatError
from pytest_robust.pytest_plugin import marker, memory, progress
from pytest_robust.pytest_plugin.marker import Declared, Default, floor_of
from pytest_robust.pytest_plugin.options import DEFAULT_NORM, DEFAULT_PROFILE
from pytest_robust.pytest_plugin.outcome import RobustWarning, judge
from pytest_robust.pytest_plugin.settings import Settings
from pytest_robust.reports.record import Record, record

if TYPE_CHECKING:
    from pytest_robust.attacks import Attack
    from pytest_robust.evaluation import Evaluation
    from pytest_robust.threats import Threat

NO_BUDGET = (
    "this robust check has no budget; name one in the call, robust(model, data, eps='8/255'), "
    "or in the marker, @pytest.mark.robust(eps='8/255'), "
    "or for the run, pytest --robust-eps 8/255 (ini: robust_eps)"
)
NO_BUDGET_OF_MODEL = "the check of --robust-model has no budget; name one with --robust-eps 8/255 (ini: robust_eps)"


class CallError(RobustError, ValueError):
    """An argument of the call ``robust(...)`` that cannot be used."""


@dataclass
class Checks:
    """The checks of one test so far, by id. They outlive a rerun of the test, which can so not turn a failure green."""

    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    """What went wrong in the checks that have no evaluation. Kept here, for the test may catch the exception."""
    missed: str | None = None
    """The sentence with which an earlier run of the test failed: no later run may avoid it."""


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
        self._budget, self._registered = budget, registered or {}
        self._used: set[str] = set()

    @property
    def results(self) -> tuple[Evaluation, ...]:
        """The evaluations of this test so far, in the order of their calls."""
        return tuple(e for id, e in self._checks.evaluations.items() if id in self._used)

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
        waive: Mapping[str, str] | None = None,
        autocast: bool = False,
    ) -> Evaluation:
        """Evaluate the model on the data under attack.

        Args:
            model, data, objective, batch_size, classes, normalize, non_differentiable, waive, autocast: see
                ``pytest_robust.evaluate``.
            threat: a threat in full, instead of ``norm``, ``eps`` and ``bounds``.
            norm: linf (the default), l2, l1 or l0. eps: the budget, in the units of the input. bounds: see ``Linf``.
            min_accuracy: the floor, or a floor for each budget.
            confidence, attacks, n, profile, seed, device: see the command line.
            name: tells several checks of one test apart in reports.

        Raises:
            AssertionError: robust accuracy is below the floor, or reaches it in an evaluation that is no evidence.
            pytest.UsageError: nothing names a budget, or two things do.
            RobustError: the model, the data and the threat do not fit together; ``CallError``: an argument cannot be used.
        """
        __tracebackhide__ = True
        from pytest_robust import evaluate

        id = self._id(name)
        if id not in self._checks.records:
            with self._keeping_errors(id):
                own = self._read(norm, eps, bounds, min_accuracy, confidence, attacks, n, profile, waive)
                chosen, settings = own.over(self._declared), self._settings
                where = shared_device(settings.first("device", device) or "auto")
                adapted, threat = self._threat(model, threat, own, where, normalize, classes, non_differentiable)
                self._compare_with_id(threat)
                floors = [floor_of(said.min_accuracy, threat.budget) for said in (own, self._declared)]
                floor = settings.first("fail_under", *floors)
                named = settings.first("attacks", chosen.attacks)
                watcher = progress.watch(self._item.config, self._item.name)
                try:
                    evaluation = evaluate(
                        adapted,
                        data,
                        threat,
                        objective=objective,
                        profile=settings.first("profile", chosen.profile) or DEFAULT_PROFILE,
                        attacks=None if named is None else [self._attack(attack) for attack in named],
                        min_accuracy=floor,
                        confidence=None if floor is None else settings.first("confidence", chosen.confidence),
                        n=settings.first("n", chosen.n),
                        seed=settings.first("seed", seed) or 0,
                        batch_size=batch_size,
                        device=where,
                        classes=classes,
                        normalize=None if adapted is not model else normalize,
                        non_differentiable=None if adapted is not model else non_differentiable,
                        waive=chosen.waive,
                        autocast=autocast,
                        name=name or self._item.name,
                        stop_early=self._only_asserts_a_floor(named=any(floor is not None for floor in floors)),
                        progress=watcher,
                        memory=memory.folder(self._item.config),
                    )
                finally:
                    watcher.close()
            self._remember(id, evaluation, floors_elsewhere=isinstance(chosen.min_accuracy, dict))
        judge(self._checks.records[id])
        return self._checks.evaluations[id]

    def _id(self, name: str | None) -> str:
        """The node id; with the check's name, or a number from the second call on."""
        base = self._item.nodeid if name is None else f"{self._item.nodeid}::{name}"
        id, number = base, 1
        while id in self._used:
            number += 1
            id = f"{base}#{number}"
        self._used.add(id)
        return id

    @contextlib.contextmanager
    def _keeping_errors(self, id: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._checks.errors[id] = error_line(error)
            raise
        self._checks.errors.pop(id, None)  # of an earlier run of the test

    def _read(
        self,
        norm: str | None,
        eps: Number | Budget | None,
        bounds: Any,
        min_accuracy: Number | Mapping[Number, Number] | None,
        confidence: Number | None,
        attacks: str | Sequence[str | Attack] | None,
        n: int | None,
        profile: str | None,
        waive: Mapping[str, str] | None,
    ) -> Declared:
        """What the call itself says.

        Raises:
            CallError: an argument that cannot be used.
        """
        from pytest_robust.attacks import make

        try:
            own = marker.robust(
                norm,
                min_accuracy=min_accuracy,
                confidence=confidence,
                attacks=attacks,
                n=n,
                bounds=bounds,
                profile=profile,
                waive=waive,
            )
            for attack in own.attacks or ():
                if isinstance(attack, str) and attack not in self._registered:
                    make(attack)
            # Not through the marker, which wants every floor to be for one of its budgets: one may serve several calls.
            return own if eps is None else replace(own, eps=(Budget.parse(eps),))
        except (TypeError, ValueError) as error:
            raise CallError(f"robust(...): {error}") from None

    def _remember(self, id: str, evaluation: Evaluation, *, floors_elsewhere: bool) -> None:
        check = record(evaluation, id) | {
            "tier": self._declared.tier or "critical",
            # Others have one, so that this has none may be a slip.
            "lacks_floor": evaluation.floor is None and floors_elsewhere,
            "reproduce": reproduce(self._item, self._settings, self._budget),
        }
        self._checks.evaluations[id], self._checks.records[id] = evaluation, check
        self._item.user_properties.extend(properties(check))
        self._item.config.hook.pytest_robust_result(config=self._item.config, item=self._item, result=evaluation)

    def _attack(self, attack: str | Attack) -> str | Attack:
        return self._registered[attack]() if isinstance(attack, str) and attack in self._registered else attack

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
        if self._budget is None or (float(self._budget) == float(threat.budget) and norm == threat.norm):
            return
        said, used = f"{norm} {self._budget}", f"{threat.norm} {threat.budget}"
        if marked.eps is not None:
            raise pytest.UsageError(f"the marker says {said}, the call asks for {used}: name the threat in one of them")
        warnings.warn(
            RobustWarning(f"{self._item.nodeid}: the id says {said}, as the run asks; the call asked for {used}"),
            stacklevel=3,
        )

    def _threat(
        self,
        model: Any,
        threat: Threat | None,
        own: Declared,
        device: str,
        normalize: Any,
        classes: Sequence[str] | None,
        non_differentiable: Any,
    ) -> tuple[Any, Threat]:
        """The model and the threat; a threat from a norm and a budget depends on the space of the adapted model."""
        settings, typed = self._settings, self._settings.command_line
        if threat is not None:
            if not hasattr(threat, "budget"):
                raise CallError(
                    f"robust(...): the third argument is a {type(threat).__name__}, where a threat such as Linf('8/255') "
                    "may stand; give the data as one pair: robust(model, (inputs, labels))"
                )
            if own.norm is not None or own.eps is not None or own.bounds is not Default.BOUNDS:
                raise pytest.UsageError("give robust(...) either a threat, or norm, eps and bounds; not both")
            return model, self._forced(threat) if settings.force and (typed.eps or typed.norm) else threat
        from pytest_robust import models, threats

        budget = self._chosen_budget(own)
        adapted = models.adapt(
            model, device=device, normalize=normalize, classes=classes, non_differentiable=non_differentiable
        )
        chosen = own.over(self._declared)
        limits = {} if chosen.bounds is Default.BOUNDS else {"bounds": chosen.bounds}
        if limits.get("bounds") is not None and adapted.space == "embedding":
            raise ThreatError(
                "bounds are given for a text model, whose word vectors have none; leave bounds out, "
                "in the call and in the marker"
            )
        return adapted, threats.make(
            settings.first("norm", chosen.norm) or DEFAULT_NORM, budget, space=adapted.space, **limits
        )

    def _chosen_budget(self, own: Declared) -> Budget:
        forced = self._settings.command_line.eps if self._settings.force else None
        if own.eps is not None and forced is None:
            return own.eps[0]
        if self._budget is not None:
            return self._budget
        budgets: tuple[Budget, ...] | None = self._settings.first("eps", own.eps, self._declared.eps)
        if budgets is None:
            raise pytest.UsageError(NO_BUDGET_OF_MODEL if without_file(self._item) else NO_BUDGET)
        if len(budgets) > 1:
            several = ", ".join(map(str, budgets))
            raise pytest.UsageError(
                f"several budgets ({several}) need a test that takes the fixture robust as an argument, "
                "so that it can be run once for each"
            )
        return budgets[0]

    def _forced(self, threat: Threat) -> Threat:
        """The test's threat with the budget and the norm of the command line."""
        from pytest_robust import threats

        typed = self._settings.command_line
        if threat.space == "transform":
            raise pytest.UsageError(
                f"--robust-force cannot put a norm or an eps in place of {threat.norm} {threat.budget}, an image transform; "
                "drop --robust-norm and --robust-eps, or deselect this test"
            )
        budget = self._chosen_budget(Declared()) if typed.eps else threat.budget
        if typed.norm is None or typed.norm == threat.norm:
            return threat.with_eps(budget)
        if getattr(threat, "mask", None) is not None:
            raise pytest.UsageError("--robust-force cannot change the norm of a threat with a mask; drop --robust-norm")
        return threats.make(typed.norm, budget, bounds=getattr(threat, "bounds", (0, 1)), space=threat.space)


def shared_device(spec: str) -> str:
    """With ``auto`` under xdist, the worker's share of several GPUs; else ``spec``."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if spec != "auto" or not worker.isdigit():
        return spec
    import torch

    count = torch.cuda.device_count()
    return f"cuda:{int(worker) % count}" if count > 1 else spec


def without_file(item: pytest.Item) -> bool:
    """Whether it is the check of ``--robust-model``."""
    return item.nodeid.startswith("robust::")


def error_line(error: BaseException) -> str:
    """The first line of what went wrong, after its kind."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def reproduce(item: pytest.Item, settings: Settings, budget: Budget | None) -> str:
    """The command that runs this test again as it was run."""
    arguments, target = dict(settings.arguments), f'"{item.nodeid}"'
    if without_file(item):
        # There is no path to name: the options are all there is of it.
        target = ""
        if budget is not None:
            arguments["--robust-eps"] = str(budget)
    return " ".join(word for word in ("pytest", target, *itertools.chain(*arguments.items())) if word)


def properties(check: Record) -> list[tuple[str, str | float]]:
    """Scalars for junit: anything else is printed as Python's repr there, or kills an xdist worker."""
    return [
        ("robust.check", check["id"]),
        ("robust.model", check["model"]),
        ("robust.norm", check["threat"]["norm"]),
        ("robust.eps", check["threat"]["eps"]),
        ("robust.n", check["n"]),
        ("robust.accuracy", check["robust"]["k"] / check["n"]),
        ("robust.clean_accuracy", check["clean"]["k"] / check["n"]),
        ("robust.bound", check["bound"]),
        ("robust.health", check["health"]["level"]),
        ("robust.verdict", check["verdict"]),
    ]
