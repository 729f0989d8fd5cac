from __future__ import annotations

import itertools
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pytest_robust import CharacterEdits, WordEdits, keyed
from pytest_robust.errors import ThreatError
from pytest_robust.threats import Region
from pytest_robust.threats.edits import Edit, distance, edited

SUBSTITUTES = {"good": ["fine", "great", "two words", "good"], "bad": ["poor"]}


@cache
def known_distance(one: str, other: str, swaps: bool) -> int:
    """The same by its recursive definition, over all of the two."""
    if not one or not other:
        return len(one) + len(other)
    ways = [
        known_distance(one[:-1], other, swaps) + 1,
        known_distance(one, other[:-1], swaps) + 1,
        known_distance(one[:-1], other[:-1], swaps) + (one[-1] != other[-1]),
    ]
    if swaps and len(one) > 1 and len(other) > 1 and one[-1] == other[-2] and one[-2] == other[-1]:
        ways.append(known_distance(one[:-2], other[:-2], swaps) + 1)
    return min(ways)


@given(st.text("abc", max_size=6), st.text("abc", max_size=6), st.integers(0, 5), st.booleans())
def test_distances_are_those_of_the_definition(one, other, most, swaps):
    assert distance(one, other, most, swaps=swaps) == min(most + 1, known_distance(one, other, swaps))


def test_typos_are_inside_words_of_four_letters():
    words = {site.word for site in CharacterEdits(1).sites("the plot is fine")}
    assert words == {(4, 8), (12, 16)}
    changed = {edited("plot", site.options[:1]) for site in CharacterEdits(1).sites("plot")}
    assert all(text[0] == "p" and text[-1] == "t" for text in changed)


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("swap", {"polt"}),
        ("delete", {"pot", "plt"}),
        ("case", {"pLot", "plOt"}),
        ("homoglyph", {"pl\u043et"}),
        ("zero-width", {"pl\u200bot", "plo\u200bt"}),
        ("keyboard", {"pkot", "poot", "ppot", "plit", "plkt", "pllt", "plpt"}),
        ("insert", {"plkot", "ploot", "plpot", "ploit", "plokt", "plolt", "plopt"}),
    ],
)
def test_each_kind_makes_its_texts(kind, texts):
    threat = CharacterEdits(1, kinds=(kind,))
    options = [option for site in threat.sites("plot") for option in site.options]
    assert {edited("plot", [option]) for option in options} == texts
    assert max(len(site.options) for site in threat.sites("plot")) <= threat.most_options
    assert all(threat.measure("plot", text, 3) == 1 for text in texts)


def test_ends_and_short_words_can_be_let_in():
    letters = [s.options[0].start for s in CharacterEdits(1, kinds=("delete",), shortest=1, ends=True).sites("a bee")]
    assert letters == [0, 2, 3, 4]


def test_both_parts_of_a_pair_are_edited():
    pair = ("the plot", "was thin")
    threat = CharacterEdits(2, kinds=("delete",))
    options = [option for site in threat.sites(pair) for option in site.options]
    assert {option.part for option in options} == {0, 1}
    changed = edited(pair, [options[0], options[-1]])
    assert changed == ("the pot", "was thn")
    assert threat.measure(pair, changed, 5) == 2


def test_only_the_given_spans_are_edited():
    text = "system: be kind. user: some words"
    sites = CharacterEdits(1).sites(text, [(text.index("some"), len(text))])
    assert {text[slice(*site.word)] for site in sites} == {"some", "words"}


def test_spans_of_a_pair_are_counted_through_both_texts():
    pair = ("first words", "other words")
    sites = CharacterEdits(1).sites(pair, [(6, 11), (11, 16)])
    assert {(site.options[0].part, pair[site.options[0].part][slice(*site.word)]) for site in sites} == {
        (0, "words"),
        (1, "other"),
    }


def test_of_overlapping_edits_the_first_is_made():
    assert edited("abcd", [Edit(0, 2, 3, "X"), Edit(0, 1, 3, "cb")]) == "acbd"


@given(st.text("abcdefgh ", max_size=20), st.integers(0, 4), st.randoms(use_true_random=False))
def test_k_edits_are_never_measured_as_more(text, k, random):
    threat = CharacterEdits(k, shortest=1, ends=True)
    sites = threat.sites(text)
    chosen = [random.choice(site.options) for site in random.sample(sites, min(k, len(sites)))]
    assert threat.measure(text, edited(text, chosen), len(text) + 9) <= len(chosen)


def test_words_have_the_substitutes_of_the_user():
    sites = WordEdits(1, substitutes=SUBSTITUTES).sites("Good, not bad")
    assert [[option.new for option in site.options] for site in sites] == [["fine", "great", "good"], ["poor"]]
    by_function = WordEdits(1, substitutes=lambda word: [word.upper()], most=1).sites("it's fine")
    assert [option.new for site in by_function for option in site.options] == ["IT'S", "FINE"]


def test_without_substitutes_sites_wait_for_words():
    threat = WordEdits(1, most=2)
    pair = ("it's fine", "so good")
    sites = threat.sites(pair, [(5, 9), (9, 16)])
    assert [(site.part, pair[site.part][slice(*site.word)], site.options) for site in sites] == [
        (0, "fine", ()),
        (1, "so", ()),
        (1, "good", ()),
    ]
    filled = threat.filled(sites[2], ["bad", "poor", "awful"])
    assert [edited(pair, [option]) for option in filled.options] == [("it's fine", "so bad"), ("it's fine", "so poor")]


def test_words_are_measured_by_the_word():
    threat = WordEdits(1, substitutes=SUBSTITUTES)
    assert threat.measure("good plot, good cast", "fine plot, great cast", 5) == 2
    assert threat.measure("good plot", "good, plot", 5) == 1


def test_a_share_of_the_words_is_rounded_down():
    threat = WordEdits("30%", substitutes=SUBSTITUTES)
    free = torch.zeros(3, 12, threat.most_options, dtype=torch.bool)
    for row, words in enumerate((3, 10, 12)):
        free[row, :words, 0] = True
    assert threat.region(torch.zeros(free.shape), free).radius.flatten().tolist() == [0, 3, 3]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CharacterEdits(1.5), "k counts edits and must be a whole number, got 1.5"),
        (lambda: CharacterEdits(-1), "must not be negative"),
        (lambda: CharacterEdits(1, kinds=("typo",)), "no kind of edit is called 'typo'; there is: keyboard, swap"),
        (lambda: CharacterEdits(1, kinds=()), "kinds is empty"),
        (lambda: WordEdits("150%", substitutes={}), "a share is at most 100%"),
        (lambda: WordEdits(1, substitutes=["a"]), "substitutes is a list; give a mapping"),
        (lambda: WordEdits(1, substitutes={"good": "fine"}).sites("good"), "are one text, 'fine'; give a list"),
    ],
)
def test_what_is_no_set_of_edits_is_refused(make, words):
    with pytest.raises(ThreatError, match=words):
        make()


THREAT = CharacterEdits(2)


def region_of(free: Tensor, k: int = 2) -> Region:
    return CharacterEdits(k).region(torch.zeros(free.shape), free)


def points_of(free: Tensor, k: int) -> list[Tensor]:
    """Every point of one example's region, (S, C) each."""
    options = [[None, *there.nonzero().flatten().tolist()] for there in free]
    points = []
    for choice in itertools.product(*options):
        if sum(c is not None for c in choice) <= k:
            point = torch.zeros(free.shape)
            for site, option in enumerate(choice):
                if option is not None:
                    point[site, option] = 1
            points.append(point)
    return points


MASKS = st.integers(0, 2**12 - 1).map(lambda bits: torch.tensor([bits >> i & 1 for i in range(12)]).bool().view(1, 4, 3))


@given(MASKS, st.integers(0, 3), st.integers(0, 10**6))
def test_the_best_point_of_a_gradient_is_the_best_of_all(free, k, seed):
    grad = torch.randn(free.shape, generator=torch.Generator().manual_seed(seed))
    region = region_of(free, k)
    best = CharacterEdits(k).maximise(grad, region)
    assert bool(CharacterEdits(k).contains(best, region))
    known = max(float((grad[0] * point).sum()) for point in points_of(free[0], k))
    assert float((grad * best).sum()) == pytest.approx(known, abs=1e-6)


@given(MASKS, st.integers(0, 3), st.integers(0, 10**6))
def test_points_stay_in_the_region(free, k, seed):
    region, threat = region_of(free, k), CharacterEdits(k)
    x = threat.start(region, torch.tensor([seed]))
    assert bool(threat.contains(x, region))
    assert int(threat.distance(x, region)) == min(k, int(free.any(2).sum()))
    grad = torch.randn(free.shape, generator=torch.Generator().manual_seed(seed))
    moved = threat.step(x, grad, torch.tensor([0.5]), region)
    assert bool(threat.contains(moved, region))
    assert float((grad * moved).sum()) >= float((grad * x).sum()) - 1e-6
    anywhere = torch.rand(free.shape, generator=torch.Generator().manual_seed(seed))
    projected = threat.project(anywhere, region)
    assert bool(threat.contains(projected, region))
    assert torch.equal(threat.project(projected, region), projected)


def test_what_is_no_choice_of_options_is_outside():
    free = torch.ones(1, 4, 3, dtype=torch.bool)
    free[0, 0, 2] = False
    region = region_of(free)
    for place, value in (((0, 0, 2), 1.0), ((0, 1, 0), 0.5), ((0, 1, 0), -1.0)):
        point = torch.zeros(free.shape)
        point[place] = value
        assert not bool(THREAT.contains(point, region))
    two = torch.zeros(free.shape)
    two[0, 1, :2] = 1
    assert not bool(THREAT.contains(two, region))
    three = torch.zeros(free.shape)
    three[0, :3, 0] = 1
    assert not bool(THREAT.contains(three, region))


def test_random_edits_do_not_depend_on_neighbours():
    free = torch.ones(3, 32, 4, dtype=torch.bool)
    keys = torch.tensor([keyed.key("a"), keyed.key("b"), keyed.key("c")])
    together = THREAT.start(region_of(free), keys)
    alone = THREAT.start(region_of(free[1:2]), keys[1:2])
    assert torch.equal(together[1:2], alone)
