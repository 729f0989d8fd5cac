"""A check with a known answer, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pytest_robust.conformance.subject import Subject

Verdict = Literal["pass", "FAIL", "skip"]


@dataclass(frozen=True)
class Outcome:
    """What was expected and what came, in words; ``skip`` where the check is not for this subject."""

    expected: str
    got: str
    verdict: Verdict

    @classmethod
    def of(cls, fine: bool, expected: str, got: str) -> Outcome:
        return cls(expected, got, "pass" if fine else "FAIL")


@dataclass(frozen=True)
class Check:
    """A named check.

    Attributes:
        run: checks a subject; it raises where the subject's attack does. engine_only: says nothing about a lone attack.
    """

    name: str
    run: Callable[[Subject], Outcome]
    engine_only: bool = False


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"
