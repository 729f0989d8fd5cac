"""Tasks that have a solution: gradients that lead anywhere solve them, masked ones do not, and no figure changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_robust import L0, L1, L2, Linf, evaluate
from pytest_robust.evaluation import controls

EPS = Linf("0.08")


class Identity(torch.autograd.Function):
    """With another gradient."""

    @staticmethod
    def forward(ctx, x, change):
        ctx.change = change
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return ctx.change(grad), None


class Behind(nn.Module):
    def __init__(self, inner, change):
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, x):
        return self.inner(Identity.apply(x, self.change))


def levels(result):
    return {check.name: check.level for check in result.health.checks}


@pytest.mark.parametrize(
    "threat", [EPS, Linf("0.01", bounds=None), L2("0.1"), L1("0.2"), L0(1), Linf("1e-6", bounds=None)], ids=str
)
def test_an_honest_model_solves_them(trained, data, threat):
    found = levels(evaluate(trained, data, threat, profile="release"))
    assert found["planted"] == found["huge-budget"] == "trusted"
    assert set(found.values()) == {"trusted"}


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        (torch.neg, {"planted", "huge-budget"}),
        (torch.zeros_like, {"planted", "huge-budget"}),
        (torch.randn_like, {"planted"}),
    ],
    ids=["flipped", "killed", "random"],
)
def test_masked_gradients_do_not_solve_them(trained, data, change, failing):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        masked = Behind(trained, change).eval()
        result = evaluate(masked, data, EPS, profile="release", waive={"gradient": "on purpose"}, min_accuracy="5%")
    assert result.verdict == "fail"
    assert failing <= {name for name, level in levels(result).items() if level == "invalid"}


def test_they_change_no_outcome_and_no_pass_of_the_attacks(trained, data, monkeypatch):
    with_them = evaluate(trained, data, EPS, profile="release")
    monkeypatch.setattr("pytest_robust.evaluation.run.planted", lambda *_: None)
    monkeypatch.setattr("pytest_robust.evaluation.run.huge_budget", lambda *_: None)
    monkeypatch.setattr("pytest_robust.evaluation.run.Run.health", lambda *_: [])
    without = evaluate(trained, data, EPS, profile="release")
    assert with_them.broken_by == without.broken_by
    assert (with_them.passes == without.passes).all()
    assert with_them.cost.forward > without.cost.forward


def test_the_scale_of_the_logits_and_a_huge_constant_one_change_nothing(trained, data):
    def scaled(x):
        return 1e4 * trained(x)

    def beside(x):
        return torch.cat([trained(x), torch.full((len(x), 1), -1e9)], 1)

    for model in (scaled, beside):
        found = levels(evaluate(model, data, EPS, profile="release"))
        assert found["planted"] == found["huge-budget"] == "trusted"
        masked = levels(evaluate(lambda x, model=model: model(Identity.apply(x, torch.neg)), data, EPS, profile="release"))
        assert masked["planted"] == masked["huge-budget"] == "invalid"


def test_only_release_runs_them_and_only_where_gradients_attack(trained, data):
    assert not {"planted", "huge-budget"} & levels(evaluate(trained, data, EPS)).keys()
    assert not {"planted", "huge-budget"} & levels(evaluate(trained, data, EPS, profile="release", attacks="square")).keys()
    assert not {"planted", "huge-budget"} & levels(evaluate(trained, data, Linf(0), profile="release")).keys()


def test_where_not_everything_may_move_no_budget_is_huge(trained, data):
    mask = torch.arange(12) < 6
    found = levels(evaluate(trained, data, Linf("0.08", mask=mask), profile="release"))
    assert found["planted"] == "trusted"
    assert "huge-budget" not in found


def test_bounds_per_feature_are_taken_as_they_are(trained, data):
    x, y = data
    low, high = -torch.arange(1.0, 13.0), torch.arange(1.0, 13.0)

    def shifted(z):
        return trained((z - low) / (high - low))

    result = evaluate(shifted, (low + x * (high - low), y), L2("0.5", bounds=(low, high)), profile="release")
    assert levels(result)["huge-budget"] == "trusted"
    one_sided = evaluate(shifted, (low + x * (high - low), y), L2("0.5", bounds=(low, torch.inf)), profile="release")
    assert levels(one_sided)["huge-budget"] == "trusted"


def test_half_the_range_is_of_the_bounds_or_else_of_what_is_seen():
    x = torch.tensor([[1.0, 2.0], [5.0, 3.0]])
    for bounds, half, middle in (((0, 10), 5, [5, 5]), (None, 2, [3, 3]), ((0, torch.inf), 2.5, [2.5, 2.5])):
        threat, point = controls._widened(L1("0.1", bounds=bounds), x)
        assert (threat.norm, float(threat.budget), point.tolist()) == ("linf", half, middle)
    assert controls._widened(Linf("0.1", bounds=None), torch.ones(3, 2)) is None


def test_findings_do_not_depend_on_the_batch(trained, data):
    masked = Behind(trained, torch.neg).eval()
    one, other = (evaluate(masked, data, EPS, profile="release", batch_size=size) for size in (20, 128))
    assert one.health == other.health
