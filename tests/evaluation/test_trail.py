"""What later attacks know: how much of the margin is gone, and which rival one step came closest to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pytest_robust import FGSM, PGD, Linf, evaluate
from pytest_robust.evaluation.schedule import PROFILES, Profile, Step
from pytest_robust.evaluation.trail import Trail


def test_the_worn_share_is_that_of_the_clean_margin():
    trail = Trail(torch.tensor([-0.5, -0.2, 0.1]), torch.zeros(3, 1, dtype=torch.int64))
    trail.came([0, 0, 1], [-0.2, -0.4, 0.05])
    assert trail.worn(0) == pytest.approx(0.6)
    assert trail.worn(1) == 1.0
    assert trail.worn(2) == 1.0


def test_rivals_are_ranked_by_reach_and_the_others_keep_their_order():
    rivals = torch.tensor([[4, 2, 7, 1], [3, 5, 0, 6]])
    trail = Trail(torch.tensor([-1.0, -1.0]), rivals)
    assert torch.equal(trail.rank(), rivals)
    trail.reached([0, 0, 1], [1, 2, 3], [-0.3, -0.1, -0.9])
    assert trail.rank().tolist() == [[7, 2, 4, 1], [6, 3, 5, 0]]
    # Places are those of the order that the attack saw.
    trail.reached([0], [3], [0.0])
    assert trail.rank().tolist()[0] == [1, 7, 2, 4]


class Corner(nn.Module):
    """The likeliest rival, class 1, is out of reach; class 2 is near, and its logit is low until it is approached."""

    def forward(self, x):
        zero = torch.zeros(len(x), device=x.device)
        return torch.stack([zero + 1, zero + 0.9 + 0.01 * x[:, 0], 12 * (x[:, 1] - 0.5), zero - 3 + 0.01 * x[:, 0]], 1)


def test_one_step_towards_every_class_finds_the_target_that_logits_hide():
    x = torch.full((30, 2), 0.5)
    x[:, 0] = torch.linspace(0, 1, 30)
    data = (x, torch.zeros(30, dtype=torch.int64))
    scan = FGSM("margin-t", n_targets=3)
    one = PGD("margin-t", n_steps=10, n_targets=1, random_start=False, schedule="cosine", step_size=1.0)
    waive = {"one-class": "on purpose", "chance": "one class", "constant": "on purpose"}
    alone, scanned = (evaluate(Corner(), data, Linf("0.09"), attacks=list(a), waive=waive) for a in ([one], [scan, one]))
    assert alone.stages[0].broken == 0
    # What the gradients towards one class miss, the probe without gradients notices.
    assert alone.health.level == "invalid"
    assert (scanned.stages[0].broken, scanned.health.level) == (30, "trusted")


def test_only_near_misses_are_restarted_and_passes_are_counted(trained, data, monkeypatch):
    first = PGD("margin", n_steps=10, label="first", random_start=False)
    again = PGD("margin", n_steps=5, n_restarts=2, label="again")
    profile = Profile({"smooth": (Step(first), Step(again, near=0.6))}, most=None, early=False, evidence=True)
    monkeypatch.setitem(PROFILES, "release", profile)
    result = evaluate(trained, data, Linf("0.05"), profile="release")
    survivors = result.passes[result.robust]
    assert set(survivors.tolist()) == {21, 21 + 22}
    assert result.stages[1].attacked == (result.passes > 21).sum() < result.stages[0].attacked - result.stages[0].broken
    assert (result.passes[~result.correct] == 0).all()
    attacks = sum(stage.cost.forward + stage.cost.backward for stage in result.stages)
    # Verification is one more forward pass each.
    assert result.passes.sum() == attacks - len(result.witnesses)
    assert result.passes.dtype == np.int64


def test_two_classes_have_no_second_target():
    model = nn.Linear(3, 2)
    x = torch.rand(20, 3, generator=torch.Generator().manual_seed(0))
    result = evaluate(model, (x, model(x).argmax(1)), Linf("0.01"), waive={"one-class": "random weights"}, profile="release")
    assert {stage.attack: stage.attacked for stage in result.stages}["pgd-t2"] == 0
    assert result.health.level == "trusted"
