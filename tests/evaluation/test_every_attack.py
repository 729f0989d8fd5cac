"""Every attack by its name: what it reaches where the answer is known, and what must not change that."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pytest_robust import L0, L1, L2, EmbeddingBall, Linf, Targeted, ThreatError, evaluate
from pytest_robust.attacks import (
    CW,
    EAD,
    JSMA,
    NAMES,
    SPSA,
    VAT,
    Attack,
    HopSkipJump,
    Noise,
    make,
)  # fmt: skip
from pytest_robust.conformance.linear import linear_data, linear_model, margins
from pytest_robust.evaluation.run import Run

NORMS = {"linf": (Linf, 0.06), "l2": (L2, 0.35), "l1": (L1, 1.1), "l0": (L0, 2)}
WAIVE = {"chance": "random linear models have no skill to speak of"}

SMALL: dict[str, Attack] = {
    **{name: make(name) for name in ("bim", "mim", "max-confidence", "deepfool", "lbfgs", "jsma", "vat", "noise")},
    "cw": CW(n_steps=30),
    "ead": EAD(n_steps=30),
    "spsa": SPSA(n_iterations=5, n_pairs=4),
    "hopskipjump": HopSkipJump(n_iterations=2, n_starts=12, n_probes=15),
}
"""Some with fewer steps than by name."""
OLDER = ["fgsm", "fgsm-t", "pgd", "pgd-margin", "pgd-t", "apgd-ce", "apgd-margin", "apgd-dlr", "apgd-t", "square", "sweep"]
EDITS = ["hotflip", "edit-search", "relaxed-pgd", "simplex-pgd", "gcg"]
"""Of texts: see test_text_edits."""
WEAK = ["noise", "vat", "hopskipjump"]


@pytest.fixture(autouse=True)
def no_probes(monkeypatch):
    """What the health checks find besides is no merit of the attack, and takes longer than most."""
    monkeypatch.setattr(Run, "_probe", lambda run: None)


def missed(attack: str | Attack, norm: str, classes: int, seed: int = 1) -> int:
    """How many examples of a linear model the attack leaves standing although they can be broken."""
    ball, eps = NORMS[norm]
    if norm == "l0" and classes == 1:
        eps = 1
    model = linear_model(classes, 20, seed)
    x, y = linear_data(model, seed, n=40)
    left = margins(model, x.double().numpy(), y.numpy(), norm, eps)
    result = evaluate(model, (x, y), ball(eps), attacks=[attack], waive=WAIVE)
    standing = torch.tensor(result.robust)
    robust = torch.tensor(left > 0)
    assert not (robust & ~standing).any()
    assert robust.sum() + 5 < result.correct.sum(), "too easy"
    return int((standing & ~robust).sum())


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["deepfool", "lbfgs", "max-confidence"])
def test_attacks_on_every_rival_are_exact_in_every_norm(name: str, norm: str, classes: int):
    assert missed(name, norm, classes) == 0


@pytest.mark.parametrize("classes", [1, 3])
def test_saliency_is_exact_where_features_are_counted(classes: int):
    assert missed("jsma", "l0", classes) == 0


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["bim", "mim", "vat"])
def test_attacks_without_a_target_are_exact_on_two_classes(name: str, norm: str):
    assert missed(name, norm, 1) == 0


@pytest.mark.parametrize(
    ("attack", "norms"),
    [(CW("margin-t", n_targets=9), ["linf", "l2"]), (EAD("margin-t", n_targets=9), ["linf", "l2", "l1"])],
    ids=["cw", "ead"],
)
def test_distance_and_margin_are_exact_in_the_norms_they_are_for(attack: Attack, norms: list[str]):
    for norm in norms:
        assert missed(attack, norm, 3) == 0
        assert missed(attack.name, norm, 1) == 0


@pytest.mark.parametrize(("norm", "most"), [("linf", 2), ("l2", 2), ("l1", 5), ("l0", 1)])
def test_estimated_gradients_miss_few(norm: str, most: int):
    assert missed("spsa", norm, 1) <= most


@pytest.mark.parametrize(("norm", "most"), [("linf", 4), ("l2", 4)])
def test_decisions_alone_miss_few(norm: str, most: int):
    assert missed("hopskipjump", norm, 1) <= most


class Blind(nn.Module):
    """The decision depends on what no gradient reaches."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.detach()) + 0 * x[:, :1]


@pytest.mark.parametrize("name", ["spsa", "hopskipjump"])
def test_queries_break_what_gradients_cannot(trained, data, name: str):
    waive = {"gradient": "none, on purpose"}
    x, y = data[0][:16], data[1][:16]
    blind = Blind(trained).eval()
    truth = evaluate(trained, (x, y), L2("0.4"))
    assert evaluate(blind, (x, y), L2("0.4"), attacks="pgd-margin", waive=waive).robust.sum() == truth.correct.sum()
    result = evaluate(blind, (x, y), L2("0.4"), attacks=name, waive=waive)
    assert result.broken_counts()[name] >= 0.7 * (truth.correct & ~truth.robust).sum() > 4
    assert result.stages[0].cost.backward == 0


def test_noise_finds_what_is_everywhere_and_not_what_is_in_a_corner():
    def ball(x: Tensor) -> Tensor:
        """Wrong on half of the region of the even examples, in one corner of that of the odd ones."""
        even = x[:, 2] < 0.5
        inside = torch.where(even, x[:, 0] > 0.51, x[:, :2].amin(1) > 0.598)
        z = inside + 0.01 * x[:, 2]
        return torch.stack([0.5 - z, z - 0.5], 1)

    x = torch.full((20, 3), 0.5)
    x[:, 2] = torch.arange(20) % 2
    threat = Linf("0.1", mask=torch.tensor([True, True, False]))
    waive = {"gradient": "none", "one-class": "on purpose", "constant": "but for the kind"}
    result = evaluate(ball, (x, torch.zeros(20, dtype=torch.int64)), threat, attacks=Noise(20), waive=waive)
    found = [by == "noise" for by in result.broken_by]
    assert found == [True, False] * 10


@pytest.mark.parametrize("name", SMALL)
def test_scale_and_batch_change_no_outcome(trained, data, name: str):
    x, y = data[0][:16], data[1][:16]
    threat = L0(2) if name == "jsma" else Linf("0.1")
    reference = evaluate(trained, (x, y), threat, attacks=SMALL[name])
    larger = evaluate(lambda z: 1e4 * trained(z), (x, y), threat, attacks=SMALL[name])
    smaller = evaluate(lambda z: 1e-4 * trained(z), (x, y), threat, attacks=SMALL[name], batch_size=5)
    assert reference.robust.tolist() == larger.robust.tolist() == smaller.robust.tolist()


def test_every_attack_by_name_is_tried_here_or_is_an_older_one():
    assert {*SMALL, *OLDER, *EDITS} == set(NAMES)


@pytest.mark.parametrize("name", WEAK)
def test_surviving_a_weak_attack_is_no_evidence(trained, data, name: str):
    data = data[0][:30], data[1][:30]
    result = evaluate(trained, data, Linf("0.001"), attacks=name)
    assert result.accuracy == result.clean_accuracy
    assert {c.name: c.level for c in result.health.checks}["strength"] == "suspicious"
    many = {"noise": Noise(200), "vat": VAT(n_iterations=20), "hopskipjump": HopSkipJump(n_iterations=1)}[name]
    result = evaluate(trained, data, Linf("0.001"), attacks=many)
    assert {c.name: c.level for c in result.health.checks}["strength"] == "suspicious"


@pytest.mark.parametrize("threat", [Linf("0.1"), L2("0.3"), EmbeddingBall("0.1")], ids=str)
def test_saliency_is_refused_where_features_are_not_counted(threat):
    live = None
    with pytest.raises(ThreatError, match=r"use it under L0\(k\)"):
        JSMA().begin(threat, live)


def test_points_out_of_the_region_count_for_nothing(trained, data):
    """An attack that stands far outside, where the model is broken or gives NaN, leaves no trace but its passes."""

    class Outside(Noise):
        name = "outside"
        roams = True

        def begin(self, threat, live):
            live.x = live.region.origin + 0.5

        def update(self, threat, live, loss, grad):
            pass

    def model(x: Tensor) -> Tensor:
        return torch.where(x.amax(1, keepdim=True) > 1.2, torch.nan, trained(x))

    result = evaluate(model, data, Linf("0.001", bounds=None), attacks=Outside(3))
    checks = {c.name: c.level for c in result.health.checks}
    assert not result.witnesses
    assert checks["finite"] == checks["verified"] == "trusted"
    assert set(result.passes[result.correct].tolist()) == {4}


def test_all_work_towards_a_target_too(trained, data):
    x, y = data
    for name in ("deepfool", "cw", "ead", "lbfgs", "spsa", "hopskipjump"):
        result = evaluate(trained, (x[:40], y[:40]), L2("0.8"), objective=Targeted(2), attacks=SMALL[name])
        hit = [i for i, by in enumerate(result.broken_by) if by == name]
        assert len(hit) > 3
        assert all(result.predicted[i] == 2 for i in hit)


def test_every_attack_respects_bounds_and_mask(trained, data):
    x, y = data[0][:12], data[1][:12]
    mask = torch.arange(12) % 3 > 0
    for name, attack in SMALL.items():
        threat = L0(4, mask=mask) if name == "jsma" else L2("0.6", mask=mask)
        result = evaluate(trained, (x, y), threat, attacks=attack)
        for i in result.witnesses:
            assert torch.equal(result.adversarial(i)[~mask], x[i][~mask])
            assert 0 <= result.adversarial(i).min() <= result.adversarial(i).max() <= 1
