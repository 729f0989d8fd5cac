"""Attack configurations shrink to the weakest attack that breaks the model: known exactly on a linear one."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import Phase, find, given, settings
from torch import nn

from pytest_robust import EvidenceError, Linf, PreflightError, ThreatError, evaluate
from pytest_robust.evaluation.alone import attack_alone
from pytest_robust.strategies import AttackConfig, assert_robust, attacks, breaks, configurations, indices

PHASES = (Phase.explicit, Phase.generate, Phase.shrink)
FEW = settings(max_examples=20, database=None, derandomize=True, phases=PHASES)


class Sum(nn.Module):
    """Class 1 where the four features sum to more than 2."""

    def forward(self, x):
        score = x.sum(1) - 2
        return torch.stack([torch.zeros_like(score), score], dim=1)


MODEL = Sum().eval()
X, Y = torch.tensor([[0.9] * 4, [0.6] * 4, [0.7] * 4]), torch.tensor([1, 1, 1])


def test_the_simplest_attack_is_none():
    simplest = find(attacks(max_eps="8/255"), lambda attack: True, settings=FEW)
    assert simplest.threat.budget.value == 0
    assert (simplest.n_steps, simplest.n_restarts, simplest.loss, simplest.seed) == (1, 1, "margin", 0)


# The margin of 0.4 is used up by 0.1 of each feature, 0.2 in the Euclidean norm, 0.4 in total; that of 1.6 by two features.
@pytest.mark.parametrize(
    ("norm", "largest", "levels", "row", "weakest"),
    [
        ("linf", "16/64", 16, 1, "7/64"),
        ("l2", "16/64", 16, 1, "13/64"),
        ("l1", "32/64", 64, 1, "26/64"),
        ("l0", 4, None, 0, "2"),
    ],
)
def test_shrinks_to_the_weakest_breaking_attack(norm, largest, levels, row, weakest):
    drawn = attacks(norm, largest, levels=levels, max_steps=5)
    found = find(drawn, lambda attack: breaks(MODEL, X[row], Y[row], attack), settings=FEW)
    assert (found.threat.norm, str(found.threat.budget)) == (norm, weakest)
    assert (found.n_steps, found.n_restarts, found.loss, found.seed) == (1, 1, "margin", 0)


def test_nothing_is_found_below_the_budget_that_breaks():
    @settings(max_examples=15, database=None)
    @given(attack=attacks(max_eps="6/64", max_steps=3))
    def survives(attack):
        assert_robust(MODEL, X[1], Y[1], attack)

    survives()


def test_a_failing_test_prints_an_attack_that_can_be_pasted():
    @FEW
    @given(attack=attacks(max_eps="16/64", max_steps=3))
    def fails(attack):
        assert_robust(MODEL, X[1], Y[1], attack)

    with pytest.raises(AssertionError) as raised:
        fails()
    printed = "".join(raised.value.__notes__)
    call = printed[printed.index("AttackConfig(") : printed.rindex(",\n)")]
    pasted = eval(call, {"AttackConfig": AttackConfig, "Linf": Linf})
    assert (str(pasted.threat.budget), pasted.n_steps, pasted.seed) == ("7/64", 1, 0)


def test_budgets_are_exact_parts_of_the_largest():
    seen = set()

    @settings(max_examples=300, database=None, derandomize=True)
    @given(attack=attacks(max_eps="8/255"))
    def collect(attack):
        seen.add(attack.threat.budget)

    collect()
    assert {str(budget) for budget in seen} == {f"{k / 2:g}/255" for k in range(17)}
    assert {budget.value for budget in seen} == {Fraction(k, 510) for k in range(17)}


def test_a_threat_in_full_keeps_its_mask():
    mask = torch.tensor([True, False, False, False])
    whole = Linf("32/64", mask=mask)
    # One feature must do what four do: 0.4 of it.
    found = find(
        attacks(threat=whole, levels=32, max_steps=3), lambda attack: breaks(MODEL, X[1], Y[1], attack), settings=FEW
    )
    assert str(found.threat.budget) == "26/64"
    assert found.threat.mask is mask


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({}, ThreatError, "largest budget"),
        ({"max_eps": 1, "threat": Linf(1)}, ThreatError, "one of the two"),
        ({"max_eps": "eight"}, ThreatError, "eight"),
        ({"max_eps": 1, "norm": "l7"}, ThreatError, "l7"),
        ({"max_eps": 1, "levels": 0}, ValueError, "levels must be at least 1"),
        ({"max_eps": 1, "max_steps": 0}, ValueError, "max_steps"),
        ({"max_eps": 1, "losses": ("margin-t",)}, ValueError, "margin-t"),
        ({"max_eps": 1, "losses": ()}, ValueError, "got none"),
    ],
)
def test_wrong_arguments(wrong, error, said):
    with pytest.raises(error, match=said):
        attacks(**wrong)


def test_the_attack_is_what_was_asked_for():
    attack = AttackConfig(Linf("0.09"), n_steps=2, n_restarts=2, seed=3)
    first, second = (
        attack_alone(MODEL, [(X[1], Y[1])], attack.threat, attack.attack, seed=attack.seed).passes.tolist() for _ in range(2)
    )
    assert first == second == [2 * (2 * 2 + 1)]  # two runs of two steps and a last look, and nothing else


def test_the_seed_is_that_of_the_attack(monkeypatch):
    seeds = []
    run = configurations.attack_alone
    monkeypatch.setattr(configurations, "attack_alone", lambda *a, seed, **k: seeds.append(seed) or run(*a, seed=seed, **k))
    breaks(MODEL, X[1], Y[1], AttackConfig(Linf("0.09"), seed=5))
    assert seeds == [5]


def test_a_search_that_was_not_asked_for_breaks_nothing():
    """The gradient leads up, and nowhere; below 0.5 the score falls."""
    astray = lambda x: Sum()(torch.where(x < 0.5, x, 0.63 - 0.05 * x))  # noqa: E731
    attack = AttackConfig(Linf("0.11"))
    assert not breaks(astray, X[1], Y[1], attack)
    assert evaluate(astray, [(X[1], Y[1])], attack.threat, attacks=attack.attack).broken_by != (None,)


# Indices


def test_indices_shrink_to_the_first():
    assert find(indices((X, Y)), lambda i: True, settings=FEW) == 0
    assert find(indices((X, Y)), lambda i: i >= 2, settings=FEW) == 2
    assert find(indices([(x, y) for x, y in zip(X, Y, strict=True)]), lambda i: i > 0, settings=FEW) == 1


def test_indices_of_what_the_model_gets_right():
    labels = torch.tensor([0, 1, 1])
    seen = set()

    @settings(max_examples=50, database=None)
    @given(i=indices((X, labels), MODEL))
    def collect(i):
        seen.add(i)

    collect()
    assert seen == {1, 2}
    with pytest.raises(ValueError, match="gets none of 3 examples right"):
        indices((X, torch.zeros(3, dtype=torch.int64)), MODEL)


def test_indices_run_the_model_as_asked():
    shifted = X + 10
    right = indices((shifted, Y), MODEL, normalize=(10.0, 1.0))
    assert find(right, lambda i: True, settings=FEW) == 0
    with pytest.raises(PreflightError, match="NaN"):
        indices((X, Y), lambda x: Sum()(x) * torch.nan)


# One example


def test_the_message_says_what_became_of_what():
    with pytest.raises(AssertionError) as raised:
        assert_robust(MODEL, X[1], Y[1], AttackConfig(Linf("8/64"), n_steps=3), classes=["small", "large"])
    assert str(raised.value) == (
        "linf 8/64 turns class large into small, at a change of 6.5/64, by pgd-margin with 3 steps, 1 run, seed 0"
    )


def test_wrong_without_attack_is_broken_and_says_so():
    attack = AttackConfig(Linf(0))
    assert breaks(MODEL, X[1], 0, attack)
    with pytest.raises(AssertionError, match=r"wrong without attack: class 0 is taken for 1; indices\(data, model\)"):
        assert_robust(MODEL, X[1], 0, attack)


def test_no_budget_breaks_nothing():
    assert not breaks(MODEL, X[1], Y[1], AttackConfig(Linf(0)))


def test_an_attack_that_could_not_work_is_no_evidence():
    rounding = lambda x: Sum()(x.round(decimals=1))  # noqa: E731
    with pytest.raises(EvidenceError, match="could not have: gradients"):
        breaks(rounding, X[1], Y[1], AttackConfig(Linf("0.01")))
    # What breaks it is proof, whatever the gradients are.
    assert breaks(rounding, X[1], 0, AttackConfig(Linf("0.01")))


def test_one_example_without_a_gradient_does_not_stop_where_nothing_is_attacked():
    flat = lambda x: Sum()(x.clamp(max=0.5)) + torch.tensor([0.0, 5.0])  # noqa: E731
    assert not breaks(flat, X[0], Y[0], AttackConfig(Linf(0)))


@pytest.mark.parametrize("wrong", [torch.tensor([1]), torch.tensor([1, 1])])
def test_more_than_one_example_is_refused(wrong):
    with pytest.raises(PreflightError, match="label"):
        breaks(MODEL, X[:2], wrong, AttackConfig(Linf(0)))
