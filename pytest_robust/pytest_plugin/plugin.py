"""The plugin: options, marker, fixture and hooks, wired to what does the work. PYTEST_DONT_REWRITE

Loading it, and collecting a project without robust tests, imports the standard library and pytest only: what needs torch
is imported when a check runs.
"""

from __future__ import annotations

import json
from collections.abc import Generator

import pytest

from pytest_robust.budget import Budget
from pytest_robust.errors import RobustError
from pytest_robust.pytest_plugin import collect, hookspecs, replay_session, retraining
from pytest_robust.pytest_plugin.checks import Checks, error_line
from pytest_robust.pytest_plugin.collect import CHECKS, SETTINGS, is_robust
from pytest_robust.pytest_plugin.compare import explain
from pytest_robust.pytest_plugin.fixture import Robust
from pytest_robust.pytest_plugin.marker import Declared, declared
from pytest_robust.pytest_plugin.options import DEFAULT_NORM, DEFAULT_PROFILE, add_options
from pytest_robust.pytest_plugin.outcome import is_verdict, unbelievable
from pytest_robust.pytest_plugin.selfcheck import SelfCheck, note
from pytest_robust.pytest_plugin.session import FINDINGS, Ledger, findings, sections
from pytest_robust.pytest_plugin.settings import Settings
from pytest_robust.pytest_plugin.shards import NO_VERDICT
from pytest_robust.reports.run import ItemResult, judged, with_curves

_MARKER = (
    "robust(norm, eps, *, min_accuracy, attacks, n, bounds, profile, tier='critical'): what the check of the fixture robust "
    "must show; tests that take the fixture are marked by themselves"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)
    settings = config.stash[SETTINGS] = Settings.read(config)
    if settings.replay is not None:
        replay_session.register(config, settings.replay, settings.witness)
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Ledger(config, settings), "pytest-robust-ledger")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    collect.parametrise(metafunc)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    collect.add_without_files(collector, report)
    return report


# First, so that ``-m robust`` sees the marks.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    collect.modify(session, items)


@pytest.fixture
def robust(request: pytest.FixtureRequest) -> Robust:
    """Check a model's adversarial robustness: ``robust(model, data, eps="8/255", min_accuracy=0.4)``."""
    budget: Budget | None = getattr(request, "param", None)
    return collect.bind(request.node, budget)


@pytest.fixture
def robust_trainer() -> dict[str, object]:
    """What ``--robust-retrain`` trains on, and how: a mapping of arguments of ``pytest_robust.retrain``, ``train_data``
    among them. A project defines a fixture of this name; this one names nothing.
    """
    return {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    try:
        return (yield from _judged(item))
    finally:
        # While the test's fixtures are still there.
        retraining.after(item, _checks(item).failed)


def _judged(item: pytest.Item) -> Generator[None, None, None]:
    missed = _checks(item).missed
    try:
        yield
    except pytest.skip.Exception:
        if missed is None:
            raise
    except (Exception, pytest.fail.Exception) as error:
        if not _checks(item).shares or _checks(item).errors:
            raise
        # The test's own assertions ask for all examples: they wait, as it does, for the merge.
        pytest.skip(f"{NO_VERDICT}; its own assertions wait as well ({error_line(error)})")
    if _checks(item).shares:
        pytest.skip(NO_VERDICT)
    if missed is not None:
        pytest.fail(missed, pytrace=False)
    checks = _checks(item)
    said = declared(item) if is_robust(item) and item.config.stash[SETTINGS].replay is None else Declared()
    lost = next((f"its check ended in an error: {error}" for error in checks.errors.values()), None)
    if (said.min_ndcg is not None or said.min_consistency is not None) and not checks.fluctuations:
        why = lost or "it never called robust.fluctuation(model, data)"
        pytest.fail(f"a floor of a mean is set for this test, but {why}", pytrace=False)
    if not checks.evaluations and not checks.curves and _expects_a_check(item):
        pytest.fail(f"a floor is set for this test, but {lost or 'it never called robust(model, data)'}", pytrace=False)
    sentence = unbelievable(list(checks.records.values()))
    if sentence is not None:
        pytest.fail(sentence, pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if isinstance(item, SelfCheck):
        note(report, item, call)
    if not is_robust(item):
        return report
    # ``setattr``: reports carry any attribute that is plain JSON to the controller, but declare none of ours.
    found = findings(_checks(item), call)
    if item.config.stash[SETTINGS].replay is None:  # which evaluates nothing
        setattr(report, FINDINGS, json.dumps(found))
    if report.failed:
        if call.excinfo is not None and isinstance(call.excinfo.value, (RobustError, pytest.UsageError)):
            # The message says it all; the frames between the test and the model are ours.
            report.longrepr = call.excinfo.getrepr(style="value", chain=False)
        elif call.excinfo is not None and is_verdict(call.excinfo.value):
            _checks(item).missed = str(call.excinfo.value)
            _shorten(report, item, call.excinfo)
        report.sections += sections(
            with_curves(judged(ItemResult(item.nodeid, "failed", found["records"], raised=found["raised"])))
        )
    return report


def _shorten(report: pytest.TestReport, item: pytest.Item, error: pytest.ExceptionInfo[BaseException]) -> None:
    """Show the line of the call and the sentence: models and data among the arguments would fill the screen."""
    if isinstance(item, pytest.Function) and item.config.getoption("tbstyle", "auto") == "auto":
        report.longrepr = error.getrepr(
            style="short", chain=False, tbfilter=lambda shown: shown.traceback.cut(path=item.path).filter(shown)
        )


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    return explain(op, left, right)


def pytest_report_header(config: pytest.Config) -> str | None:
    settings = config.stash[SETTINGS]
    return None if settings.silent else _header(settings)


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> str | None:
    settings = config.stash[SETTINGS]
    shown = not settings.silent or config.get_verbosity() < 0
    return None if shown or not any(map(is_robust, items)) else _header(settings)


def _header(settings: Settings) -> str:
    if settings.replay is not None:
        return f"robust: replay of {settings.replay}, no attack"
    if settings.selfcheck is not None:
        return f"robust: self-check of {', '.join(settings.selfcheck) or 'the engine'}"
    eps: tuple[Budget, ...] | None = settings.first("eps")
    norm, profile = settings.first("norm") or DEFAULT_NORM, settings.first("profile") or DEFAULT_PROFILE
    budgets = f"{norm} {', '.join(map(str, eps))}" if eps else "budgets from the tests"
    n: int | None = settings.first("n")
    parts = [
        *([] if settings.shard is None else [f"shard {settings.shard}"]),
        *([] if settings.merge is None else [f"merge of {len(settings.merge.folders)} shards"]),
        budgets,
        f"profile {profile}",
        *([f"n={n}"] if n else []),
        f"seed {settings.first('seed') or 0}",
    ]
    return f"robust: {', '.join(parts)}"


def _checks(item: pytest.Item) -> Checks:
    return item.stash.get(CHECKS, Checks())


def _expects_a_check(item: pytest.Item) -> bool:
    """A floor was set for it, by its marker or for the whole run; a replay has none."""
    if item.config.stash[SETTINGS].replay is not None:
        return False
    asked = declared(item).min_accuracy if is_robust(item) else None
    # A project's own fixture of this name is bound to nothing, and a floor of the run is not meant for it, nor for a test
    # of witnesses, nor for one that measures means.
    bound = asked is not None or (CHECKS in item.stash and not _checks(item).witnesses and not _checks(item).fluctuations)
    return is_robust(item) and bound and item.config.stash[SETTINGS].first("fail_under", asked) is not None
