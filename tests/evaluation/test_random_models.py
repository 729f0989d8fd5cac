"""Random models: outcomes are those of the majority of draws, no single draw counts, and noise hides nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import nn

from pytest_robust import PGD, Linf, PreflightError, evaluate
from pytest_robust.evaluation.votes import _RIGHT, _WRONG, FEW, MANY, Ballot

EPS = 0.05


class Noisy(nn.Module):
    def __init__(self, inner: nn.Module, sigma: float) -> None:
        super().__init__()
        self.inner, self.sigma = inner, sigma

    def forward(self, x):
        return self.inner(x + self.sigma * torch.randn_like(x))


def planted(sigma: float, n: int = 40) -> tuple[nn.Module, torch.Tensor, torch.Tensor, np.ndarray]:
    """A linear model of two classes with Gaussian noise on its input: the majority is the noiseless model.

    With it the margins at the worst point of the ball, in standard deviations of the noise; robust where positive.
    """
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(12, generator=generator)
    layer = nn.Linear(12, 2)
    layer.weight.data = torch.stack([-weight, weight]) / 2
    layer.bias.data = torch.tensor([1.0, -1.0]) * weight.sum() / 4
    x = torch.rand(n, 12, generator=generator)
    logit = (x.double() - 0.5) @ weight.double()
    up, down = (1 - x.double()).clamp(max=EPS), x.double().clamp(max=EPS)
    sign = torch.sign(logit)[:, None]
    towards = torch.where(sign * weight > 0, down, up)
    left = logit.abs() - (towards * weight.abs()).sum(1)
    return Noisy(layer, sigma).eval(), x, (logit > 0).long(), (left / (sigma * weight.norm())).numpy()


def test_a_vote_passes_for_broken_by_luck_in_less_than_one_of_a_hundred():
    assert sum(binom.sf(_WRONG[of] - 1, of, 0.5) for of in (FEW, MANY)) < 0.01
    assert binom.sf(_WRONG[MANY] - 2, MANY, 0.5) > 0.01  # not stricter than it need be
    assert binom.cdf(_RIGHT, FEW, 0.5) < 0.01
    ballots = [Ballot(wrong, MANY, 0) for wrong in range(MANY + 1)]
    assert [b.wrong for b in ballots if b.contested] == list(range(101, 117))
    assert [b.right for b in ballots] == [b.wrong < 100 for b in ballots]
    assert (Ballot(1, 1, 0).broken, Ballot(0, 1, 0).broken, Ballot(0, 1, 0).right) == (True, False, True)


@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_a_noisy_linear_model_has_the_robust_accuracy_of_its_majority(sigma):
    model, x, y, left = planted(sigma)
    result = evaluate(model, (x, y), Linf(EPS), draws=5)
    sure = np.abs(left) > 0.4  # standard deviations: beyond them 66 % of draws agree, and 200 votes tell
    assert sure.sum() >= 25
    assert np.array_equal(result.robust[sure], (left > 0)[sure])
    levels = {c.name: c.level for c in result.health.checks}
    assert set(levels.values()) == {"trusted", levels["votes"]}
    assert "means of 5 draws" in " ".join(result.notes)
    if sigma == 0.02:
        assert abs(result.accuracy.k - (left > 0).sum()) <= 1
    else:
        # Many lie where votes cannot tell: nothing may rest on them. One draw at a time is far off, too: among so many
        # looks, some draw is wrong.
        assert levels["votes"] == "invalid"
        with torch.random.fork_rng():
            torch.manual_seed(0)
            single = evaluate(model, (x, y), Linf(EPS))
        assert single.robust.sum() < 0.75 * (left > 0).sum()
    for i in result.witnesses:
        with torch.random.fork_rng():
            fresh = model(result.adversarial(i).expand(2000, -1)).argmax(1)
        assert float((fresh != y[i]).float().mean()) > 0.5


def test_a_lucky_draw_breaks_nothing():
    """Wrong in three of ten draws, wherever it is asked: the majority is always right."""

    def model(x):
        z = (x[:, 0] - 0.5) * torch.where(torch.rand(len(x)) < 0.3, -1.0, 1.0)
        return torch.stack([-z, z], 1)

    x = torch.rand(12, 3, generator=torch.Generator().manual_seed(0))
    x[:, 0] = 0.5 + 0.4 * torch.sign(x[:, 0] - 0.5)
    result = evaluate(model, (x, (x[:, 0] > 0.5).long()), Linf(EPS), draws=5, min_accuracy=1, profile="smoke")
    assert result.verdict == "pass"
    assert result.broken_counts() == {}


def test_a_mean_that_is_right_hides_no_majority_that_is_wrong():
    """Three draws in ten shout the right class, from a feature that nobody may move; the others can be fooled."""
    model, x, y, left = planted(0.01)
    few = np.concatenate([np.flatnonzero(left < -1)[:4], np.flatnonzero(left > 5)[:2]])
    x, y, left = x[few], y[few], left[few]
    x = torch.cat([x, y[:, None].float()], 1)

    def shouting(x):
        shout = 1000 * (torch.rand(len(x)) < 0.3) * (2 * x[:, 12] - 1)
        return model(x[:, :12]) + torch.stack([-shout, shout], 1)

    mask = torch.arange(13) < 12
    attack = PGD("margin", n_steps=5, step_size=1.0, schedule="cosine")
    result = evaluate(shouting, (x, y), Linf(EPS, mask=mask), draws=20, attacks=attack, min_accuracy=1, stop_early=False)
    assert result.robust.tolist() == (left > 0).tolist()


def test_rounding_under_noise_gets_no_pass(trained, data):
    """The noise is there, the gradient is not."""

    def model(x):
        return trained(((x + 0.05 * torch.randn_like(x)) * 16).round() / 16)

    few = data[0][:15], data[1][:15]
    with pytest.raises(PreflightError, match="gradient"):
        evaluate(model, few, Linf("0.08"), draws=3)
    result = evaluate(model, few, Linf("0.08"), draws=2, waive={"gradient": "to see"}, min_accuracy="5%", profile="smoke")
    assert result.verdict == "fail"
    assert "gradients" in {c.name for c in result.health.checks if c.level == "invalid"}


def test_a_generator_of_the_models_own_is_not_repeatable(trained, data):
    generator = torch.Generator().manual_seed(0)

    def model(x):
        return trained(x + 0.1 * torch.randn(x.shape, generator=generator))

    few = data[0][:15], data[1][:15]
    result = evaluate(model, few, Linf("0.01"), draws=3, min_accuracy="5%", profile="smoke")
    assert result.verdict == "fail"
    check = next(c for c in result.health.checks if c.name == "determinism")
    assert (check.level, "generator of its own" in check.detail) == ("invalid", True)


def test_neither_batch_nor_order_has_a_say(trained, data):
    model = Noisy(trained, 0.15).eval()
    x, y = data[0][:12], data[1][:12]
    options = {"draws": 3, "profile": "smoke"}
    one = evaluate(model, (x, y), Linf("0.15"), batch_size=7, **options)
    other = evaluate(model, (x.flip(0), y.flip(0)), Linf("0.15"), batch_size=64, **options)
    assert one.broken_by == other.broken_by[::-1]
    assert one.health == other.health
    assert 0 < one.accuracy.k < one.clean_accuracy.k
    assert {i: one.adversarial(i).tolist() for i in one.witnesses} == {
        11 - i: other.adversarial(i).tolist() for i in other.witnesses
    }


def test_a_model_that_is_not_random_is_told_so_and_pays_for_each_draw(trained, data):
    few = data[0][:15], data[1][:15]
    plain = evaluate(trained, few, Linf("0.08"), profile="smoke")
    result = evaluate(trained, few, Linf("0.08"), profile="smoke", draws=4)
    assert np.array_equal(plain.robust, result.robust)
    assert result.health.level == "trusted"
    assert any("draws=4 was given" in note for note in result.notes)
    assert result.cost.backward == 4 * plain.cost.backward
    assert result.cost.forward > 4 * plain.cost.forward
    assert np.array_equal(result.passes, 4 * plain.passes)


def test_dropout_in_use_is_meant_with_draws_only(trained, data):
    model = nn.Sequential(*trained[:2], nn.Dropout(0.2), *trained[2:]).eval()
    model[2].train()
    few = data[0][:15], data[1][:15]
    with pytest.raises(PreflightError, match="mode"):
        evaluate(model, few, Linf("0.02"))
    result = evaluate(model, few, Linf("0.02"), draws=3, profile="smoke")
    assert "acting: 2 (Dropout)" in " ".join(result.notes)
    assert "means of 3 draws" in " ".join(result.notes)
    assert model[2].training


@pytest.mark.parametrize("draws", [0, 2.5, "3"])
def test_draws_are_a_whole_number(trained, data, draws):
    with pytest.raises(ValueError, match="draws must be a whole number"):
        evaluate(trained, data, Linf("0.02"), draws=draws)


def test_what_was_found_with_other_draws_is_another_check(trained, data):
    few = data[0][:10], data[1][:10]
    checks = [evaluate(trained, few, Linf("0.02"), draws=n, attacks="fgsm").identity.check for n in (None, 2, 3, 3)]
    assert len(set(checks)) == 3
    assert None not in checks
