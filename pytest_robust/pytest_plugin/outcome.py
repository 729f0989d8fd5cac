"""What a verdict does to a test: fail it with one sentence, warn, or nothing."""

from __future__ import annotations

import warnings

import pytest

from pytest_robust.reports import words
from pytest_robust.reports.record import Record

TEST_FRAME = 3
"""A warning is shown at the line of the test: it calls the fixture, which calls ``judge``."""


_VERDICT = "_robust_verdict"
"""Marks our own errors: a class of its own would put its name before the sentence."""


class RobustWarning(pytest.PytestWarning):
    """A check passed or was only advisory, and there is something to know about it.

    It keeps the name of this module: an xdist controller looks a worker's warning up there, and ends where it is not.
    """


def judge(check: Record) -> None:
    """Fail the test when the floor is missed or a floor is met without evidence; warn where that is enough.

    An advisory check only warns. A check without a floor is judged by its test, then by ``unbelievable``.

    Raises:
        AssertionError: with the whole verdict as its first line.
    """
    __tracebackhide__ = True
    sentence = words.failure(check)
    if sentence is not None and check["tier"] == "critical":
        raise verdict_error(sentence)
    if sentence is not None:
        warnings.warn(RobustWarning(f"{check['id']}: advisory: {sentence.removeprefix('assert ')}"), stacklevel=TEST_FRAME)
    elif check["health"]["level"] == "suspicious":
        warnings.warn(RobustWarning(words.suspicion(check)), stacklevel=TEST_FRAME)


def verdict_error(sentence: str) -> AssertionError:
    """The error that fails a test with this sentence as its first line."""
    error = AssertionError(sentence)
    setattr(error, _VERDICT, True)
    return error


def is_verdict(error: BaseException) -> bool:
    """Whether ``verdict_error`` made it."""
    return getattr(error, _VERDICT, False) is True


def unbelievable(checks: list[Record]) -> str | None:
    """The sentence for a test that passed although one of its checks is no evidence; None when all can be believed.

    A missed floor needs no trust: an attack that is broken itself can only find fewer adversarial examples.
    """
    for check in checks:
        if not check["believable"] and check["tier"] == "critical" and not words.misses_floor(check):
            return words.not_evidence(check)
    return None
