"""An English keyboard: which letters lie beside which."""

from __future__ import annotations

import itertools
from collections import defaultdict

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
"""Each row is shifted right by about half a key against the one above."""


def neighbours(letter: str) -> str:
    """The letters beside a letter on the keyboard, in its case; none for what is not on it."""
    near = _NEIGHBOURS.get(letter.lower(), "")
    return near.upper() if letter.isupper() else near


def _adjacent() -> dict[str, str]:
    near: dict[str, list[str]] = defaultdict(list)
    pairs = [pair for row in _ROWS for pair in itertools.pairwise(row)]
    for upper, lower in itertools.pairwise(_ROWS):
        pairs += [*zip(upper, lower, strict=False), *zip(upper[1:], lower, strict=False)]
    for one, other in pairs:
        near[one].append(other)
        near[other].append(one)
    return {letter: "".join(sorted(others)) for letter, others in near.items()}


_NEIGHBOURS = _adjacent()
MOST_NEIGHBOURS = max(map(len, _NEIGHBOURS.values()))
