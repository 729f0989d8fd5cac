"""Progress of a check: a bar on a terminal, a line every 30 s in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from tqdm import tqdm

    from pytest_robust.evaluation.progress import Progress

BAR_SECONDS, LINE_SECONDS = 0.1, 30.0
LAST = pytest.StashKey[str]()
"""How far the check that is running has come; there only while one is."""


class Watcher(Protocol):
    """Called by the evaluation with each ``Progress``; closed when it is over."""

    def __call__(self, event: Progress) -> None: ...
    def close(self) -> None: ...


def watch(config: pytest.Config, title: str) -> Watcher:
    """What shows the progress of one check in this process."""
    if config.get_verbosity() < 0:
        return Silent(config, title)
    capture = config.pluginmanager.getplugin("capturemanager")
    uncaptured = nullcontext if capture is None else capture.global_and_fixture_disabled
    terminal = config.pluginmanager.getplugin("terminalreporter")
    if terminal is None or hasattr(config, "workerinput"):
        return Lines(config, title, uncaptured, lambda line: sys.stderr.write(f"{line}\n"))
    if terminal.isatty:
        return Bar(config, title, uncaptured, terminal.ensure_newline)

    def write(line: str) -> None:
        terminal.ensure_newline()
        terminal.write_line(line)

    return Lines(config, title, uncaptured, write)


class Silent:
    """Shows nothing; remembers how far the check has come, for the summary of an interrupted session."""

    def __init__(self, config: pytest.Config, title: str) -> None:
        self._config, self._title = config, title

    def __call__(self, event: Progress) -> None:
        self._config.stash[LAST] = describe(self._title, event)
        self.show(event)

    def show(self, event: Progress) -> None:
        """Nothing to show."""

    def close(self) -> None:
        # An interrupted check stays in the stash: the summary names it.
        if not isinstance(sys.exc_info()[1], KeyboardInterrupt) and LAST in self._config.stash:
            del self._config.stash[LAST]


class Lines(Silent):
    """A line at most every 30 s."""

    def __init__(
        self,
        config: pytest.Config,
        title: str,
        uncaptured: Callable[[], AbstractContextManager[None]],
        write: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(config, title)
        self._uncaptured, self._write, self._clock = uncaptured, write, clock
        self._started = self._shown = clock()

    def show(self, event: Progress) -> None:
        now = self._clock()
        if now - self._shown >= LINE_SECONDS:
            self._shown = now
            with self._uncaptured():
                self._write(f"robust: {describe(self._title, event)}, {now - self._started:.0f} s")


class Bar(Silent):
    """A tqdm bar on the terminal's standard error, gone when the check is over."""

    def __init__(
        self,
        config: pytest.Config,
        title: str,
        uncaptured: Callable[[], AbstractContextManager[None]],
        newline: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(config, title)
        self._uncaptured, self._newline, self._clock = uncaptured, newline, clock
        self._bar: tqdm[None] | None = None
        self._shown = -float("inf")

    def show(self, event: Progress) -> None:
        now = self._clock()
        # Lifting the capture for each batch would cost more than a small model's batch.
        if now - self._shown < BAR_SECONDS:
            return
        self._shown = now
        with self._uncaptured():
            if self._bar is None:
                self._newline()
                self._bar = _bar(event.total, self._title)
            self._bar.set_postfix_str(f"{event.attack}, robust <= {100 * event.accuracy:.1f}%", refresh=False)
            self._bar.n = event.decided
            self._bar.refresh()

    def close(self) -> None:
        super().close()
        if self._bar is not None:
            with self._uncaptured():
                self._bar.close()


def describe(title: str, event: Progress) -> str:
    """``test_release[linf-8/255]: apgd-ce, 214 of 1000 decided, robust accuracy <= 45.1%``."""
    decided = f"{event.decided} of {event.total} decided"
    return f"{title}: {event.attack}, {decided}, robust accuracy <= {100 * event.accuracy:.1f}%"


def _bar(total: int, title: str) -> tqdm[None]:
    from tqdm import tqdm

    # tqdm's monitor thread would write to a captured stream at any time.
    unmonitored: type[tqdm[None]] = type("Unmonitored", (tqdm,), {"monitor_interval": 0})
    return unmonitored(total=total, desc=title, unit="ex", ascii=True, leave=False, dynamic_ncols=True, file=sys.stderr)
