"""The curve: at every budget what an evaluation of its own finds, for fewer passes; exact on linear models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_health import behind
from test_linear import NORMS, WAIVE, left_at_worst, problem
from torch import nn

from pytest_robust import L0, L1, L2, Curve, EmbeddingBall, Evaluation, EvidenceError, Linf, ThreatError, curve, evaluate
from pytest_robust.evaluation.result import CLEAN, HealthCheck
from pytest_robust.evaluation.run import Run

THREATS = {"linf": Linf("0.16"), "l2": L2("0.6"), "l1": L1("1.6"), "l0": L0(4)}


@pytest.fixture(scope="module")
def data(data):
    x, y = data
    return x[:90], y[:90]


@pytest.fixture(scope="module", params=THREATS)
def threat(request):
    return THREATS[request.param]


@pytest.fixture(scope="module")
def full(trained, data, threat) -> Curve:
    return curve(trained, data, threat)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("norm", NORMS)
def test_on_linear_models_it_is_exact_at_every_budget(norm: str, classes: int):
    ball, eps = NORMS[norm]
    model, x, y = problem(classes, 20, 0)
    found = curve(model, (x, y), ball(2 * eps), waive=WAIVE)
    assert len(found) == (4 if norm == "l0" else 8)
    for budget, evaluation in zip(found.budgets, found.evaluations, strict=True):
        left = left_at_worst(model, x, y, norm, float(budget))
        assert np.abs(left).min() > 1e-6, "an example too close to the boundary for float32 to decide"
        assert evaluation.robust.tolist() == (left > 0).tolist()


@pytest.mark.parametrize(("ball", "eps", "dual"), [(Linf, 0.1, 1), (L2, 0.6, 2), (L1, 2.0, np.inf)])
def test_on_linear_models_distances_are_those_to_the_nearest_boundary(ball, eps, dual):
    model, x, y = problem(2, 16, 3)
    weight, bias = (parameter.detach().double().numpy() for parameter in model.parameters())
    logits = x.double().numpy() @ weight.T + bias
    margins = logits[np.arange(len(y)), y] - logits[np.arange(len(y)), 1 - y]
    exact = np.maximum(margins, 0) / np.linalg.norm(weight[1] - weight[0], dual)
    found = curve(model, (x, y), ball(eps, bounds=None), waive=WAIVE)
    assert (found.distances[exact == 0] == 0).all()
    assert np.isinf(found.distances[exact > eps]).all()
    near = (exact > 0) & (exact <= eps)
    assert near.sum() > 10
    assert (found.distances[near] >= exact[near] * (1 - 1e-6)).all()
    assert (found.distances[near] <= exact[near] + eps / 256 + 1e-6).all()


@pytest.fixture(scope="module")
def apart(trained, data, threat, full) -> list[Evaluation]:
    return [evaluate(trained, data, threat.with_eps(budget)) for budget in full.budgets]


def test_it_is_what_separate_evaluations_find(full, apart):
    for evaluation, separate in zip(full.evaluations, apart, strict=True):
        assert evaluation.robust.tolist() == separate.robust.tolist()


def test_it_takes_fewer_passes_than_separate_evaluations(full, apart):
    assert full.cost.forward < 0.9 * sum(e.cost.forward for e in apart)
    assert full.cost.backward < 0.9 * sum(e.cost.backward for e in apart)
    assert full.passes.sum() < 0.8 * sum(e.passes.sum() for e in apart)


def test_each_example_is_attacked_at_few_budgets(trained, data):
    """Bisection: of 15 budgets no example sees more than four."""
    result = curve(trained, data, Linf("0.15"), budgets=[f"{i}/100" for i in range(1, 16)])
    (scan,) = (stage for stage in result.stages if stage.attack == "fgsm-t")
    assert scan.attacked == 4 * result.clean_accuracy.k
    one = evaluate(trained, data, Linf("0.01")).passes.max()  # an example that survives everything
    assert 3 * one < result.passes.max() == 4 * one


def test_the_cost_is_what_the_model_saw(trained, data):
    seen = []

    def counting(x):
        seen.append(len(x))
        return trained(x)

    assert curve(counting, data, Linf("0.1"), n=40).cost.forward == sum(seen)


def test_it_falls_and_begins_at_clean_accuracy(full):
    rates = [full.accuracy_at(0), *(rate for _, rate in full.points())]
    assert rates[0].k == full.clean_accuracy.k
    assert [rate.k for rate in rates] == sorted((rate.k for rate in rates), reverse=True)
    assert rates[0] > rates[-1]


def test_distances_count_to_the_same_curve(full):
    for budget, rate in full.points():
        assert rate.k == (full.distances > float(budget)).sum()
    correct = full.at(full.budgets[0]).correct
    assert ((full.distances == 0) == ~correct).all()


def test_every_witness_is_as_near_as_its_distance_and_wrong(trained, data, threat, full):
    x, y = data
    assert set(full.witnesses) == set(np.flatnonzero((full.distances > 0) & np.isfinite(full.distances)).tolist())
    for i, witness in full.witnesses.items():
        delta = (witness.double() - x[i].double()).abs()
        norms = {"linf": delta.max(), "l2": delta.norm(), "l1": delta.sum(), "l0": (delta > 0).sum()}
        assert float(norms[threat.norm]) == pytest.approx(full.distances[i], rel=1e-12)
        assert 0 <= witness.min() <= witness.max() <= 1
        assert trained(witness[None]).argmax() != y[i]


def test_the_evaluation_at_a_budget_agrees_with_itself(full):
    for budget, e in zip(full.budgets, full.evaluations, strict=True):
        assert (str(e.threat).split()[1], e.name) == (str(budget), f"curve@{budget}")
        assert [by is None for by in e.broken_by] == e.robust.tolist()
        assert [by == CLEAN for by in e.broken_by] == (~e.correct).tolist()
        assert set(e.witnesses) == {i for i, by in enumerate(e.broken_by) if by not in (None, CLEAN)}
        assert sum(e.broken_counts().values()) + e.accuracy.k == len(e)
        assert all(e.predicted[i] != e.labels[i] for i in e.witnesses)
        assert (e.weakest is None) == (not e.witnesses)
        assert e.verdict == "report"


def test_the_weakest_come_first(full):
    norms = [hit.norm for hit in full.weakest(5)]
    assert norms == sorted(full.distances[full.distances > 0])[:5]
    (first,) = full.weakest()
    assert full.ids[first.index] == first.id
    assert full.labels[first.index] == first.label != first.predicted
    assert len(full.weakest(1000)) == len(full.witnesses)
    assert full.evaluations[-1].weakest == first


@pytest.mark.parametrize("batch_size", [3, 7])
def test_the_size_of_the_batch(trained, data, batch_size):
    large, small = (curve(trained, data, Linf("0.1"), n=30, batch_size=size) for size in (30, batch_size))
    for one, other in zip(large.evaluations, small.evaluations, strict=True):
        assert one.broken_by == other.broken_by
    assert small.distances == pytest.approx(large.distances, rel=1e-4)
    assert small.health.level == large.health.level


def test_the_order_of_the_data(trained, data, threat, full):
    x, y = data
    flipped = curve(trained, (x.flip(0), y.flip(0)), threat)
    for one, other in zip(full.evaluations, flipped.evaluations, strict=True):
        assert one.robust.tolist() == other.robust.tolist()[::-1]


def test_budgets_are_read_as_typed_and_sorted(trained, data):
    found = curve(trained, data, Linf("8/255"), budgets=["8/255", "2/255", 4 / 255, "2/255"], n=30)
    assert [str(budget) for budget in found.budgets] == ["2/255", str(4 / 255), "8/255"]
    assert repr(found.accuracy_at("2/255")).startswith("robust accuracy ")
    assert "(linf 2/255, n=30" in repr(found.accuracy_at("2/255"))
    assert found.accuracy_at(8 / 255).k == found.accuracy_at("8/255").k
    with pytest.raises(LookupError, match=r"eps 3/255 is no budget of this curve, which has 2/255, .*, 8/255"):
        found.accuracy_at("3/255")


@pytest.mark.parametrize(
    ("threat", "texts"),
    [
        (Linf("8/255"), "1/255 2/255 3/255 4/255 5/255 6/255 7/255 8/255"),
        (Linf("2/255"), "0.25/255 0.5/255 0.75/255 1/255 1.25/255 1.5/255 1.75/255 2/255"),
        (L2(0.5), "0.0625 0.125 0.1875 0.25 0.3125 0.375 0.4375 0.5"),
        (L0(3), "1 2 3"),
        (L0(16), "2 4 6 8 10 12 14 16"),
    ],
)
def test_without_budgets_it_is_parts_of_eps(trained, data, threat, texts):
    x, _ = data
    wide = torch.cat([x, x], 1)  # room for sixteen features
    model = nn.Sequential(nn.Linear(24, 5)).eval()
    found = curve(model, (wide, model(wide).argmax(1)), threat, n=10, attacks="fgsm")
    assert " ".join(map(str, found.budgets)) == texts


@pytest.mark.parametrize(
    ("budgets", "says"),
    [
        ([], "needs budgets above 0"),
        (["0", "1/255"], "needs budgets above 0"),
        (["9/255"], "9/255 is above the threat's own, 8/2"),
    ],
)
def test_unusable_budgets_are_one_sentence(trained, data, budgets, says):
    with pytest.raises(ValueError, match=says):
        curve(trained, data, Linf("8/255"), budgets=budgets)


def test_masked_gradients_at_any_budget_cast_doubt_on_every_rate(trained, data):
    found = curve(behind("partly quantised", trained), data, Linf("0.1"), budgets=["0.02", "0.1"])
    assert found.health.level == "invalid"
    for _, rate in found.points():
        with pytest.raises(EvidenceError, match="not evidence"):
            assert rate >= 0.01
        assert not rate >= 1.0  # what is broken is broken


def test_a_random_model_is_found_out(trained, data):
    found = curve(behind("noise", trained), data, Linf("0.1"), budgets=["0.02", "0.1"], n=40)
    assert "determinism" in {check.name for check in found.health.checks if check.level == "invalid"}


def test_findings_are_those_of_all_rounds_the_worst_of_each_name(full):
    names = [check.name for check in full.health.checks]
    assert len(names) == len(set(names))
    assert {"strength", "gradients", "slope", "black-box", "determinism"} <= set(names)
    assert full.health.level == "trusted"


@pytest.mark.parametrize("number", [0, 1])
def test_a_finding_of_any_round_is_kept(trained, data, monkeypatch, number):
    rounds = []
    health = Run.health

    def found(run, logits):
        rounds.append(run)
        bad = [HealthCheck("slope", "invalid", "it leads nowhere")] if len(rounds) == number + 1 else []
        return [*health(run, logits), *bad]

    monkeypatch.setattr(Run, "health", found)
    result = curve(trained, data, Linf("0.1"), budgets=["0.04", "0.07", "0.1"], n=30)
    assert len(rounds) == 2
    assert "it leads nowhere" in [check.detail for check in result.health.checks]
    assert result.health.level == "invalid"


def test_an_evaluation_of_a_wrong_space_is_refused(trained, data):
    with pytest.raises(ThreatError, match="embedding ball needs a text model"):
        curve(trained, data, EmbeddingBall(0.5))
