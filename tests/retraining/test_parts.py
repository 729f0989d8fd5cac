"""The parts of a training, against their closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pytest_robust import L2, PGD, Linf
from pytest_robust.attacks import FGSM
from pytest_robust.errors import DamagedError, RobustError
from pytest_robust.evaluation.passes import Passes
from pytest_robust.models import adapt
from pytest_robust.objectives import Untargeted
from pytest_robust.retraining.crafting import NFGSM, craft
from pytest_robust.retraining.guard import Guard, Probe
from pytest_robust.retraining.outer import OUTERS, usual
from pytest_robust.retraining.recipe import METHODS, Recipe, method_for, usual_optimizer
from pytest_robust.retraining.states import random_state, read_state, set_random_state, write_state
from pytest_robust.retraining.weights import Average, perturbed, put, state_of
from pytest_robust.threats import CharacterEdits, Photometric


def linear(features=4):
    torch.manual_seed(0)
    return nn.Linear(features, 2)


def crafted(module, x, y, threat, attack, share=1.0):
    model = adapt(module)
    with model.isolated():
        batch = model.batch(x)
        return craft(
            Passes(model, 100), batch, y, threat, Untargeted(), attack, torch.arange(len(x)), share=share, judge=True
        )


def away(module, y):
    """(B, F) the direction in which the margin of a linear model of two classes falls."""
    w = module.weight.detach()
    return (w[1] - w[0]) * (1 - 2 * y).unsqueeze(1)


@pytest.mark.parametrize("attack", [FGSM("ce"), PGD("ce", n_steps=20, step_size=0.25)], ids=["fgsm", "pgd"])
def test_points_for_a_linear_model_are_the_worst_of_the_ball(attack):
    module, x, y = linear(), torch.rand(8, 4), torch.arange(8) % 2
    found = crafted(module, x, y, Linf(0.1, bounds=None), attack)
    torch.testing.assert_close(found.x, x + 0.1 * away(module, y).sign())
    found = crafted(module, x, y, L2(0.1, bounds=None), attack)
    torch.testing.assert_close(found.x, x + 0.1 * nn.functional.normalize(away(module, y)), atol=5e-3, rtol=0)


def test_a_share_of_the_budget_is_kept_to():
    module, x, y = linear(), torch.rand(8, 4), torch.arange(8) % 2
    found = crafted(module, x, y, Linf(0.2, bounds=None), FGSM("ce"), share=0.5)
    torch.testing.assert_close(found.x, x + 0.1 * away(module, y).sign())
    assert torch.equal(crafted(module, x, y, Linf(0.2), FGSM("ce"), share=0.0).x, x)


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.3)])
def test_noisy_fgsm_steps_from_noise_and_is_not_projected(threat):
    module, x, y = linear(50), torch.rand(64, 50), torch.arange(64) % 2
    x[:, 0] = 0.0
    moved = crafted(module, x, y, threat, NFGSM()).x
    assert moved.min() >= 0
    assert moved.max() <= 1
    size = threat.distance(moved, threat.region(x))
    eps = float(threat.budget)
    assert (size <= 3 * eps + 1e-6).all()
    assert (size > 1.2 * eps).any(), "else it was projected on the ball"
    assert ((moved - x) * away(module, y)).sum(1).mean() > 0


def test_attacks_with_targets_are_refused():
    with pytest.raises(ValueError, match="fgsm-t drives towards targets, and training has none"):
        crafted(linear(), torch.rand(2, 4), torch.arange(2), Linf(0.1), FGSM("margin-t", n_targets=1))


def test_what_is_broken_on_the_way_is_noticed():
    module, x, y = linear(), torch.rand(30, 4), torch.arange(30) % 2
    found = crafted(module, x, y, Linf(0.3, bounds=None), FGSM("ce"))
    worst = x + 0.3 * away(module, y).sign()
    with torch.no_grad():
        wrong = (module(worst).argmax(1) != y) | (module(x).argmax(1) != y)
    assert torch.equal(found.broken, wrong)
    assert 0 < wrong.sum() < 30


def test_without_a_change_every_loss_is_the_usual_one_or_twice_it():
    logits, labels = torch.randn(6, 3), torch.arange(6) % 3
    same = {name: outer.loss(logits, logits, labels, usual, outer.beta) for name, outer in OUTERS.items()}
    torch.testing.assert_close(same["ce"], usual(logits, labels))
    torch.testing.assert_close(same["trades"], usual(logits, labels))
    torch.testing.assert_close(same["consistency"], 2 * usual(logits, labels))


def test_trades_and_mart_are_the_sums_of_the_papers():
    clean, moved, labels = torch.randn(5, 4), torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    p, q = clean.softmax(1), moved.softmax(1)
    divergence = (p * (p / q).log()).sum(1)
    torch.testing.assert_close(
        OUTERS["trades"].loss(clean, moved, labels, usual, 6.0), -p[range(5), labels].log() + 6 * divergence
    )
    others = torch.stack([q[i][[c for c in range(4) if c != y]].max() for i, y in enumerate(labels)])
    boosted = -q[range(5), labels].log() - (1 - others).log()
    wanted = boosted + 5 * divergence * (1 - p[range(5), labels])
    torch.testing.assert_close(OUTERS["mart"].loss(clean, moved, labels, usual, 5.0), wanted)
    soft = nn.functional.one_hot(labels, 4).float()
    torch.testing.assert_close(OUTERS["mart"].loss(clean, moved, soft, usual, 5.0), wanted)


def test_the_average_follows_its_closed_form_and_aliases_nothing():
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average, weight = Average(module, 0.5), module[0].weight
    wanted = weight.detach().clone()
    for t in range(20):
        with torch.no_grad():
            weight += 1
            module[1].running_mean.fill_(t)
        average.update()
        decay = min(0.5, (1 + t) / (10 + t))
        wanted = decay * wanted + (1 - decay) * weight.detach()
    torch.testing.assert_close(average.state["0.weight"], wanted)
    assert average.state["1.running_mean"].eq(19).all()
    own = state_of(module)
    with average.in_place():
        assert torch.equal(module[0].weight, average.state["0.weight"])
    assert all(torch.equal(own[name], tensor) for name, tensor in module.state_dict().items())


def test_the_average_of_coarse_weights_moves():
    module = nn.Linear(2, 2).bfloat16()
    average = Average(module, 0.995)
    with torch.no_grad():
        module.weight += 1
    for _ in range(2000):
        average.update()
    torch.testing.assert_close(average.state["weight"], module.weight.detach().float(), rtol=1e-3, atol=0)


def test_weights_are_perturbed_by_their_norm_and_come_back_bit_by_bit():
    module = nn.Linear(3, 2)
    before = state_of(module)
    grad = torch.randn(2, 3)
    with perturbed(module, 0.1, {"weight": grad, "bias": torch.ones(2)}):
        moved = module.weight.detach() - before["weight"]
        torch.testing.assert_close(moved.norm(), 0.1 * before["weight"].norm())
        torch.testing.assert_close(moved / moved.norm(), grad / grad.norm())
        assert torch.equal(module.bias, before["bias"])
    assert torch.equal(module.weight, before["weight"])


def test_mart_pushes_a_sure_mistake_too():
    logits = torch.tensor([[0.0, 40.0, 0.0]], requires_grad=True)
    OUTERS["mart"].loss(logits.detach(), logits, torch.tensor([0]), usual, 5.0).sum().backward()
    assert logits.grad[0, 1] > 1.5, "1 of the cross-entropy, and 1 of the boost"


def probe(clean=90, fast=60, strong=50, loss=1.0, n_classes=10):
    return Probe(clean, fast, strong, 100, loss, n_classes)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (probe(loss=math.nan), "the loss is nan"),
        (probe(clean=11, fast=10, strong=9), "that of a guess"),
        (probe(fast=95, strong=49), "the step has gone blind"),
        (probe(fast=30, strong=20), "fell to 20.0% from 50.0%"),
    ],
)
def test_the_guard_tells_a_collapse(found, why):
    guard = Guard()
    assert guard.judge(probe()) is None
    before = guard.state()
    assert why in guard.judge(found)
    assert guard.state() == before


def test_the_guard_tells_a_step_that_was_blind_from_the_start():
    guard = Guard()
    assert guard.judge(probe(fast=10, strong=0)) is None
    assert "the step has gone blind" in guard.judge(probe(fast=95, strong=0))


def test_the_guard_lets_noise_and_a_rising_budget_pass():
    guard = Guard()
    for strong in (0, 10, 5, 30, 26, 44, 40, 36):
        assert guard.judge(probe(fast=60, strong=strong)) is None
    assert Guard(usual=0.6, best_clean=0.62).judge(probe(clean=58, fast=57, strong=56, n_classes=2)) is None


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 5), inside, max_size=3)
        | st.tuples(inside, inside)
    ),
    max_leaves=8,
)


@given(value=plain)
def test_a_state_comes_back_as_it_was(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("state") / "state"
    write_state(path, {"value": value})
    assert repr(read_state(path)) == repr({"value": value})


def test_an_optimizer_and_random_states_come_back_bit_by_bit(tmp_path):
    module = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.rand(4, 3)).sum().backward()
    optimizer.step()
    kept = {"half": torch.rand(3).bfloat16(), "no": torch.zeros(0), "optimizer": optimizer.state_dict()}
    kept["random"] = random_state()
    write_state(tmp_path / "state", kept)
    drawn = [torch.rand(2), np.random.rand(2)]
    found = read_state(tmp_path / "state")
    set_random_state(found["random"])
    assert torch.equal(torch.rand(2), drawn[0])
    assert (np.random.rand(2) == drawn[1]).all()
    assert torch.equal(found["half"], kept["half"])
    assert found["no"].shape == (0,)
    again = torch.optim.AdamW(nn.Linear(3, 2).parameters())
    again.load_state_dict(found["optimizer"])
    assert repr(again.state_dict()) == repr(optimizer.state_dict())


def test_a_flipped_bit_is_noticed_and_what_cannot_be_kept_refused(tmp_path):
    path = tmp_path / "state"
    write_state(path, {"value": torch.rand(8)})
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DamagedError, match="state"):
        read_state(path)
    with pytest.raises(RobustError, match="a set, which cannot be kept"):
        write_state(path, {"value": {1, 2}})


def test_budget_and_rate_rise_and_fall_evenly():
    recipe = Recipe("pgd", 1, 8, 0, 0.1, 1.0, 0.0, 0.9, eps_warmup=0.5, max_clean_drop=0.1, autocast=False)
    assert [recipe.share(step, 10) for step in (0, 1, 5, 9)] == [0, 0.2, 1, 1]
    rates = [recipe.lr_share(step, 10) for step in range(10)]
    assert max(rates) == 1
    assert rates.index(1) == 1
    assert rates[-1] == 1 / 8
    assert rates[0] == 0.5


def test_auto_is_the_cheapest_for_the_threat_and_others_are_refused():
    assert [method_for("auto", threat)[0] for threat in (Linf(0.1), L2(1), CharacterEdits(1))] == ["nfgsm", "pgd2", "typos"]
    for name, threat, why in (
        ("pdg", Linf(0.1), "no method is called 'pdg'; there is: auto, nfgsm"),
        ("typos", Linf(0.1), "method 'typos' is not for linf 0.1; for that there is: nfgsm"),
        ("pgd", CharacterEdits(1), "is not for characters 1; for that there is: typos, hotflip"),
        ("auto", Photometric(), "cannot be trained against"),
    ):
        with pytest.raises(ValueError, match=why):
            method_for(name, threat)
    assert all(method.replays in (0, method.attack.n_steps) for method in METHODS.values())


def test_the_usual_optimizer_spares_biases_and_suits_the_kind():
    sgd, rate = usual_optimizer(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), None, None)
    assert isinstance(sgd, torch.optim.SGD)
    assert rate == 0.05
    assert [[p.ndim for p in group["params"]] for group in sgd.param_groups] == [[4], [1, 1, 1]]
    assert [group["weight_decay"] for group in sgd.param_groups] == [5e-4, 0]
    adam, rate = usual_optimizer(nn.Linear(2, 2), None, 768)
    assert isinstance(adam, torch.optim.AdamW)
    assert rate == pytest.approx(4e-5, rel=0.05)


def test_a_state_is_put_into_the_tensors_that_are_there():
    module = nn.Linear(2, 2)
    weight, other = module.weight, nn.Linear(2, 2)
    put(module, state_of(other))
    assert module.weight is weight
    assert torch.equal(weight, other.weight)
