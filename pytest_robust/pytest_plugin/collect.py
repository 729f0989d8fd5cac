"""Collection: robust tests are marked, checked and run once per budget; a named model becomes a test without a file."""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from pytest_robust.budget import Budget
from pytest_robust.pytest_plugin.call import FIXTURE, budget_id
from pytest_robust.pytest_plugin.checks import Checks
from pytest_robust.pytest_plugin.fixture import Robust
from pytest_robust.pytest_plugin.marker import Declared, declared
from pytest_robust.pytest_plugin.selfcheck import NODE, SelfCheck, SelfCheckCollector
from pytest_robust.pytest_plugin.settings import Settings

if TYPE_CHECKING:
    from _pytest._code.code import TerminalRepr, TracebackStyle

    from pytest_robust.attacks import Attack

SETTINGS = pytest.StashKey[Settings]()
CHECKS = pytest.StashKey[Checks]()
ATTACKS = pytest.StashKey["dict[str, Callable[[], Attack]]"]()
WORKER_USAGE_ERROR = "robust_usage_error"


def is_robust(item: pytest.Item) -> bool:
    """Whether the item checks robustness: it takes the fixture, or is a model named on the command line."""
    return isinstance(item, ModelCheck) or FIXTURE in getattr(item, "fixturenames", ())


def bind(item: pytest.Item, budget: Budget | None) -> Robust:
    """The ``Robust`` of a test. The checks of an earlier run of the same item stay known to it."""
    return Robust(
        item,
        item.config.stash[SETTINGS],
        declared(item),
        item.stash.setdefault(CHECKS, Checks()),
        budget=budget,
        registered=item.config.stash.get(ATTACKS, {}),
    )


def budgets(settings: Settings, marked: Declared) -> tuple[Budget, ...]:
    """The budgets known at collection; those of a mapping of floors where nothing names any."""
    named: tuple[Budget, ...] | None = settings.first("eps", marked.eps)
    if named is None and isinstance(marked.min_accuracy, dict):
        return tuple(marked.min_accuracy)
    return named or ()


def parametrise(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes the fixture once for each budget known at collection; with none known leave it as it is."""
    if FIXTURE not in metafunc.fixturenames:
        return
    settings = metafunc.config.stash[SETTINGS]
    try:
        marked = declared(metafunc.definition)
    except pytest.UsageError:
        return  # an error here would be one of collection, exit code 2; ``modify`` raises it as what it is
    known = budgets(settings, marked)
    if known:
        ids = [budget_id(settings, marked, budget) for budget in known]
        metafunc.parametrize(FIXTURE, known, indirect=True, ids=ids)


def modify(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Mark and check what was collected.

    Raises:
        pytest.UsageError: a marker, an attack's name or a named model that cannot be used. In an xdist worker, where it
            would end in an internal error, the worker runs nothing and tells the controller.
    """
    with usage_errors_told(session.config, items):
        _check(session.config, items)


@contextlib.contextmanager
def usage_errors_told(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Inside, in an xdist worker, a UsageError is kept for the controller, and nothing is run; elsewhere it is raised."""
    try:
        yield
    except pytest.UsageError as error:
        if not hasattr(config, "workeroutput"):
            raise
        # The first says what is wrong; others follow from it.
        config.workeroutput.setdefault(WORKER_USAGE_ERROR, str(error))
        items.clear()


def _check(config: pytest.Config, items: list[pytest.Item]) -> None:
    settings = config.stash[SETTINGS]
    sources = {"--robust-attack": settings.command_line, "ini option robust_attacks": settings.configured}
    named = {name: where for where, choices in sources.items() for name in choices.attacks or ()}
    robust_items = 0
    for item in items:
        marked = declared(item)
        if is_robust(item):
            robust_items += 1
            where = f"{item.nodeid}: marker robust(...)"
            named |= {name: where for name in marked.attacks or () if isinstance(name, str)}
            if item.get_closest_marker(FIXTURE) is None:
                item.add_marker(FIXTURE)
        elif any(mark.name == FIXTURE and (mark.args or mark.kwargs) for mark in item.own_markers):
            raise pytest.UsageError(
                f"{item.nodeid}: the marker robust(...) checks nothing by itself; "
                "take the fixture robust as an argument and call robust(model, data)"
            )
        if isinstance(item, ModelCheck):
            item.load()
        elif isinstance(item, SelfCheck):
            robust_items += 1
            named |= {item.attack: "--robust-selfcheck"} if item.attack is not None else {}
    if robust_items:
        registered = _registered(config)
        config.stash[ATTACKS] = registered
        _check_attacks({name: where for name, where in named.items() if name not in registered}, registered)
        for item in items:
            if isinstance(item, SelfCheck):
                item.prepare(registered)


def _registered(config: pytest.Config) -> dict[str, Callable[[], Attack]]:
    attacks: dict[str, Callable[[], Attack]] = {}
    answers: list[Mapping[str, Callable[[], Attack]]] = config.hook.pytest_robust_attacks(config=config)
    for answer in answers:
        for name, maker in answer.items():
            if name in attacks:
                raise pytest.UsageError(f"pytest_robust_attacks: two plugins call an attack {name!r}; rename one")
            attacks[name] = maker
    return attacks


def _check_attacks(named: dict[str, str], registered: Collection[str]) -> None:
    """Raises UsageError for an unknown name, with where it is named, and what is called nearly so."""
    if not named:
        return  # do not import torch
    from pytest_robust.attacks import NAMES

    known = (*NAMES, *registered)
    for name, where in named.items():
        if name not in NAMES:
            close = difflib.get_close_matches(name, known, n=2)
            meant = f"; did you mean {' or '.join(close)}?" if close else ""
            raise pytest.UsageError(f"{where}: no attack is called {name!r}; known: {', '.join(known)}{meant}")


class ModelCollector(pytest.Collector):
    """Collects the model of ``--robust-model``: ``robust::NAME[linf-8/255]``."""

    def collect(self) -> Iterator[pytest.Item]:
        settings = self.config.stash[SETTINGS]
        name = str(settings.model).rpartition(":")[2]
        for budget in budgets(settings, Declared()) or (None,):
            suffix = "" if budget is None else f"[{budget_id(settings, Declared(), budget)}]"
            yield ModelCheck.from_parent(self, name=f"{name}{suffix}", budget=budget)


class ModelCheck(pytest.Item):
    """One check of the model named on the command line, on the data named there."""

    def __init__(self, *, budget: Budget | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._budget = budget

    def load(self) -> tuple[Any, Any]:
        """The two attributes, not called yet.

        Raises:
            pytest.UsageError: one cannot be imported.
        """
        settings = self.config.stash[SETTINGS]
        for folder in (str(self.config.rootpath), str(self.config.invocation_params.dir)):
            if folder not in sys.path:
                sys.path.insert(0, folder)
        return _attribute("--robust-model", str(settings.model)), _attribute("--robust-data", str(settings.data))

    def runtest(self) -> None:
        model, data = (_made(attribute) for attribute in self.load())
        bind(self, self._budget)(model, data)

    def repr_failure(
        self, excinfo: pytest.ExceptionInfo[BaseException], style: TracebackStyle | None = None
    ) -> str | TerminalRepr:
        # There is no test to show the lines of: a missed floor is its sentence.
        return super().repr_failure(excinfo, "value" if isinstance(excinfo.value, AssertionError) else style)

    def reportinfo(self) -> tuple[str, None, str]:
        return str(self.path), None, f"robust: {self.name}"


def add_without_files(collector: pytest.Collector, report: pytest.CollectReport) -> None:
    """Add the model of ``--robust-model``, if any, to what was collected from files; a self-check replaces it all."""
    if not isinstance(collector, pytest.Session) or not report.passed:
        return
    settings = collector.config.stash[SETTINGS]
    if settings.selfcheck is not None:
        report.result = [
            SelfCheckCollector.from_parent(collector, name=NODE, nodeid=NODE, attacks=settings.selfcheck),
        ]
    elif settings.model is not None:
        report.result.append(ModelCollector.from_parent(collector, name=FIXTURE, nodeid=FIXTURE))


def _attribute(option: str, spec: str) -> Any:
    module, _, path = spec.partition(":")
    try:
        return functools.reduce(getattr, path.split("."), importlib.import_module(module))
    except Exception as error:  # whatever the user's module raises while it is imported
        raise pytest.UsageError(
            f"{option} {spec}: {type(error).__name__}: {error}; PKG is imported as Python does, "
            "with the current and the root directory on sys.path"
        ) from None


def _made(attribute: Any) -> Any:
    """The attribute, or what it returns where it is a class, or a function that needs no argument."""
    if inspect.isclass(attribute):
        return attribute()
    if inspect.isroutine(attribute) or isinstance(attribute, functools.partial):
        parameters = inspect.signature(attribute).parameters.values()
        optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        if all(p.default is not p.empty or p.kind in optional for p in parameters):
            return attribute()
    return attribute
