from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from text_models import Classifier, scored, tokenizer

from pytest_robust import CharacterEdits, RelaxedPGD, SimplexPGD, WordEdits, evaluate
from pytest_robust.attacks.relaxed import spread_out
from pytest_robust.attacks.simplex import pointed

WAIVE = {"chance": "few texts"}


def region_of(k, free):
    return CharacterEdits(k).region(torch.zeros(free.shape), free)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 3), st.integers(0, 10**6))
def test_weights_are_the_nearest_that_are_allowed(sites, options, k, seed):
    random = torch.Generator().manual_seed(seed)
    raw = 2 * torch.randn(1, sites, options, generator=random)
    region = region_of(k, torch.ones(raw.shape, dtype=torch.bool))
    found = spread_out(raw, region)
    assert float(found.min()) >= 0
    assert float(found.sum(2).max()) <= 1 + 1e-5
    assert float(found.sum()) <= k + 1e-4
    for _ in range(20):
        other = torch.rand(raw.shape, generator=random)
        other = other / other.sum(2, keepdim=True).clamp_min(1)
        other = other * min(1.0, k / float(other.sum()))
        # Of all allowed points none lies on the far side: the angle at the nearest is not acute.
        assert float(((raw - found) * (other - found)).sum()) <= 1e-3


def test_points_are_where_they_may_be():
    """Weights between texts, then a text; first of the heaviest options, and one of each site."""
    threat, free = WordEdits(2, substitutes={"a": ["b"]}), torch.zeros(1, 4, 3, dtype=torch.bool)
    free[0, :3, :2] = True
    region = region_of(2, free)
    attack = RelaxedPGD()
    live = type("Slots", (), {})()
    live.x, live.region, live.key = region.origin, region, torch.tensor([3])
    live.restart, live.step = torch.tensor([0]), torch.tensor([0])
    live.rows = lambda tensor: tensor.view(-1, 1, 1)
    attack.begin(threat, live)
    grad = torch.tensor([[[0.1, 0.9, 5.0], [0.8, 0.7, 5.0], [-1.0, -2.0, 0.0], [9.0, 9.0, 9.0]]])
    attack.update(threat, live, torch.zeros(1), grad)
    assert live.x.nonzero()[:, 1:].tolist() == [[0, 1], [1, 0]]
    live.step = torch.tensor([1])
    attack.update(threat, live, torch.zeros(1), -grad)  # that of a text moves nothing
    assert 0 < float(live.x[0, 0, 1]) < 1
    assert float(live.x[0, 2].sum()) == float(live.x[0, 3].sum()) == float(live.x[0, :, 2].sum()) == 0


@given(st.integers(1, 6), st.floats(0, 1), st.integers(0, 10**6))
def test_weights_are_no_more_even_than_is_asked(options, share, seed):
    random = torch.Generator().manual_seed(seed)
    raw = torch.rand(2, 3, options, generator=random, dtype=torch.float64)
    raw[:, 1, 0] = 0.0
    weights = raw / (raw.sum(2, keepdim=True) + torch.rand(2, 3, 1, generator=random, dtype=torch.float64) + 1e-9)
    found = pointed(weights, torch.full((2, 1, 1), share, dtype=torch.float64))
    assert float(found.min()) >= 0
    assert float(found.sum(2).max()) <= 1 + 1e-9
    assert bool((found[weights == 0] == 0).all())
    before, after = (torch.cat([w, (1 - w.sum(2, keepdim=True)).clamp_min(0)], 2) for w in (weights, found))
    held = (before > 0).to(before.dtype)
    count = held.sum(2)
    # The Gini entropy is 1 - sum of squares, at most (count - 1) / count.
    highest = (1 - share) * (count - 1) / count
    entropies = [1 - whole.square().sum(2) for whole in (before, after)]
    assert bool((entropies[1] <= entropies[0] + 1e-9).all())
    fine = entropies[0] <= highest
    torch.testing.assert_close(found[fine], weights[fine])
    # As low as is asked, where the way there does not lead out of the simplex.
    even = held / count.unsqueeze(2)
    away = before - even
    aim = even + away * ((share * (count - 1) / count).sqrt() / away.norm(dim=2).clamp_min(1e-12)).unsqueeze(2)
    inside = ~fine & (aim >= 0).all(2) & (away.norm(dim=2) > 1e-6)
    torch.testing.assert_close(entropies[1][inside], highest[inside])


def test_gradients_are_followed_between_texts_only():
    attack = SimplexPGD(n_steps=7)
    live = type("Slots", (), {"step": torch.arange(8)})()
    assert attack.wants_gradient(live).tolist() == [True, False] * 3 + [True, False]


@pytest.mark.parametrize("attack", [RelaxedPGD(n_steps=12), SimplexPGD(n_steps=24)])
def test_two_words_are_found_where_no_one_does(attack):
    worth = {"good": 1.0, "fine": -0.3, "film": 0.5, "plot": -0.2, "very": 0.0, "not": 0.1}
    substitutes = {"good": ["fine", "great"], "film": ["plot"], "very": ["not"]}
    model = scored(worth, default=0.0)
    data = [("the film was very good", 1), ("film is good", 1), ("poor film", 1), ("awful", 0)]
    for k, robust in ((1, [True, True, False, True]), (2, [False, False, False, True])):
        threat = WordEdits(k, substitutes=substitutes)
        result = evaluate(model, data, threat, attacks=attack, waive=WAIVE)
        assert result.robust.tolist() == robust
        assert all(threat.measure(clean, changed, 9) <= k for clean, changed in result.changed.values())


class Between(Classifier):
    """Class 1 only where the sum of the first coordinate lies between whole numbers, where no text is."""

    def read(self, embedded, there):
        total = (embedded * there).sum((1, 2))
        off = (total - total.detach().round()).abs()
        return torch.stack([torch.full_like(off, 0.1), off], 1)


@pytest.mark.parametrize("attack", [RelaxedPGD(n_steps=20, n_restarts=2), SimplexPGD(n_steps=20, n_restarts=2)])
def test_between_texts_nothing_counts(attack):
    tokens = tokenizer()
    model = Between(len(tokens), 1).eval()
    with torch.no_grad():
        model.embeddings.weight.zero_()
        for word in ("good", "film"):
            model.embeddings.weight[tokens.get_vocab()[word], 0] = 1.0
    data = [("good film", 0), ("film was good", 0), ("the film", 0), ("good plot", 0)]
    threat = WordEdits(1, substitutes={"good": ["bad"], "film": ["plot"]})
    result = evaluate((model, tokens), data, threat, attacks=attack, waive={
        **WAIVE, "gradient": "by design", "constant": "by design",
    })  # fmt: skip
    assert result.robust.all()


@pytest.mark.parametrize("attack", [RelaxedPGD(), SimplexPGD(n_steps=30, patience=5)])
def test_outcomes_do_not_depend_on_batches(attack):
    worth = {"good": 1.0, "fine": 0.3, "film": 0.5, "plot": -0.7, "great": -0.4, "bad": -1.0, "poor": 0.2}
    substitutes = {"good": ["fine", "great"], "film": ["plot"], "bad": ["poor"]}
    data = [("the film was good", 1), ("good film", 1), ("the film was great", 1), ("bad plot", 0), ("film bad", 0)]
    model, threat = scored(worth, default=0.05), WordEdits(1, substitutes=substitutes)
    whole, parts = (evaluate(model, data, threat, attacks=attack, batch_size=size, waive=WAIVE) for size in (None, 2))
    assert whole.robust.tolist() == parts.robust.tolist()
    assert whole.changed == parts.changed


@pytest.mark.parametrize(
    "build",
    [
        lambda: RelaxedPGD(step_size=0),
        lambda: RelaxedPGD(every=0),
        lambda: RelaxedPGD("cee"),
        lambda: SimplexPGD(step_size=0),
        lambda: SimplexPGD(entropy=1.5),
        lambda: SimplexPGD(patience=0),
    ],
)
def test_what_cannot_be_is_refused(build):
    with pytest.raises(ValueError, match="step_size|every|loss|entropy|patience"):
        build()
