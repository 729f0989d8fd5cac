"""Typos: at most so many, of the kinds that fingers make, inside words, and the simplest first."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from pytest_robust.strategies import typos
from pytest_robust.strategies.text import neighbours

TEXT = "The movie was wonderful, 10 of 10!"
QUICK = settings(database=None, derandomize=True, max_examples=500)


def edits(a: str, b: str) -> int:
    """Insertions, deletions, replacements and swaps of neighbours (optimal string alignment)."""
    d = [[i + j if not i * j else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            d[i][j] = min(d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                d[i][j] = min(d[i][j], d[i - 2][j - 2] + 1)
    return d[-1][-1]


def test_the_simplest_is_the_text_itself():
    assert find(typos(TEXT), lambda text: True, settings=QUICK) == TEXT


def test_shrinks_to_one_early_edit():
    assert find(typos(TEXT, 3), lambda text: text != TEXT, settings=QUICK) == "The mvoie was wonderful, 10 of 10!"


def test_shrinks_to_the_edits_that_are_needed():
    both_hit = lambda text: "movie" not in text and "wonderful" not in text  # noqa: E731
    assert find(typos(TEXT, 3), both_hit, settings=QUICK) == "The mvoie was wnoderful, 10 of 10!"


@pytest.mark.parametrize(
    ("wanted", "text"),
    [("a letter less", "cnnect"), ("a letter more", "coknnect"), ("another letter", "cinnect")],
)
def test_every_kind_is_drawn(wanted, text):
    assert find(typos("connect", 1), lambda drawn: drawn == text, settings=QUICK) == text


@QUICK
@given(st.integers(0, 4).flatmap(lambda most: st.tuples(st.just(most), typos(TEXT, most))))
def test_never_more_edits_than_asked_for(drawn):
    most, text = drawn
    assert edits(TEXT, text) <= most


@QUICK
@given(typos(TEXT, 6))
def test_short_words_ends_of_words_and_all_else_stay(text):
    start, rest = text.split(" was ")
    movie, wonderful = start.removeprefix("The "), rest.removesuffix(", 10 of 10!")
    assert start.startswith("The ")
    assert rest.endswith(", 10 of 10!")
    assert (movie[0], movie[-1], wonderful[0], wonderful[-1]) == ("m", "e", "w", "l")
    assert (movie + wonderful).isalpha()


@pytest.mark.parametrize("text", ["", "a bc def", "1234567"])
def test_where_there_is_nothing_to_edit_the_text_stays(text):
    seen = set()

    @settings(database=None, max_examples=20)
    @given(typos(text, 3))
    def collect(drawn):
        seen.add(drawn)

    collect()
    assert seen == {text}


def test_letters_that_are_not_on_the_keyboard_are_swapped_or_left_out():
    seen = set()

    @settings(database=None, max_examples=200, derandomize=True)
    @given(typos("почта", 1))
    def collect(drawn):
        seen.add(drawn)

    collect()
    assert seen == {"почта", "пчота", "потча", "пчта", "пота", "поча"}


@QUICK
@given(typos("подпорка", 4))
def test_edits_do_not_overlap(text):
    """Without a keyboard letters are only swapped or left out: none may appear twice."""
    assert Counter(text) <= Counter("подпорка")


def test_neighbours_are_those_on_the_keyboard():
    assert neighbours("g") == "bfhtvy"
    assert neighbours("a") == "qswz"
    assert neighbours("P") == "LO"
    assert neighbours("é") == neighbours("1") == ""


def test_negative_counts_are_refused():
    with pytest.raises(ValueError, match="max_edits must not be negative"):
        typos("text", -1)
