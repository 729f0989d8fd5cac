"""The conformance suite: checks with known answers, for the engine and for attacks that others write. It needs no pytest."""

from __future__ import annotations

from pytest_robust.conformance import invariance, manners, strength, trust
from pytest_robust.conformance.check import Check, Outcome
from pytest_robust.conformance.subject import Subject
from pytest_robust.evaluation.schedule import PROFILES

CHECKS: tuple[Check, ...] = (*strength.CHECKS, *invariance.CHECKS, *manners.CHECKS, *trust.CHECKS)
ENGINE = tuple(Subject(name) for name, profile in PROFILES.items() if profile.evidence)
"""The engine with each profile whose PASS is evidence."""

__all__ = ["CHECKS", "ENGINE", "Check", "Outcome", "Subject"]
