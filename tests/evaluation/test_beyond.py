"""Attacks that the user chose too weak earn no trust, and what a longer search breaks is broken."""

from __future__ import annotations

import pytest

from pytest_robust import APGD, PGD, Linf, evaluate
from pytest_robust.evaluation.beyond import BLACK_BOX, CONVERGENCE, Found, black_box, convergence
from pytest_robust.evaluation.result import Cost, Stage
from pytest_robust.evaluation.schedule import PROFILES

EPS = Linf("0.08")
WEAK = {
    "tiny steps": PGD(n_steps=10, step_size=0.001),
    "small steps": PGD(n_steps=10, step_size=0.01, random_start=False),
    "few steps": PGD(n_steps=2, step_size=0.1),
}


def finding(result, name):
    return next(check for check in result.health.checks if check.name == name)


@pytest.mark.parametrize("attack", WEAK.values(), ids=WEAK)
def test_a_weak_attack_is_named_and_what_it_missed_is_broken(trained, data, attack):
    truth = evaluate(trained, data, EPS)
    result = evaluate(trained, data, EPS, attacks=attack)
    assert finding(result, "convergence").level != "trusted"
    assert abs(result.accuracy.k - truth.accuracy.k) <= 2
    counts = result.broken_counts()
    assert sum(counts.get(name, 0) for name in ("pgd-probe", "pgd-all")) >= 10
    x, y = data
    for i in result.witnesses:
        assert trained(result.adversarial(i)[None]).argmax().item() != y[i]
        assert (result.adversarial(i).double() - x[i].double()).abs().max() <= 0.08


def test_a_pass_of_a_weak_attack_is_taken_away(trained, data):
    truth = float(evaluate(trained, data, EPS).accuracy)
    attack = WEAK["tiny steps"]
    too_much = evaluate(trained, data, EPS, attacks=attack, min_accuracy=truth + 0.05)
    assert (too_much.verdict, too_much.meets_floor) == ("fail", False)
    as_it_is = evaluate(trained, data, EPS, attacks=attack, min_accuracy=truth - 0.05, profile="release")
    assert (as_it_is.verdict, as_it_is.meets_floor) == ("fail", True)


def test_every_survivor_of_a_weak_attack_has_been_through_the_longer_search(trained, data):
    result = evaluate(trained, data, EPS, attacks=WEAK["tiny steps"])
    runs, steps = CONVERGENCE.remedy.n_restarts, CONVERGENCE.remedy.n_steps
    assert (result.passes[result.robust] == 21 + runs * (2 * steps + 1)).all()


def test_portions_drawn_after_the_longer_search_go_through_it_as_well(trained, data):
    asked = {"attacks": WEAK["tiny steps"], "min_accuracy": "55%", "confidence": 0.8}
    result = evaluate(trained, data, EPS, **asked)
    standing = [row for row, by in enumerate(result.broken_by) if by is None]
    assert len(standing) > 16
    assert set(result.passes[standing].tolist()) == {21 + 2 * 81}


@pytest.mark.parametrize("size", [3, 128])
def test_the_finding_does_not_depend_on_the_batch(trained, data, size):
    weak = WEAK["small steps"]
    one, other = (evaluate(trained, data, EPS, attacks=weak, min_accuracy="30%", batch_size=b) for b in (size, None))
    assert one.health == other.health
    assert one.broken_by == other.broken_by


STANDARD = [step.attack for step in PROFILES["standard"].steps["smooth"]]


@pytest.mark.parametrize("attacks", [[APGD("margin"), "pgd-t"], STANDARD])
def test_attacks_that_converge_raise_no_alarm(trained, data, attacks):
    result = evaluate(trained, data, EPS, attacks=attacks)
    assert finding(result, "convergence").level == "trusted"
    assert result.health.level == "trusted"


@pytest.mark.parametrize("profile", PROFILES)
def test_the_profiles_need_no_longer_search(trained, data, profile):
    result = evaluate(trained, data, EPS, profile=profile)
    assert "convergence" not in {check.name for check in result.health.checks}


@pytest.mark.parametrize(
    ("found", "level"),
    [
        (Found(16, 0, 8), "trusted"),
        (Found(16, 0, 9), "suspicious"),
        (Found(16, 2, 2), "suspicious"),
        (Found(16, 3, 3), "invalid"),
        (Found(32, 3, 3), "suspicious"),
        (Found(16, 1, 1, Stage("pgd-all", 100, 11, Cost(0, 0, 0))), "invalid"),
        (Found(2, 2, 2), "suspicious"),
        (Found(0, 0, 0), "trusted"),
    ],
)
def test_levels_of_convergence(found, level):
    assert convergence(found).level == level


@pytest.mark.parametrize(
    ("found", "level"),
    [
        (Found(8, 0, 2), "trusted"),
        (Found(8, 0, 3), "suspicious"),
        (Found(8, 0, 5), "invalid"),
        (Found(64, 1, 1), "suspicious"),
        (Found(32, 3, 3), "invalid"),
        (Found(64, 1, 1, Stage("square-all", 50, 3, Cost(0, 0, 0))), "invalid"),
        (Found(0, 0, 0), "trusted"),
    ],
)
def test_levels_of_black_box(found, level):
    assert black_box(found).level == level


def test_samples_grow_with_the_attacks():
    assert [BLACK_BOX.sample(spent) for spent in (0, 20_000, 10**9)] == [8, 13, 64]
    assert [CONVERGENCE.sample(spent) for spent in (0, 40_500, 10**9)] == [16, 20, 32]
