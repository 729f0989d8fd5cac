"""Projects to run pytest in, with the engine replaced."""

from __future__ import annotations

import functools

import fake_engine
import pytest
from projects import ARGUMENTS, HEADER, OWN_HEADER, Run

# A run inside a test forgets the modules that it imported itself: all of the package is imported before.
from pytest_robust.evaluation import progress  # noqa: F401
from pytest_robust.reports import files, terminal  # noqa: F401


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine that runs the tests reaches the runs inside them."""
    for name in (
        "GITHUB_STEP_SUMMARY",
        "PYTEST_ROBUST_DEVICE",
        "PYTEST_ADDOPTS",
        "PYTEST_XDIST_WORKER",
        "CI",
        "GITHUB_ACTIONS",
    ):
        monkeypatch.delenv(name, raising=False)
    # Only the plugins that a test names: quicker, and the same whether this one is installed or not.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An empty project in which checks are answered by ``fake_engine``."""
    fake_engine.install(functools.partial(monkeypatch.setattr, raising=False))
    monkeypatch.syspath_prepend(pytester.path)
    return pytester


@pytest.fixture
def run(project: pytest.Pytester) -> Run:
    """Write a test file that begins with the imports every test here needs, and run pytest on it in this process."""

    def runner(source: str, *args: str) -> pytest.RunResult:
        project.makepyfile(test_it=HEADER + source)
        return project.runpytest_inprocess(*ARGUMENTS, *args, no_reraise_ctrlc=True)

    return runner


@pytest.fixture
def run_workers(project: pytest.Pytester) -> Run:
    """The same in processes of its own, as xdist needs."""

    def runner(source: str, *args: str) -> pytest.RunResult:
        project.makepyfile(test_it=OWN_HEADER + source)
        return project.runpytest_subprocess(*ARGUMENTS, "-p", "xdist.plugin", *args, timeout=120)

    return runner
