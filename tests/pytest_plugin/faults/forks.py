"""Runs of pytest that may be killed: forks of a process which has imported torch, so that a start costs none of its seconds.

As a script it is that process: one order a line, in JSON, and for each the exit status of the run. ``Forks`` talks to it.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

KILLED = -signal.SIGKILL


class Forks:
    """The process, for a with statement."""

    def __init__(self, folder: Path) -> None:
        """``folder``: where the runs take place."""
        self._process = subprocess.Popen(
            [sys.executable, __file__], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(
        self, *arguments: str, after: float | None = None, moment: int | None = None, saving: bool = False
    ) -> tuple[int, float]:
        """Run pytest; its exit status, negative where a signal ended it, and the seconds that it lived.

        Args:
            after: seconds until it is killed. moment: it is killed when for this time a file is to be made durable,
                renamed or removed. saving: unfinished checks are saved at each occasion, not every 20 seconds.
        """
        order = {"arguments": arguments, "after": after, "moment": moment, "saving": saving}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        status, seconds = json.loads(self._process.stdout.readline())
        return status, seconds


def _serve() -> None:
    gc.freeze()  # pytest collects garbage at its end: not among all that was imported here
    for line in sys.stdin:
        order = json.loads(line)
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            _run(order)
        if order["after"] is not None:
            time.sleep(order["after"])
            os.kill(child, signal.SIGKILL)  # one that has ended is still there until it is waited for
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(1, f"{json.dumps([status, time.monotonic() - began])}\n".encode())


def _run(order: dict[str, Any]) -> None:
    """In the fork: what the order says, and no return."""
    status = 70
    try:
        log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(log, stream)
        if order["saving"]:
            checkpoint._EVERY = 0.0
        if order["moment"] is not None:
            count = itertools.count(1)
            for place, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink")):
                setattr(place, name, _deadly(getattr(place, name), count, order["moment"]))
        status = pytest.main(order["arguments"])
        sys.stdout.flush()
    finally:
        os._exit(status)


def _deadly(call: Callable[..., Any], count: itertools.count[int], moment: int) -> Callable[..., Any]:
    def instead(*arguments: Any, **options: Any) -> Any:
        if next(count) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)

    return instead


if __name__ == "__main__":
    import pytest

    # What a run of a check imports.
    import pytest_robust.reports.files
    import pytest_robust.reports.terminal
    import pytest_robust.store.folder  # noqa: F401
    from pytest_robust.evaluation import checkpoint, engine  # noqa: F401

    _serve()
