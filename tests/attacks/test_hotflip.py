from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from text_models import scored
from torch import Tensor

from pytest_robust import CharacterEdits, EditSearch, HotFlip, Linf, RelaxedPGD, SimplexPGD, evaluate
from pytest_robust.attacks import Live
from pytest_robust.attacks.neighbours import codes_of, neighbour
from pytest_robust.errors import ThreatError
from pytest_robust.threats.edits import edited

WAIVE = {"chance": "few texts"}


def region_of(k: int, free: torch.Tensor):
    return CharacterEdits(k).region(torch.zeros(free.shape), free)


def moved(base: torch.Tensor, score: torch.Tensor, region, *tried: torch.Tensor):
    """Where a search goes next from a point, whose edits are worth what their score says."""
    codes = torch.stack([codes_of(point) for point in (base, *tried)], 1)
    return neighbour(base, score, (base * score).sum(2), codes, region)


def test_options_are_added_in_the_order_of_their_scores_and_none_twice():
    score = torch.tensor([[[0.1, 0.4], [0.3, 0.2]]])
    region = region_of(1, torch.ones(1, 2, 2, dtype=torch.bool))
    tried: list[torch.Tensor] = []
    for _ in range(4):
        tried.append(moved(region.origin, score, region, *tried))
    assert [point.nonzero()[0, 1:].tolist() for point in tried] == [[0, 1], [1, 0], [1, 1], [0, 0]]
    # From one edit to another leads the same way: to points that were tried.
    assert torch.equal(moved(tried[0], score, region, region.origin, *tried), tried[0])


def test_the_edit_of_least_worth_makes_room():
    score = torch.tensor([[[0.1], [0.3], [0.9]]])
    region = region_of(2, torch.ones(1, 3, 1, dtype=torch.bool))
    base = torch.tensor([[[1.0], [1.0], [0.0]]])
    assert moved(base, score, region).flatten().tolist() == [0, 1, 1]
    assert torch.equal(moved(base, score, region, torch.tensor([[[0.0], [1.0], [1.0]]])), base)


def test_at_a_site_with_an_edit_the_option_is_exchanged():
    score = torch.tensor([[[0.1, 0.9], [0.3, -1.0]]])
    region = region_of(2, torch.ones(1, 2, 2, dtype=torch.bool))
    base = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    first = moved(base, score, region)
    assert first.flatten().tolist() == [0, 1, 1, 0]
    assert moved(base, score, region, first).flatten().tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize("k", [0, 1])
def test_where_there_is_nothing_to_take_the_point_stays(k):
    free = torch.zeros(1, 2, 2, dtype=torch.bool) if k else torch.ones(1, 2, 2, dtype=torch.bool)
    region = region_of(k, free)
    assert torch.equal(moved(region.origin, torch.ones(1, 2, 2), region), region.origin)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 10**6))
def test_points_are_known_again_by_their_codes(sites, options, seed):
    random = torch.Generator().manual_seed(seed)
    points = torch.randint(2, (40, sites, options), generator=random).float()
    codes = codes_of(points)
    same = (points.unsqueeze(0) == points.unsqueeze(1)).flatten(2).all(2)
    assert torch.equal(codes.unsqueeze(0) == codes.unsqueeze(1), same)


@pytest.mark.parametrize("attack", [HotFlip(), EditSearch(), RelaxedPGD(), SimplexPGD()])
def test_other_threats_than_edits_are_refused(attack):
    model, data = torch.nn.Linear(4, 2), (torch.eye(4), torch.tensor([0, 1, 0, 1]))
    model.weight.data = torch.tensor([[1.0, -1.0, 1.0, -1.0], [-1.0, 1.0, -1.0, 1.0]])
    with pytest.raises(ThreatError, match=f"{attack.name} edits texts, and linf 0.1 moves other things"):
        evaluate(model, data, Linf(0.1, bounds=None), attacks=attack, waive={"chance": "untrained"})


def test_random_search_tries_no_text_twice_around_the_best():
    """With one edit, as many steps as there are options try all of them: the one that breaks is found for certain."""
    model, tokens = scored({"good": 1.0, "bad": -1.0, "##m": -9.0})
    data = [("good plots", 1), ("good views", 1), ("good rest", 1), ("bad cinema", 0)]
    texts = [
        [edited(text, [option]) for site in CharacterEdits(1).sites(text) for option in site.options] for text, _ in data
    ]
    attack = EditSearch(n_steps=max(map(len, texts)))
    result = evaluate((model, tokens), data, CharacterEdits(1), attacks=attack, waive={"chance": "few texts"})
    answers = [model(**tokens(others, return_tensors="pt", padding=True)).argmax(1) for others in texts]
    wrong = [bool((answer != label).any()) for answer, (_, label) in zip(answers, data, strict=True)]
    assert 0 < sum(wrong) < len(wrong)
    assert result.broken_by == tuple("edit-search" if found else None for found in wrong)


def test_only_texts_from_which_others_are_looked_for_cost_a_backward_pass():
    model = scored({"good": 1.0, "bad": -1.0, "##l": 0.01})
    data = [("good magic films", 1), ("bad magic films", 0), ("good plots", 1), ("bad plots", 0)] * 3
    for n_steps in (1, 4):
        result = evaluate(model, data, CharacterEdits(1, shortest=5), attacks=HotFlip(n_steps=n_steps), waive=WAIVE)
        assert result.accuracy == 1
        assert result.stages[0].cost.forward == len(data) * (n_steps + 1)
        assert result.stages[0].cost.backward == len(data)
        assert set(result.passes.tolist()) == {n_steps + 2}


def points_tried(attack, region, seed: int) -> list[Tensor]:
    """Those of a search on random losses, and whether their gradient was asked for."""
    random, n = torch.Generator().manual_seed(seed), len(region.origin)
    zeros = torch.zeros(n, dtype=torch.int64)
    scale, low = torch.ones(n), torch.full((n,), -torch.inf)
    live = Live(region.origin, region, {}, zeros, zeros, scale, zeros + seed, zeros, zeros, low, low, torch.zeros(n, 2))
    attack.begin(CharacterEdits(2), live)
    found = []
    for _ in range(attack.n_steps):
        wanted = attack.wants_gradient(live)
        found.append((live.x[0], wanted is not None and bool(wanted[0])))
        attack.update(CharacterEdits(2), live, torch.randn(n, generator=random), torch.randn(live.x.shape, generator=random))
        live.step = live.step + 1
    return found


@given(st.sampled_from([HotFlip(n_steps=25), EditSearch(n_steps=25)]), st.integers(1, 3), st.integers(0, 10**6))
def test_no_text_is_tried_twice(attack, k, seed):
    """But for those from which others are looked for."""
    region = region_of(k, torch.ones(1, 9, 3, dtype=torch.bool))
    points = [tuple(point.flatten().tolist()) for point, based in points_tried(attack, region, seed) if not based]
    assert len(points) > 15
    assert len(set(points)) == len(points)
    assert max(map(sum, points)) <= k
