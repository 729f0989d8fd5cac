"""``--robust-replay`` inside a test: the call puts one stored adversarial example to the model, and is the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pytest_robust.errors import RobustError
from pytest_robust.pytest_plugin import memory
from pytest_robust.pytest_plugin.call import Asked
from pytest_robust.pytest_plugin.outcome import verdict_error
from pytest_robust.store.held import Held


class Ended(BaseException):
    """Ends a test whose replays are done: what it asserts next is about an evaluation, and there was none.

    No ``Exception``, as the outcomes of pytest are none: a test that catches errors does not catch it.
    """


@dataclass
class Replays:
    """The replays of one test.

    Attributes:
        wanted: the ID as typed. held: by check, the example that is to be replayed. save_to: the file to write it to.
        told: by check, what came of it, in one sentence. broken: the first of these that says "still broken".
    """

    wanted: str
    held: Mapping[str, Held]
    save_to: Path | None = None
    told: dict[str, str] = field(default_factory=dict)
    broken: str | None = None

    @property
    def left(self) -> list[str]:
        """The checks that were not reached yet."""
        return [check for check in self.held if check not in self.told]


REPLAYS: pytest.StashKey[Replays] = pytest.StashKey()


class NoResult:
    """What a call gives in a replay while other checks of the test are still to come: no evaluation.

    Raises:
        RobustError: on every use.
    """

    def __init__(self, replays: Replays) -> None:
        self._replays = replays

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise RobustError(
            f"--robust-replay {self._replays.wanted}: .{name} is asked of a check that was not evaluated, before "
            f"{', '.join(self._replays.left)} was reached; give that check a test of its own"
        )


def passed_over(item: pytest.Item) -> Any:
    """In place of a result. Ends the test once there is nothing left to replay in it."""
    replays = item.stash[REPLAYS]
    if not replays.left:
        raise Ended
    return NoResult(replays)


def again(item: pytest.Item, check: str, asked: Asked, data: object) -> Any:
    """Put the check's stored adversarial example to the model, by itself and without any attack.

    Raises:
        AssertionError: it is still broken. Ended: it is not, and nothing is left to replay in this test.
        RobustError: it cannot be told.
    """
    __tracebackhide__ = True
    replays = item.stash[REPLAYS]
    if replays.broken is not None:
        # In a rerun of the test, too.
        raise verdict_error(replays.broken)
    held = replays.held.get(check)
    if held is not None and check not in replays.told:
        broken, sentence = _tried(replays, held, asked, data, memory.root(item.config))
        replays.told[check] = sentence
        if broken:
            replays.broken = sentence
            raise verdict_error(sentence)
    return passed_over(item)


def _tried(replays: Replays, held: Held, asked: Asked, data: object, root: Path) -> tuple[bool, str]:
    """Whether it is still broken, and the sentence that says so."""
    from pytest_robust.evaluation.retry import retry
    from pytest_robust.store.witness import save_witness, stored_point, told

    called, threat = f"example {held.number}", asked.threat
    if threat.budget.unit is not None and threat.space == held.threat["space"]:
        # It stays the radius that it was when the example was found.
        threat = threat.with_eps(held.threat["value"])
    where = f"--robust-replay {replays.wanted}: {called} of {held.check}, stored by run {held.run}"
    now, then = (f"{one['norm']} {one['eps']}, {one['bounds']}" for one in (vars(threat.summary()), held.threat))
    # Parameters of a transform are shares of its limits: under others the same point is another image.
    if threat.space != held.threat["space"] or (threat.space == "transform" and now != then):
        raise RobustError(f"{where}: it was found under {then}, and the check now asks for {now}; run the check again")
    point = stored_point(root, held)
    options = {name: value for name, value in asked.options.items() if name in _OPTIONS}
    try:
        found = retry(asked.model, data, held.id, threat, point, **options)
    except RobustError as error:
        raise type(error)(f"{where}: {error}") from None
    sentence = told(found, called, str(threat.summary()), held.found_by)
    if found.verdict not in ("broken", "mended"):
        raise RobustError(f"{where}: {sentence}")
    if replays.save_to is not None:
        save_witness(replays.save_to, held, found, threat, asked.options["objective"])
    return found.verdict == "broken", sentence


_OPTIONS = (
    "objective",
    "seed",
    "device",
    "classes",
    "normalize",
    "non_differentiable",
    "draws",
    "waive",
)
"""Those of a call that have a say in what the model makes of one example."""
