from __future__ import annotations

import pytest
import torch
from text_models import scored

from pytest_robust import CharacterEdits, EditSearch, HotFlip, Linf, evaluate
from pytest_robust.attacks.hotflip import flipped
from pytest_robust.errors import ThreatError
from pytest_robust.threats.edits import edited


def region_of(k: int, free: torch.Tensor):
    return CharacterEdits(k).region(torch.zeros(free.shape), free)


def test_the_ranked_option_is_added():
    score = torch.tensor([[[0.1, 0.4], [0.3, 0.2]]])
    region = region_of(1, torch.ones(1, 2, 2, dtype=torch.bool))
    taken = [
        flipped(region.origin, score, torch.tensor([rank]), region, score.amax(2)).nonzero()[0, 1:].tolist()
        for rank in range(4)
    ]
    assert taken == [[0, 1], [1, 0], [1, 1], [0, 0]]


def test_the_edit_of_least_worth_makes_room():
    score = torch.tensor([[[0.1], [0.3], [0.9]]])
    region = region_of(2, torch.ones(1, 3, 1, dtype=torch.bool))
    base = torch.tensor([[[1.0], [1.0], [0.0]]])
    assert flipped(base, score, torch.tensor([0]), region, (base * score).sum(2)).flatten().tolist() == [0, 1, 1]


def test_at_a_site_with_an_edit_the_option_is_exchanged():
    score = torch.tensor([[[0.1, 0.9], [0.3, -1.0]]])
    region = region_of(2, torch.ones(1, 2, 2, dtype=torch.bool))
    base = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    assert flipped(base, score, torch.tensor([0]), region, (base * score).sum(2)).flatten().tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("k", [0, 1])
def test_where_there_is_nothing_to_take_the_point_stays(k):
    free = torch.zeros(1, 2, 2, dtype=torch.bool) if k else torch.ones(1, 2, 2, dtype=torch.bool)
    region = region_of(k, free)
    assert torch.equal(
        flipped(region.origin, torch.ones(1, 2, 2), torch.tensor([0]), region, torch.ones(1, 2)), region.origin
    )


@pytest.mark.parametrize("attack", [HotFlip(), EditSearch()])
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
