"""Models on which a gradient attack cannot work get no PASS, by the name of the right check."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_robust import FGSM, L2, PGD, Linf, PreflightError, evaluate
from pytest_robust.conformance import networks
from pytest_robust.conformance.masked import WRAPPERS

EPS = Linf("0.08")


def behind(name: str, inner: nn.Module) -> nn.Module:
    """The network inside a wrapper of the conformance suite."""
    return networks.Wrapped(inner, WRAPPERS[name][0]).eval()


class Wrapped(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner


class Detached(Wrapped):
    """Gradients are cut off for part of the inputs only, so that the preflight's sample may miss it."""

    def forward(self, x):
        cut = x[:, :1] > 0.5
        return self.inner(torch.where(cut, x.detach(), x))


class Exploding(Wrapped):
    """NaN away from the data: the attack meets it, a clean forward pass does not."""

    def __init__(self, inner: nn.Module, clean: torch.Tensor) -> None:
        super().__init__(inner)
        self.register_buffer("clean", clean)

    def forward(self, x):
        known = ((x[:, None] - self.clean).abs().amax(2) < 1e-6).any(1, keepdim=True)
        return torch.where(known, self.inner(x), torch.nan)


def test_a_model_without_gradients_is_refused_by_the_preflight(trained, data):
    with pytest.raises(PreflightError, match="gradient"):
        evaluate(behind("quantised input", trained), data, EPS)


def test_a_waived_missing_gradient_still_gets_no_pass(trained, data):
    result = evaluate(behind("quantised input", trained), data, EPS, waive={"gradient": "on purpose"}, min_accuracy=0.1)
    assert result.meets_floor
    assert result.verdict == "fail"
    assert result.health.worst is not None
    assert result.health.worst.name == "gradients"


def test_gradients_masked_on_some_inputs_take_the_pass_away(trained, data):
    result = evaluate(Detached(trained).eval(), data, EPS, min_accuracy=0.05, profile="release")
    assert result.meets_floor
    assert result.verdict == "fail"
    assert result.health.worst is not None
    assert result.health.worst.name == "gradients"


@pytest.mark.parametrize("profile", ["standard", "release"])
def test_features_that_no_gradient_reaches_take_the_pass_away(trained, data, profile):
    result = evaluate(behind("partly detached", trained), data, EPS, min_accuracy="5%", profile=profile)
    assert result.verdict == "fail"
    assert "cut-off" in {c.name for c in result.health.checks if c.level == "invalid"}


def test_features_on_which_nothing_depends_are_no_reason_for_doubt(trained, data):
    x, y = data
    wider = torch.cat([x, torch.zeros(len(x), 4)], 1)
    model = PartlyUsed(trained).eval()
    assert evaluate(model, (wider, y), EPS, min_accuracy="5%").health.level == "trusted"


def test_features_of_a_class_far_behind_are_no_reason_for_doubt():
    """On the two examples, the third class never comes near: no margin depends on its features."""
    model = Brightest().eval()
    result = evaluate(model, (torch.tensor([[0.9, 0.5, 0.1], [0.5, 0.9, 0.1]]), torch.tensor([0, 1])), Linf(0.05))
    assert {c.name: c.level for c in result.health.checks}["cut-off"] == "trusted"


class Brightest(torch.nn.Module):
    def forward(self, x):
        return 4 * x - 1.5


class PartlyUsed(Wrapped):
    def forward(self, x):
        return self.inner(x[:, :12])


@pytest.mark.parametrize("floor", ["30%", None])
def test_findings_do_not_depend_on_the_batch(trained, data, floor):
    masked = behind("partly quantised", trained)
    small, large = (evaluate(masked, data, EPS, min_accuracy=floor, batch_size=size) for size in (20, 128))
    assert small.health == large.health
    assert small.broken_by == large.broken_by


@pytest.mark.parametrize("threat", [Linf("1e-7", bounds=None), L2("1e-7", bounds=None)], ids=str)
def test_the_slope_of_rounding_is_no_finding(trained, data, threat):
    result = evaluate(trained, data, threat)
    assert {c.name: c.level for c in result.health.checks}["slope"] == "trusted"


@pytest.mark.parametrize(
    ("ratios", "level"),
    [
        ([1.0] * 32, "trusted"),
        ([0.6] * 29 + [3.0] * 3, "trusted"),
        ([1.0] * 28 + [3.0] * 4, "suspicious"),
        ([0.4] * 32, "suspicious"),
        ([1.0] * 23 + [3.0] * 9, "invalid"),
        ([1.0] * 23 + [0.05] * 9, "invalid"),
        ([-1.0] * 32, "invalid"),
        ([], "trusted"),
    ],
)
def test_levels_of_the_slope(trained, data, monkeypatch, ratios, level):
    rest = iter([ratios])
    monkeypatch.setattr("pytest_robust.evaluation.probes._ratios", lambda *_: next(rest))
    assert {c.name: c.level for c in evaluate(trained, data, EPS).health.checks}["slope"] == level


def test_an_attack_that_cannot_run_is_no_strength():
    layer = nn.Linear(3, 2)
    x = torch.rand(20, 3, generator=torch.Generator().manual_seed(0))
    second = PGD("margin-t", n_steps=20, n_targets=1, first_target=1)
    data = (x, layer(x).argmax(1))
    for attacks, level in (([FGSM(), second], "suspicious"), ([second], "invalid"), (["pgd"], "trusted")):
        result = evaluate(layer, data, Linf("1e-3"), attacks=attacks, waive={"one-class": "random weights"})
        assert {c.name: c.level for c in result.health.checks}["strength"] == level


@pytest.mark.parametrize(("floor", "stop_early"), [("60%", True), ("60%", False), (None, True)])
def test_what_a_search_without_gradients_finds_takes_the_pass_away_and_counts(trained, data, floor, stop_early):
    truth = evaluate(trained, data, EPS)
    masked = behind("partly quantised", trained)
    result = evaluate(masked, data, EPS, min_accuracy=floor, stop_early=stop_early)
    assert not result.believable
    assert "black-box" in {c.name for c in result.health.checks if c.level == "invalid"}
    assert result.verdict == ("fail" if floor else "report")
    assert result.stages[-1].attack == "square-all"
    assert sum(k for by, k in result.broken_counts().items() if by in ("square-probe", "square-all")) > 10
    found_by_gradients = 1 - sum(stage.broken for stage in result.stages[:-1]) / len(result)
    assert float(result.accuracy) < found_by_gradients
    x, y = data
    for i in result.witnesses:
        assert masked(result.adversarial(i)[None]).argmax().item() != y[i]
        assert (result.adversarial(i).double() - x[i].double()).abs().max() <= 0.08
    # Every example that counts as a survivor has been through the last attack as well.
    if result.bound == "exact":
        assert set(result.passes[result.robust].tolist()) == {result.passes[result.robust].max()}
    assert truth.health.level == "trusted"


@pytest.mark.parametrize(
    ("wrapper", "check"), [("noise", {"determinism"}), ("batch statistics", {"batch-independence", "verified"})]
)
def test_chance_and_neighbours_take_the_pass_away(trained, data, wrapper, check):
    result = evaluate(behind(wrapper, trained), data, EPS, min_accuracy=0.05)
    assert result.meets_floor
    assert result.verdict == "fail"
    assert {c.name for c in result.health.checks if c.level == "invalid"} & check


def test_logits_that_are_not_finite_under_attack_take_the_pass_away(trained, data):
    result = evaluate(Exploding(trained, data[0]).eval(), data, EPS, min_accuracy=0.05)
    assert result.verdict == "fail"
    assert "finite" in {c.name for c in result.health.checks if c.level == "invalid"}
    assert not result.witnesses


def test_an_honest_model_is_trusted(trained, data):
    result = evaluate(trained, data, EPS, min_accuracy=0.05)
    assert result.verdict == "pass"
    assert result.health.level == "trusted"
    assert len({c.name for c in result.health.checks}) >= 6


def test_a_failed_model_stays_failed_whatever_the_health(trained, data):
    result = evaluate(Detached(trained).eval(), data, Linf("0.3"), min_accuracy=0.9)
    assert result.verdict == "fail"
    assert not result.meets_floor


class SquareRootTrap(nn.Module):
    """The where() around a square root: finite values everywhere, and a NaN gradient in part of the space."""

    def __init__(self, *, trap: bool) -> None:
        super().__init__()
        self.trap = trap

    def forward(self, x):
        u, v = x[:, 0] - 0.5, x[:, 1]
        z = u + 0.2 * torch.sin(40 * v)
        q = 1 - ((u.abs() + 0.001 * v - 0.25) / 0.05) ** 2
        k = torch.where(q > 0, q.sqrt(), 0 * q) if self.trap else q.clamp_min(1e-6).sqrt()
        return torch.stack([z + 1e-4 * k, -z], 1)


def test_nan_gradients_on_the_way_take_the_pass_away():
    x = torch.rand(200, 2, generator=torch.Generator().manual_seed(1))
    x[:, 0] = 0.5 + 0.25 * torch.sign(x[:, 0] - 0.5)
    honest, trapped = (
        evaluate(m, (x, m(x).argmax(1)), Linf("0.1", bounds=None), min_accuracy="50%", profile="release")
        for m in (SquareRootTrap(trap=False), SquareRootTrap(trap=True))
    )
    assert honest.verdict == trapped.verdict == "fail"
    assert not honest.meets_floor


def test_only_what_may_move_can_have_a_usable_gradient():
    def model(x):
        z = 0.2 * x[:, 0] + (torch.round(4 * x[:, 1]) / 4 - 0.5) * 2
        return torch.stack([z, -z], 1)

    x = torch.rand(100, 2, generator=torch.Generator().manual_seed(0))
    threat = Linf("0.5", mask=torch.tensor([False, True]))
    result = evaluate(model, (x, model(x).argmax(1)), threat, min_accuracy=0.9)
    assert result.verdict == "fail"
    assert result.health.worst is not None
    assert result.health.worst.name == "gradients"


@pytest.mark.parametrize(
    ("threat", "shift"),
    [(Linf("0.5", mask=torch.zeros(12, dtype=torch.bool)), 0.0), (Linf("4e-4", bounds=None), 1e4)],
    ids=["all-masked", "below-float-spacing"],
)
def test_examples_that_cannot_move_earn_no_pass(trained, data, threat, shift):
    x, y = data
    result = evaluate(lambda z: trained(z - shift), (x + shift, y), threat, min_accuracy=0.3)
    assert result.verdict == "fail"
    assert "room" in {c.name for c in result.health.checks if c.level == "invalid"}


def test_no_budget_is_questioned_once_and_by_name(trained, data):
    result = evaluate(trained, data, Linf(0), min_accuracy=0.3)
    assert result.verdict == "pass"
    assert [check.name for check in result.health.checks if check.level != "trusted"] == ["unit"]
    assert evaluate(trained, data, Linf(0), min_accuracy=0.3, profile="release").verdict == "fail"


def test_a_pass_cannot_rest_on_examples_that_were_not_attacked():
    def model(x):
        z = x[:, 1] - 0.5
        z = torch.where(x[:, 0] > 0.8, z.detach(), z)  # from 0.9 on, nobody leaves
        return torch.stack([z, -z], 1)

    x = torch.rand(100, 2, generator=torch.Generator().manual_seed(0)) * 0.5
    x[:40, 1] = torch.tensor([0.9, 0.1]).repeat(20)
    x[40:, 1] = torch.tensor([0.52, 0.48]).repeat(30)
    x[40:42] = torch.tensor([1.0, 0.598])  # too far for a random start, near enough for a gradient
    data = (x, model(x).argmax(1))
    resting = evaluate(model, data, Linf("0.1"), min_accuracy="41%")
    assert (resting.accuracy.k, resting.verdict) == (42, "fail")
    assert "without them the floor is missed" in str(resting.health.worst)
    free = evaluate(model, data, Linf("0.1"), min_accuracy="40%", stop_early=False)
    assert (free.verdict, free.health.level) == ("pass", "suspicious")
    assert evaluate(model, data, Linf("0.1"), min_accuracy="40%", profile="release").verdict == "fail"


def test_an_infinite_gradient_still_points_somewhere():
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(12, 3)
    layer.weight.data = torch.randn(3, 12, generator=generator)
    layer.bias.data = -layer.weight.data.sum(1) * 0.7
    x = torch.rand(100, 12, generator=generator)
    x[::2, 0] = 0
    result = evaluate(lambda z: layer(z.sqrt()), (x, layer(x.sqrt()).argmax(1)), Linf("0.1"), attacks="pgd-margin")
    at_zero = result.robust[::2].mean(), result.robust[1::2].mean()
    assert at_zero[0] <= at_zero[1] + 0.1
    assert {c.name for c in result.health.checks if c.level != "trusted"} <= {"convergence"}


def test_a_random_model_is_called_random_also_when_it_fails():
    layer = nn.Linear(10, 3)
    layer.weight.data = torch.randn(3, 10, generator=torch.Generator().manual_seed(0))
    layer.bias.data = -layer.weight.data.sum(1) / 2
    x = torch.rand(60, 10, generator=torch.Generator().manual_seed(1))
    data = (x, layer(x).argmax(1))
    result = evaluate(lambda z: layer(z) + 0.5 * torch.randn(len(z), 3), data, Linf("1e-9"), min_accuracy="95%")
    assert result.verdict == "fail"
    assert "determinism" in {c.name for c in result.health.checks if c.level == "invalid"}


class WritesUnseen(nn.Module):
    """Scales its input in place where torch does not notice."""

    def __init__(self, inner: nn.Module, *, in_place: bool) -> None:
        super().__init__()
        self.inner, self.in_place = inner, in_place

    def forward(self, x):
        if not self.in_place:
            return self.inner(0.5 * x)
        with torch.no_grad():
            x.mul_(0.5)
        return self.inner(x)


def test_a_model_that_writes_unseen_does_not_move_the_attack(trained, data):
    x, y = data
    inner = nn.Sequential(trained)
    (honest, writing) = (
        evaluate(WritesUnseen(inner, in_place=flag).eval(), (x, y), EPS, waive={"chance": "scaled inputs"})
        for flag in (False, True)
    )
    assert abs(honest.accuracy.k - writing.accuracy.k) <= 3
    assert writing.accuracy < writing.clean_accuracy - 0.1


def test_a_class_that_is_masked_by_a_huge_negative_logit_changes_little(trained, data):
    def masked(x):
        return torch.cat([trained(x), torch.full((len(x), 1), -1e9)], 1)

    plain = evaluate(trained, data, EPS, attacks="apgd-ce")
    beside = evaluate(masked, data, EPS, attacks="apgd-ce")
    assert abs(plain.accuracy.k - beside.accuracy.k) <= 3
