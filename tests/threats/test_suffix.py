from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_robust import Suffix
from pytest_robust.errors import ThreatError
from pytest_robust.threats.edits import edited

WORDS = ["really", "!"]


def made(text, *words, spans=None, k=3):
    """The text with these words taken, one at each site."""
    threat = Suffix(k, words=words)
    sites = threat.sites(text, spans)
    assert len(sites) == k
    return edited(text, [site.options[i] for i, site in enumerate(sites[: len(words)])])


def test_words_stand_behind_the_text_in_the_order_of_their_sites():
    assert made("a film", "so", "very", "good") == "a film so very good"
    threat = Suffix(2, words=WORDS)
    first, second = threat.sites("a film")
    assert edited("a film", [second.options[0], first.options[1]]) == "a film ! really"
    assert edited("a film", [second.options[1]]) == "a film !"


@pytest.mark.parametrize(
    ("text", "spans", "changed"),
    [
        ("a film ", None, "a film so very "),
        ("", None, "so very "),
        (("one text", "another"), None, ("one text", "another so very")),
        (("one text", "another"), [(0, 3), (4, 8)], ("one text so very", "another")),
        (("one text", "another"), [(8, 15), (0, 8)], ("one text", "another so very")),
        ("user: hi there\nmodel:", [(6, 14)], "user: hi there so very\nmodel:"),
        ("user: hi there\nmodel:", [(9, 14), (6, 8)], "user: hi there so very\nmodel:"),
        ("<hi>", [(1, 3)], "<hi so very>"),
        ("hi you", [(0, 3)], "hi so very you"),
    ],
)
def test_they_stand_where_what_may_be_changed_ends(text, spans, changed):
    assert made(text, "so", "very", spans=spans) == changed
    assert Suffix(1, words=WORDS).measure(text, changed, 5) == 2


@pytest.mark.parametrize(
    ("clean", "changed", "words"),
    [
        ("a film", "a film", 0),
        ("a film", "a film film film", 2),
        ("a film", "a films", None),
        ("a film", "the film so", None),
        ("a film", "a", None),
        ("a film", "a  film", 0),
        ("a film so", "a film very good", None),
        ("a film", "a film so very good indeed", None),
        (("a film", "b"), ("a film so", "b very"), 2),
    ],
)
def test_words_are_counted_from_the_texts_alone(clean, changed, words):
    assert Suffix(3, words=WORDS).measure(clean, changed, 3) == (4 if words is None else words)


WORD = st.text("ab!", min_size=1, max_size=3)


@given(st.lists(WORD, max_size=4), st.lists(WORD, max_size=4), st.lists(WORD, max_size=3))
def test_no_more_words_are_counted_than_were_added(before, behind, added):
    clean, changed = " ".join(before + behind), " ".join(before + added + behind)
    assert Suffix(3, words=WORDS).measure(clean, changed, 9) == len(added)


def test_of_a_vocabulary_the_words_are_yet_to_come():
    threat = Suffix(2, most=2)
    assert threat.is_open
    sites = threat.sites("a film")
    assert [site.options for site in sites] == [(), ()]
    filled = [threat.filled(site, ["so", "!", "very"]) for site in sites]
    assert [[edited("a film", [option]) for option in site.options] for site in filled] == [["a film so", "a film !"]] * 2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Suffix(1.5), "k counts edits and must be a whole number, got 1.5"),
        (lambda: Suffix(1, words="so"), "words='so' is one text; give a list"),
        (lambda: Suffix(1, words=[]), "words is empty"),
        (lambda: Suffix(1, words=["so", "[SEP]"]), r"'\[SEP\]' is neither a single word nor a single mark"),
        (lambda: Suffix(1, words=["two words"]), "'two words' is neither"),
        (lambda: Suffix(1, words=["</s>"]), "'</s>' is neither"),
    ],
)
def test_what_is_no_set_of_words_is_refused(make, words):
    with pytest.raises(ThreatError, match=words):
        make()
