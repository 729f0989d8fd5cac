"""Typos, as fingers make them."""

from __future__ import annotations

import re

from hypothesis import strategies as st

from pytest_robust.threats.keyboard import neighbours

_WORD = re.compile(r"[^\W\d_]+")
_SHORTEST = 4
"""Words with fewer letters are left alone, and so are first and last letters: that is where a typo makes another word, and
readers hardly notice the others (Pruthi et al., "Combating adversarial misspellings", ACL 2019)."""


def typos(text: str, max_edits: int = 2) -> st.SearchStrategy[str]:
    """The text with at most ``max_edits`` typing errors; it shrinks to the fewest, and these to the earliest, edits.

    An edit, of a letter inside a word of four letters or more: swapped with the next, left out, replaced by a neighbour on
    the keyboard, or followed by one. The simplest text is the text itself.

    Raises:
        ValueError: ``max_edits`` is negative.
    """
    if max_edits < 0:
        raise ValueError(f"max_edits must not be negative, got {max_edits}")
    words = [word.span() for word in _WORD.finditer(text) if len(word[0]) >= _SHORTEST]
    inside = [i for start, end in words for i in range(start + 1, end - 1)]
    return _edited(text, inside, max_edits) if inside and max_edits else st.just(text)


@st.composite
def _edited(draw: st.DrawFn, text: str, inside: list[int], max_edits: int) -> str:
    places = {inside[i] for i in draw(st.lists(st.integers(0, len(inside) - 1), max_size=max_edits, unique=True))}
    letters = list(text)
    for i in sorted(places):
        # Of two neighbouring letters, the second may have an edit of its own: the pair is then not swapped.
        partner = i + 1 if i + 1 in inside and i + 1 not in places else None
        near = neighbours(text[i])
        kinds = [*["swap"] * (partner is not None), "delete", *["replace", "insert"] * bool(near)]
        kind = draw(st.sampled_from(kinds))
        if kind == "swap" and partner is not None:
            letters[i], letters[partner] = text[partner], text[i]
        elif kind == "delete":
            letters[i] = ""
        else:
            key = draw(st.sampled_from(near))
            letters[i] = key if kind == "replace" else text[i] + key
    return "".join(letters)
