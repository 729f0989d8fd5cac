from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from pytest_robust import GCG, CharacterEdits, Linf, evaluate
from pytest_robust.attacks import Live
from pytest_robust.errors import ThreatError

THREAT = CharacterEdits(2)


def walked(attack, values, k=2, n=1):
    """The points of a search whose loss is linear in the options, (S, C), and where it asked for gradients."""
    free = torch.ones(n, *values.shape, dtype=torch.bool)
    region = CharacterEdits(k).region(torch.zeros(free.shape), free)
    zeros, low = torch.zeros(n, dtype=torch.int64), torch.full((n,), -torch.inf)
    live = Live(
        region.origin, region, {}, zeros, zeros, torch.ones(n), torch.arange(n), zeros, zeros, low, low, torch.zeros(n, 2)
    )
    attack.begin(THREAT, live)
    points, asked = [], []
    for _ in range(attack.n_steps):
        points.append(live.x)
        asked.append(attack.wants_gradient(live))
        grad = torch.where(asked[-1].view(-1, 1, 1), values, 0.0)
        attack.update(THREAT, live, (live.x * values).sum((1, 2)), grad)
        live.step = live.step + 1
    return torch.stack(points), torch.stack(asked)


VALUES = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))


def test_a_gradient_is_asked_for_before_each_batch():
    _, asked = walked(GCG(n_steps=20, width=4), VALUES)
    assert asked[:, 0].nonzero().flatten().tolist() == [0, 5, 10, 15]


def test_a_batch_is_of_single_swaps_among_the_likeliest_options():
    points, _ = walked(GCG(n_steps=19, width=18, top=3), VALUES)
    base, batch = points[0, 0], points[1:, 0]
    likeliest = VALUES.topk(3, dim=1).indices
    seen = set()
    for point in batch:
        changed = ((point - base) > 0).nonzero()
        assert len(changed) == 1
        site, option = changed[0].tolist()
        assert option in likeliest[site].tolist()
        assert int(point.sum()) == 2
        seen.add((site, option))
    own = sum(int(base[site, option]) for site, options in enumerate(likeliest.tolist()) for option in options)
    # All that there are but those that the text has already.
    assert len(seen) == len(batch) == 18 - own or own == 0


def test_the_best_of_a_batch_is_the_next_text_even_if_it_is_worse():
    points, asked = walked(GCG(n_steps=40, width=3, top=9), VALUES)
    losses, based = (points[:, 0] * VALUES).sum((1, 2)), asked[:, 0].nonzero().flatten().tolist()
    for before, after in pairwise(based):
        assert losses[after] == losses[before + 1 : after].max()
    assert any(losses[after] < losses[before] for before, after in pairwise(based))


def test_the_largest_sum_is_found():
    points, _ = walked(GCG(n_steps=80, width=12, top=2), VALUES, n=20)
    best = VALUES.amax(1).topk(2).values.sum()
    assert torch.allclose((points * VALUES).sum((2, 3)).amax(0), best)


def test_each_example_has_its_own_luck():
    together, _ = walked(GCG(n_steps=30), VALUES, n=3)
    alone, _ = walked(GCG(n_steps=30), VALUES, n=1)
    assert torch.equal(together[:, 0], alone[:, 0])
    assert not torch.equal(together[:, 1], together[:, 0])


@pytest.mark.parametrize("build", [lambda: GCG(width=0), lambda: GCG(top=0), lambda: GCG(n_steps=0), lambda: GCG("cee")])
def test_what_cannot_be_is_refused(build):
    with pytest.raises(ValueError, match="whole number|loss"):
        build()


def test_other_threats_than_edits_are_refused():
    model, inputs = torch.nn.Linear(4, 2), torch.eye(4)
    data = (inputs, model(inputs).argmax(1))
    with pytest.raises(ThreatError, match="gcg edits texts, and linf 0.1 moves other things"):
        evaluate(model, data, Linf(0.1, bounds=None), attacks="gcg", waive={"chance": "untrained", "one-class": "the same"})
