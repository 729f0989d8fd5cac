"""The random search: inside the threat, better with every query kept, the same in every batch, and without gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_robust import L0, L1, L2, EmbeddingBall, Linf, Square, evaluate
from pytest_robust.attacks import Live
from pytest_robust.threats import Threat

THREATS = [Linf(0.1), L2(0.5), L1(2.0), L0(3), Linf(0.1, bounds=None)]


def live_at(x: torch.Tensor, threat: Threat) -> Live:
    n = len(x)
    zeros, ones = torch.zeros(n, dtype=torch.int64), torch.ones(n)
    return Live(x, threat.region(x), {}, zeros, zeros, ones, torch.arange(n), zeros, zeros, -ones, -ones, torch.zeros(n, 2))


def searched(threat: Threat, x: torch.Tensor, target: torch.Tensor, queries: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The best point for the loss <x, target>, and all points that were tried."""
    live, attack, tried = live_at(x, threat), Square(n_steps=queries), []
    attack.begin(threat, live)
    for _ in range(queries):
        tried.append(live.x)
        loss = (live.x * target).flatten(1).sum(1)
        attack.update(threat, live, loss, torch.zeros_like(live.x))
        live.step = live.step + 1
    return live.state["best"], tried


@pytest.mark.parametrize("shape", [(3, 6, 5), (10,), (4, 7)])
@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_every_point_lies_in_the_threat_and_the_best_is_kept(threat: Threat, shape: tuple[int, ...]):
    generator = torch.Generator().manual_seed(0)
    x, target = torch.rand(4, *shape, generator=generator), torch.randn(shape, generator=generator)
    best, tried = searched(threat, x, target, 60)
    region = threat.region(x)
    for point in tried:
        assert threat.contains(threat.seal(point, region), region).all()
        assert (threat.seal(point, region) - point).abs().max() < 1e-5
    losses = torch.stack([(point * target).flatten(1).sum(1) for point in tried])
    assert torch.equal((best * target).flatten(1).sum(1), losses.amax(0))
    assert (losses.amax(0) > losses[0]).any()


def test_squares_cover_ever_fewer_pixels_of_one_sign_per_channel():
    threat, x = Linf(0.1, bounds=None), torch.zeros(1, 3, 16, 16)
    live, attack = live_at(x, threat), Square(n_steps=100)
    attack.begin(threat, live)
    stripes = live.x[0]
    assert (stripes == stripes[:, :1]).all()
    assert stripes.abs().amax() - stripes.abs().amin() < 1e-6
    sizes = []
    for step in range(100):
        live.step = torch.tensor([step])
        proposal = attack._proposal(live)[0]
        changed = proposal != 0
        assert (changed == changed[:1]).all()
        sizes.append(int(changed[0].sum()))
        assert all(channel[changed[0]].sign().unique().numel() == 1 for channel in proposal)
    assert sizes[0] > 100 > 16 > sizes[-1] >= 1
    assert sizes == sorted(sizes, reverse=True)


class Step(nn.Module):
    """Class 1 where the mean is above a threshold: no gradient anywhere."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = (x.flatten(1).mean(1) > 0.5).float() * 2 - 1
        return torch.stack([-z, z], 1) + 0 * x.flatten(1)[:, :2]


def data() -> tuple[torch.Tensor, torch.Tensor]:
    levels = torch.linspace(0.2, 0.8, 41)[:, None, None, None]
    x = levels + 0.02 * torch.rand(41, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    return x, Step()(x).argmax(1)


def test_it_breaks_what_gradients_cannot_and_spends_no_backward_pass():
    attack = Square("margin", n_steps=300)
    result = evaluate(Step().eval(), data(), Linf("0.1"), attacks=attack, waive={"gradient": "a step function, on purpose"})
    near = (data()[0].flatten(1).mean(1) - 0.5).abs() < 0.03
    assert result.accuracy.k < len(result)
    assert not result.robust[near.numpy()].all()
    assert result.stages[0].cost.backward == 0
    assert result.passes[result.robust].tolist() == [301] * result.accuracy.k


@pytest.mark.parametrize("size", [1, 7])
def test_outcomes_do_not_depend_on_the_batch(size: int):
    waive = {"gradient": "a step function, on purpose"}
    attack = Square(n_steps=50)
    whole = evaluate(Step().eval(), data(), Linf("0.1"), attacks=attack, waive=waive)
    parts = evaluate(Step().eval(), data(), Linf("0.1"), attacks=attack, waive=waive, batch_size=size)
    assert whole.robust.tolist() == parts.robust.tolist()


def test_token_embeddings_have_random_features_in_place_of_squares():
    threat = EmbeddingBall("0.3")
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    best, _ = searched(threat, x, torch.ones(5, 8), 40)
    assert ((best - x).norm(dim=2) <= 0.3 + 1e-5).all()
    assert ((best - x).sum((1, 2)) > 0).all()
