"""The engine conforms, an ordinary attack does, and each planted mistake is caught by the check that is meant for it."""

from __future__ import annotations

import bad_attacks
import pytest

from pytest_robust.attacks import PGD
from pytest_robust.conformance import CHECKS, ENGINE, Subject
from pytest_robust.conformance.subject import NoNormError

BY_NAME = {check.name: check for check in CHECKS}
FOR_ATTACKS = [check for check in CHECKS if not check.engine_only]
STANDARD, RELEASE = ENGINE


def outcome(name: str, attack):
    return BY_NAME[name].run(Subject("planted", attack))


def test_names_are_unique_and_profiles_are_those_that_are_evidence():
    assert len(BY_NAME) == len(CHECKS)
    assert [subject.name for subject in ENGINE] == ["standard", "release"]


@pytest.mark.parametrize("name", BY_NAME)
def test_the_engine_conforms(name):
    result = BY_NAME[name].run(STANDARD)
    assert result.verdict == "pass", result


@pytest.mark.parametrize("name", ["linear-linf", "linear-l2", "linear-l1", "linear-l0", "relu-linf", "relu-l1"])
def test_the_longest_schedule_is_exact(name):
    result = BY_NAME[name].run(RELEASE)
    assert result.verdict == "pass", result


@pytest.mark.parametrize("name", [check.name for check in FOR_ATTACKS])
def test_an_ordinary_attack_passes(name):
    result = outcome(name, PGD)
    assert result.verdict == "pass", result


def test_how_far_an_inexact_attack_is_off_is_said():
    assert outcome("linear-l0", PGD).got == "37.5%, 1.2 points too high"


@pytest.mark.parametrize(
    ("attack", "name", "got"),
    [
        ("Identity", "linear-linf", "points too high"),
        ("Identity", "relu-linf", "points too high"),
        ("Identity", "larger-budgets", ""),
        ("LeavesTheBall", "inside", "eps outside under linf"),
        ("LeavesTheBox", "inside", "eps outside under l1"),
        ("AbsoluteStep", "units", "points too high"),
        ("Neighbourly", "batch-size", "differ under linf"),
        ("Neighbourly", "halves", "differ under linf"),
        ("GlobalRandomness", "own-randomness", "a global random state moves"),
        ("ScaleOfLogits", "logit-scale", "differ under linf, logits x 2^-14"),
        ("InPlace", "inside", "writes into the clean points under linf"),
    ],
)
def test_a_planted_mistake_is_caught_by_name(attack, name, got):
    result = outcome(name, getattr(bad_attacks, attack))
    assert result.verdict == "FAIL"
    assert got in result.got


def test_an_attack_for_one_norm_is_checked_in_that_one():
    attack = bad_attacks.OnlyLinf
    refused = outcome("linear-l2", attack)
    assert refused.verdict == "skip"
    assert refused.got == "not for this norm: ThreatError: only-linf is an attack for linf, not for l2"
    for name in ("linear-linf", "units", "no-budget", "batch-size", "inside"):
        assert outcome(name, attack).verdict == "pass"


@pytest.mark.parametrize("check", FOR_ATTACKS, ids=lambda check: check.name)
def test_an_attack_for_no_norm_is_never_skipped(check):
    with pytest.raises(NoNormError, match="for every norm.*linf: ThreatError: not today"):
        check.run(Subject("planted", bad_attacks.ForNothing))


def test_an_error_of_the_attack_is_not_swallowed():
    with pytest.raises(ZeroDivisionError, match="the step of nothing"):
        outcome("linear-linf", bad_attacks.Raises)
