"""A translator of station announcements, word by word: two ways to look a word up."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Sequence

_DICTIONARY = {
    "train": "train", "regional": "régional", "night": "nocturne", "leaves": "part", "arrives": "arrive",
    "tomorrow": "demain", "today": "aujourd'hui", "morning": "matin", "evening": "soir", "from": "depuis",
    "platform": "quai", "this": "ce", "seven": "sept", "twelve": "douze", "late": "tard", "early": "tôt",
    "the": "le", "and": "et",
}  # fmt: skip
_SUBJECTS = ("the regional train", "the night train", "the train")
_REST = (
    "leaves tomorrow morning from platform seven",
    "arrives today and leaves late",
    "arrives early from platform twelve",
)


def exactly(word: str) -> str:
    """A word that is misspelt stays as it is."""
    return _DICTIONARY.get(word, word)


def closely(word: str) -> str:
    """A word that is misspelt is taken for the one that looks most like it."""
    known = difflib.get_close_matches(word, _DICTIONARY, n=1, cutoff=0.5)
    return _DICTIONARY[known[0]] if known else word


def translated(look_up: Callable[[str], str]) -> Callable[[Sequence[str]], list[str]]:
    """The translator: a list of sentences in, their translations out."""
    return lambda texts: [" ".join(look_up(word) for word in text.split()) for text in texts]


ANNOUNCEMENTS = [f"{subject} {rest}" for subject, rest in itertools.product(_SUBJECTS, _REST)]
"""What is announced; with it its translation."""
TRANSLATED = list(zip(ANNOUNCEMENTS, translated(exactly)(ANNOUNCEMENTS), strict=True))
