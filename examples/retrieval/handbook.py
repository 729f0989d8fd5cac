"""The search of a handbook: its articles, what people ask, and two encoders of texts."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

HANDBOOK = {
    "holidays": "Holidays are requested four weeks ahead, and granted by the head of the department.",
    "illness": "Whoever is ill calls before nine in the morning; a doctor's certificate is due on the third day.",
    "expenses": "Travel expenses are paid back within a month, against receipts and the signed travel request.",
    "password": "A forgotten password is reset by the help desk, after a look at the identity card.",
    "printer": "Every floor has a printer; paper and toner are in the cupboard next to it.",
    "parking": "Parking places in the garage are given out by lottery at the beginning of the year.",
    "lunch": "The canteen serves lunch from half past eleven, and vegetarian dishes every day.",
    "laptop": "A broken laptop is exchanged at the help desk, usually on the same afternoon.",
    "contract": "Contracts above ten thousand are signed by two directors.",
    "training": "Training courses are booked through the academy, once the manager has agreed.",
    "visitors": "Visitors are announced at reception a day before, and wear a badge in the building.",
    "fire": "When the fire alarm sounds, leave the building by the stairs and meet at the fountain.",
}
QUESTIONS: list[tuple[str, dict[str, int]]] = [
    ("how do I request holidays", {"holidays": 2, "expenses": 1}),
    ("doctor's certificate", {"illness": 2}),
    ("travel expenses", {"expenses": 2}),
    ("password", {"password": 2}),
    ("broken laptop", {"laptop": 2, "password": 1}),
    ("printer toner", {"printer": 2}),
    ("parking", {"parking": 2}),
    ("vegetarian", {"lunch": 2}),
    ("contracts", {"contract": 2}),
    ("training courses", {"training": 2}),
    ("visitors", {"visitors": 2}),
    ("fire alarm", {"fire": 2}),
]
_SIZE = 4096


def by_words(texts: Sequence[str]) -> npt.NDArray[np.float64]:
    """(B, D) vectors of whole words: one that is misspelt is a word nobody knows."""
    return _vectors([_words(text) for text in texts])


def by_letters(texts: Sequence[str]) -> npt.NDArray[np.float64]:
    """(B, D) vectors of three letters each: most of those of a misspelt word are still there."""
    marked = [[f"<{word}>" for word in _words(text)] for text in texts]
    return _vectors([[word[i : i + 3] for word in words for i in range(len(word) - 2)] for words in marked])


def _words(text: str) -> list[str]:
    return [word for word in "".join(c if c.isalpha() else " " for c in text.lower()).split() if len(word) > 3]


def _vectors(features: Sequence[Iterable[str]]) -> npt.NDArray[np.float64]:
    vectors = np.full((len(features), _SIZE), 1e-6)  # a text of no features has a direction, too
    for vector, own in zip(vectors, features, strict=True):
        for feature in own:
            vector[zlib.crc32(feature.encode()) % _SIZE] += 1
    return vectors
