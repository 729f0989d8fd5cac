"""Budgets, bounds and masks as users give them."""

from __future__ import annotations

import pytest
import torch

from pytest_robust import L0, L1, L2, EmbeddingBall, Linf, ThreatError
from pytest_robust.threats import make

BALLS = [Linf, L2, L1, L0]


def test_eps_is_kept_exact_and_shown_as_typed():
    threat = Linf("8/255")
    assert str(threat.summary()) == "linf 8/255"
    assert threat.summary().bounds == "[0, 1]"
    assert threat.budget.value * 255 == 8


@pytest.mark.parametrize("ball", [*BALLS, lambda eps, bounds, mask: EmbeddingBall(eps, "linf", "sequence")])
def test_the_same_threat_with_another_budget(ball):
    threat = ball(2, bounds=(-1, 1), mask=torch.tensor([True, False]))
    other = threat.with_eps("1")
    assert (type(other), other.norm, other.budget.value) == (type(threat), threat.norm, 1)
    assert (other.bounds, other.mask) == (threat.bounds, threat.mask)
    assert getattr(other, "per", None) == getattr(threat, "per", None)
    assert threat.budget.value == 2


def test_per_channel_and_per_feature_bounds():
    x = torch.full((2, 3, 4, 4), 0.5)
    low, high = torch.tensor([0.45, 0.4, 0.0]), torch.tensor([0.5, 0.9, 1.0])
    region = Linf(0.3, bounds=(low, high)).region(x)
    assert torch.allclose(region.lower[0, :, 0, 0], torch.tensor([0.45, 0.4, 0.2]))
    assert torch.allclose(region.upper[0, :, 0, 0], torch.tensor([0.5, 0.8, 0.8]))
    tabular = L2(1, bounds=(torch.tensor([-1.0, 0.0]), torch.tensor([2.0, 0.1]))).region(torch.tensor([[0.0, 0.05]]))
    assert tabular.lower.tolist() == [[-1, 0]]
    assert tabular.upper[0, 1].item() == pytest.approx(0.1)


def test_what_is_masked_takes_no_share_of_a_step():
    x, grad = torch.full((1, 4), 0.5), torch.tensor([[3.0, 100.0, 4.0, 100.0]])
    threat = L2(1, mask=torch.tensor([True, False, True, False]))
    moved = threat.step(x, grad, torch.tensor([0.1]), threat.region(x))
    torch.testing.assert_close(moved - x, torch.tensor([[0.06, 0.0, 0.08, 0.0]]))


@pytest.mark.parametrize("ball", BALLS)
def test_what_is_masked_never_moves(ball):
    x = torch.rand(2, 6, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([True, False, True, False, True, True])
    free = torch.tensor([[True] * 6, [False, True, True, True, True, False]])
    threat = ball(2, mask=mask)
    region = threat.region(x, free)
    keys = torch.tensor([1, 2])
    for moved in (
        threat.start(region, keys),
        threat.maximise(torch.ones_like(x), region),
        threat.step(x, torch.ones_like(x), torch.ones(2), region),
        threat.seal(x + 1, region),
    ):
        fixed = ~(mask & free)
        assert torch.equal(moved[fixed], x[fixed])
        assert not torch.equal(moved, x)


def test_unbounded_threats_leave_the_unit_box():
    x = torch.tensor([[0.9, 0.1]])
    region = Linf(0.5, bounds=None).region(x)
    assert torch.allclose(region.upper, x + 0.5)
    l2 = L2(1, bounds=None)
    assert torch.allclose(l2.maximise(torch.tensor([[3.0, 4.0]]), l2.region(x)), x + torch.tensor([[0.6, 0.8]]))


@pytest.mark.parametrize(
    ("build", "needle"),
    [
        (lambda: Linf("eight"), "not a number"),
        (lambda: Linf(-1), "must not be negative"),
        (lambda: Linf(0.1, bounds=(1, 0)), "low < high"),
        (lambda: Linf(0.1, bounds=1), "pair"),
        (lambda: L0(1.5), "whole number"),
        (lambda: L0(3, bounds=None), "finite bounds"),
        (lambda: Linf(0.1, mask=torch.full((3,), 0.5)).region(torch.zeros(1, 3)), "weights are no mask"),
        (lambda: EmbeddingBall(0.1, norm="l7"), "'l2' or 'linf'"),
        (lambda: EmbeddingBall(0.1, per="word"), "per 'token'"),
        (lambda: make("l3", 1), "known: linf, l2, l1, l0"),
        (lambda: Linf(0.1, bounds=(torch.zeros(5), torch.ones(5))).region(torch.zeros(1, 3, 2, 2)), "one value per channel"),
        (lambda: Linf(0.1, mask=torch.ones(5)).region(torch.zeros(1, 3)), "mask has shape (5,)"),
    ],
)
def test_errors_say_what_to_do(build, needle):
    with pytest.raises(ThreatError) as caught:
        build()
    assert needle in str(caught.value)


def test_an_embedding_ball_has_a_radius_per_token_or_one_per_text():
    x = torch.zeros(2, 3, 4)
    free = torch.tensor([[[True], [True], [False]], [[True], [True], [True]]])
    g = torch.ones(2, 3, 4)
    per_token = EmbeddingBall(2)
    moved = per_token.maximise(g, per_token.region(x, free))
    assert torch.allclose(moved.norm(dim=2), torch.tensor([[2.0, 2.0, 0.0], [2.0, 2.0, 2.0]]))
    per_text = EmbeddingBall(2, per="sequence")
    moved = per_text.maximise(g, per_text.region(x, free))
    assert torch.allclose(moved.flatten(1).norm(dim=1), torch.tensor([2.0, 2.0]))
    assert torch.equal(moved[0, 2], x[0, 2])
    box = make("linf", 0.5, space="embedding")
    assert torch.allclose(box.maximise(g, box.region(x, free))[1], torch.full((3, 4), 0.5))


@pytest.mark.parametrize("ball", [*BALLS, EmbeddingBall])
def test_a_start_depends_on_the_key_alone(ball):
    x = torch.rand(5, 3, 4, generator=torch.Generator().manual_seed(1))
    keys = torch.arange(5)
    threat = ball(2)
    together = threat.start(threat.region(x), keys)
    alone = torch.cat([threat.start(threat.region(x[i : i + 1]), keys[i : i + 1]) for i in range(5)])
    assert torch.equal(together, alone)
    assert not torch.equal(together, threat.start(threat.region(x), keys + 1))
