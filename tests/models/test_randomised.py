"""Draws of a random model: repeatable, of each example alone, and the caller's random states stay."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from pytest_robust import Examples
from pytest_robust.models import Randomised, adapt, redrawn
from pytest_robust.random_state import preserved_random_state

X = torch.rand(6, 4, generator=torch.Generator().manual_seed(0))
LAYER = nn.Linear(4, 3).requires_grad_(False)


def per_row(x):
    return LAYER(x + torch.randn_like(x))


def per_batch(x):
    return LAYER(x) + torch.rand(1)


def of_numpy(x):
    return LAYER(x * float(np.random.rand()))


def of_python(x):
    return LAYER(x * random.random())


KINDS = [per_row, per_batch, of_numpy, of_python]


def logits(function, x=X, draws=3, seed=0):
    model = Randomised(adapt(function), draws, seed)
    with model.isolated(), torch.no_grad():
        batch = model.batch(x)
        return model.logits(batch.x, batch.context)


@pytest.mark.parametrize("function", KINDS)
def test_draws_belong_to_the_example(function):
    whole = logits(function)
    assert torch.equal(whole, logits(function))
    assert torch.equal(whole.flip(0), logits(function, X.flip(0)))
    assert torch.equal(whole, torch.cat([logits(function, x[None]) for x in X]))
    assert torch.equal(whole[:1], logits(function, X[[0, 0]])[1:])
    for other in (logits(function, seed=1), logits(function, draws=4)):
        assert not torch.isclose(whole, other).any()


@pytest.mark.parametrize("function", KINDS)
def test_the_mean_is_that_of_different_draws(function):
    many, few = logits(function, draws=400), logits(function, draws=2)
    with preserved_random_state(), torch.no_grad():
        truth = torch.stack([function(X) for _ in range(4000)]).mean(0)
    assert (many - truth).abs().max() < 0.3
    assert (many - truth).abs().mean() < (few - truth).abs().mean()


def test_the_gradient_is_that_of_the_mean():
    def scaled(x):
        return LAYER(x * torch.randint(1, 10, (1,)))

    model = Randomised(adapt(scaled), 5, 0)
    x = X.clone().requires_grad_()
    with model.isolated():
        context = model.batch(X).context
        mean = model.logits(x, context)
        (grad,) = torch.autograd.grad(mean[:, 1].sum(), x)
    scale = (mean.detach() - LAYER.bias)[:, 1] / (X @ LAYER.weight[1])
    torch.testing.assert_close(grad, scale[:, None] * LAYER.weight[1])
    assert len(set(scale.tolist())) > 1


def test_votes_are_draws_that_the_search_does_not_meet():
    model = Randomised(adapt(per_row), 3, 0)
    with model.isolated(), torch.no_grad():
        batch = model.batch(X[:1])
        votes = model.votes(batch.x, batch.context, range(4))
        again = model.votes(batch.x, batch.context, range(2, 4))
        search = [Randomised(adapt(per_row), 1, 0).logits(batch.x, batch.context)]
    assert votes.shape == (4, 3)
    assert torch.equal(votes[2:], again)
    assert len({tuple(row) for row in [*votes.tolist(), *search[0].tolist()]}) == 5


def test_each_step_of_a_search_has_draws_of_its_own():
    model = Randomised(adapt(per_row), 3, 0)
    keys, zero = torch.arange(6), torch.zeros(6, dtype=torch.int64)
    with model.isolated(), torch.no_grad():
        context = model.batch(X).context
        one, same, other = (model.logits(X, redrawn(context, keys, zero + step)) for step in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.isclose(one, other).any()
    assert redrawn({"mask": zero}, keys, zero) == {"mask": zero}


def test_the_callers_random_states_stay():
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    logits(per_row)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


def test_dropout_acts_where_the_user_left_it_on():
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 3)).eval()
    model[1].train()
    model[3].train()
    adapted = Randomised(adapt(model, device="cpu"), 2, 0)
    assert adapted.training_parts() == ("3 (BatchNorm1d)",)
    with adapted.isolated():
        assert [part.training for part in model] == [False, True, False, False, False]
        adapted.encode(Examples.of(X, torch.zeros(6, dtype=torch.int64)))
        assert [part.training for part in model] == [False, True, False, False, False]
    assert [part.training for part in model] == [False, True, False, True, False]
    assert adapted.notes == ("in training mode, and so acting: 1 (Dropout)",)
