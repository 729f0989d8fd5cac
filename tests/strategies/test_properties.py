"""``check_attack`` lets honest attacks pass, and finds each fault on the smallest problem that shows it."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import find, settings
from hypothesis.errors import NoSuchExample

from pytest_robust import APGD, FGSM, PGD, Square, ThreatError
from pytest_robust.evaluation.alone import attack_alone
from pytest_robust.strategies import check_attack, properties
from pytest_robust.strategies.properties import USUAL, problems
from pytest_robust.threats import NORMS


@pytest.mark.parametrize(
    "honest",
    [FGSM, lambda: PGD(n_steps=4, n_restarts=2), lambda: APGD(n_steps=6), lambda: Square(n_steps=10)],
    ids=["fgsm", "pgd", "apgd", "square"],
)
def test_honest_attacks_hold(honest):
    check_attack(honest, norms=NORMS, settings=settings(USUAL, max_examples=8))


@dataclass(frozen=True)
class Faulty(PGD):
    """PGD of few steps with something wrong."""

    n_steps: int = 2
    fault: str = ""

    def update(self, threat, live, loss, grad):
        if self.fault == "reads global randomness":
            torch.rand(1)
        if self.fault == "moves Python's generator":
            random.random()
        if self.fault == "asks its neighbours":
            grad = grad + 8 * grad.roll(1, 0)
        if self.fault == "knows the scale of the logits":
            grad = torch.where(live.rows(live.scale) < 0.01, 0.0, grad)
        super().update(threat, live, loss, grad)
        if self.fault == "leaves the ball":
            live.x = live.x + 0.5 * live.region.radius
        if self.fault == "moves without a budget" and not threat.budget.value:
            live.x = live.x + 1 / 64
        if self.fault == "writes into the clean points":
            live.region.origin.add_(1 / 64)


class Forgetful(PGD):
    """Every object of it begins elsewhere."""

    made = 0
    period = 2**32

    def __post_init__(self):
        super().__post_init__()
        type(self).made += 1
        object.__setattr__(self, "number", type(self).made % self.period)

    def begin(self, threat, live):
        live.key = live.key + self.number
        super().begin(threat, live)


@pytest.mark.parametrize(
    ("fault", "said", "norms"),
    [
        ("reads global randomness", "global random generator", ("linf",)),
        ("moves Python's generator", "global random generator", ("linf",)),
        ("asks its neighbours", "none may look at its neighbours", ("linf",)),
        ("knows the scale of the logits", "nothing to do with their scale", ("linf",)),
        ("leaves the ball", "eps outside", ("l2",)),
        ("moves without a budget", "without a budget it moves by 0.0156", ("linf",)),
        ("writes into the clean points", "writes into the clean points", ("linf",)),
    ],
)
def test_faults_are_found(fault, said, norms):
    with pytest.raises(AssertionError, match=said) as raised:
        check_attack(lambda: Faulty(fault=fault), norms=norms, settings=USUAL)
    assert "problem=Problem(" in "".join(raised.value.__notes__)


def test_what_is_changed_of_the_model_is_found(monkeypatch):
    def leaves_a_trace(model, *arguments, **options):
        model[0].bias.data += 1
        return attack_alone(model, *arguments, **options)

    monkeypatch.setattr(properties, "attack_alone", leaves_a_trace)
    with pytest.raises(AssertionError, match="changes what is not its own: weights and buffers"):
        check_attack(FGSM, norms=NORMS)


class Alternating(Forgetful):
    """Every other object of it begins elsewhere."""

    period = 2


@pytest.mark.parametrize("attack", [Forgetful, Alternating])
def test_another_outcome_the_second_time_is_found(attack):
    with pytest.raises(AssertionError, match="does not do the same twice"):
        check_attack(lambda: attack(n_steps=1), norms=("linf",), settings=USUAL)


def test_a_fault_is_shown_on_the_smallest_problem():
    with pytest.raises(AssertionError) as raised:
        check_attack(lambda: Faulty(fault="reads global randomness"), norms=NORMS, settings=USUAL)
    printed = "".join("".join(raised.value.__notes__).split())
    assert "Problem(norm='linf',level=0,classes=2,features=1,n=1,hidden=0,double=False" in printed


class NoL0(FGSM):
    def begin(self, threat, live):
        if threat.norm != "linf":
            raise ThreatError("this attack is for linf")
        super().begin(threat, live)


def test_norms_that_an_attack_refuses_are_left_out():
    check_attack(NoL0, settings=settings(USUAL, max_examples=5))
    with pytest.raises(ThreatError, match="for linf"):
        check_attack(NoL0, norms=["l2"], settings=settings(USUAL, max_examples=5))


def test_problems_are_right_without_attack_and_exact():
    def wrong(problem):
        x, y = problem.data()
        logits = problem.model()(x)
        same = torch.equal(logits, replace(problem, double=True).model()(x.double()).to(logits.dtype))
        return not same or bool((logits.argmax(1) != y).any()) or not bool(((x >= 0) & (x <= 1)).all())

    with pytest.raises(NoSuchExample):
        find(problems(NORMS), wrong, settings=settings(USUAL, max_examples=200))
