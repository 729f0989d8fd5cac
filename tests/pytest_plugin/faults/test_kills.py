"""SIGKILL, which no program can catch: whenever it comes, nothing that was finished is lost, and the end is the same."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from forks import KILLED, Forks
from projects import ARGUMENTS, LINEAR

from pytest_robust.store.files import read_arrays

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a run is forked, which this system cannot")

TESTS = """
import setup_model as m
def test_pass(robust): robust(m.net, m.data, eps=0.01, min_accuracy="10%", bounds=None)
def test_fail(robust): robust(m.net, m.data, eps=0.05, min_accuracy="100%", bounds=None)
def test_release(robust): robust(m.net, m.data, eps=0.02, bounds=None, profile="release")
"""
VERDICTS = {"pass": "pass", "fail": "fail", "release": "report"}
KILLS, IN_A_ROW = 50, 6
OPTIONS = (*ARGUMENTS, "-p", "no:cacheprovider", "--robust-device=cpu", "--robust-report=r.json", "test_it.py")
NOT_OF_THE_RESULT = ("cached", "cost", "stages")
"""What a check cost when its last part was done; all else is to be the same."""


class Project:
    """A project, and what lies in its folder ``.robust``."""

    def __init__(self, path: Path) -> None:
        self.path, self.store = path, path / ".robust"

    def outcome(self) -> list[dict]:
        """The checks as reported, without what may differ."""
        checks = json.loads((self.path / "r.json").read_text())["checks"]
        return [{name: value for name, value in check.items() if name not in NOT_OF_THE_RESULT} for check in checks]

    def cached(self) -> set[str]:
        return {check["key"] for check in json.loads((self.path / "r.json").read_text())["checks"] if check["cached"]}

    def finished(self) -> dict[str, bytes]:
        """The finished checks by key; each is whole, and so is every other file."""
        for path in (*self.store.glob("checks/[!.]*"), *self.store.glob("unfinished/[!.]*")):
            read_arrays(path)
        for path in (*self.store.glob("runs/[!.]*"), *self.path.glob("r.json")):
            json.loads(path.read_text())
        return {path.stem: path.read_bytes() for path in self.store.glob("checks/[!.]*")}

    def drafts(self) -> list[Path]:
        return list(self.path.rglob("*.tmp"))

    def clear(self) -> None:
        shutil.rmtree(self.store, ignore_errors=True)
        (self.path / "r.json").unlink(missing_ok=True)


@pytest.fixture
def project(pytester):
    pytester.makepyfile(setup_model=LINEAR, test_it=TESTS)
    return Project(pytester.path)


def told(project: Project) -> str:
    return (project.path / "log.txt").read_text()


def ends_as_it_should(project: Project, status: int, before: dict[str, bytes], whole: list[dict]) -> None:
    """A run that was not killed: the verdicts of a run without kills, and nothing done again that was finished before."""
    assert status == 1, told(project)
    assert project.outcome() == whole
    assert project.cached() == before.keys()
    assert "cannot be used" not in told(project)
    assert {path.parent.name for path in project.store.rglob("*.safetensors")} == {"checks"}, "nothing is unfinished"
    assert len(project.finished()) == len(whole)


def leaves_no_draft(project: Project, forks: Forks) -> None:
    """What was being written when a kill came is gone with a run that begins an hour later."""
    for draft in project.drafts():
        os.utime(draft, (0, 0))
    forks.run(*OPTIONS)
    assert project.drafts() == []


@pytest.mark.timeout(900)  # a hundred runs; on a machine that does other things as well they take minutes
def test_fifty_kills_at_random_moments(project):
    rng, kills, rounds = random.Random(0), 0, 0
    with Forks(project.path) as forks:
        status, seconds = forks.run(*OPTIONS)
        whole = project.outcome()
        assert status == 1
        assert {check["name"].removeprefix("test_"): check["verdict"] for check in whole} == VERDICTS
        while kills < KILLS:
            project.clear()
            rounds += 1
            for attempt in range(IN_A_ROW + 1):
                before = project.finished()
                after = None if attempt == IN_A_ROW else rng.uniform(0, 1.2 * seconds)
                status, _ = forks.run(*OPTIONS, after=after, saving=rounds % 2 == 0)
                assert before.items() <= project.finished().items(), "a finished check is lost"
                if status != KILLED:
                    break
                kills += 1
            ends_as_it_should(project, status, before, whole)
        leaves_no_draft(project, forks)


def test_a_kill_at_every_step_of_every_write(project):
    two = (*OPTIONS, "-k", "pass or fail")
    with Forks(project.path) as forks:
        forks.run(*two)
        whole, moment, status = project.outcome(), 0, KILLED
        while status == KILLED:
            project.clear()
            moment += 1
            status, _ = forks.run(*two, moment=moment)
            before = project.finished()
            ends_as_it_should(project, forks.run(*two)[0], before, whole)
        # Two checks, the run, the report and what tells git to ignore them: made durable, renamed, and its draft removed.
        assert moment > 3 * 5
        leaves_no_draft(project, forks)


TWO = """
import os, signal, time
from pathlib import Path
import setup_model as m
def test_first(robust): robust(m.net, m.data, eps=0.01, min_accuracy="10%", bounds=None)
def test_second(robust):
    if os.environ["FATE"] == "wait":
        Path("worker").write_text(str(os.getpid()))
        time.sleep(300)
    if os.environ["FATE"] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    robust(m.net, m.data, eps=0.02, min_accuracy="10%", bounds=None)
"""


def test_a_killed_controller_and_a_killed_worker_lose_nothing_that_was_finished(project, monkeypatch):
    (project.path / "test_it.py").write_text(TWO)
    command = [sys.executable, "-m", "pytest", *OPTIONS, "-p", "xdist.plugin", "-n1"]

    def run() -> tuple[int, str]:
        done = subprocess.run(command, cwd=project.path, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stdout

    monkeypatch.setenv("FATE", "wait")
    worker = project.path / "worker"
    with subprocess.Popen(command, cwd=project.path, stdout=subprocess.DEVNULL) as controller:
        wait_until(lambda: worker.is_file() and worker.read_text())
        controller.kill()
    wait_until(lambda: not Path(f"/proc/{worker.read_text()}").exists())
    (first,) = before = project.finished()

    monkeypatch.setenv("FATE", "die")
    status, out = run()
    assert status == 1
    assert "robust gate: FAIL, 1 error" in out
    assert "test_it.py::test_second" in out
    assert project.cached() == {first}

    monkeypatch.setenv("FATE", "live")
    status, out = run()
    assert status == 0, out
    assert project.cached() == {first}
    assert before.items() < project.finished().items()


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
