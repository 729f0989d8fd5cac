"""Typing errors, and characters that only look the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pytest_robust.errors import ThreatError
from pytest_robust.threats.edits import Edit, Edits, Site, Span, Text, as_parts, distance, words_within
from pytest_robust.threats.keyboard import MOST_NEIGHBOURS, neighbours

_WORD = re.compile(r"[^\W\d_]+")
_ZERO_WIDTH = "\u200b"
_LATIN = "aceijopsxyABCEHIJKMNOPSTXYZ"
_ALIKE = (
    "\u0430\u0441\u0435\u0456\u0458\u043e\u0440\u0455\u0445\u0443"
    "\u0410\u0412\u0421\u0415\u041d\u0406\u0408\u041a\u041c\u039d\u041e\u0420\u0405\u0422\u0425\u03a5\u0396"
)
_HOMOGLYPHS = dict(zip(_LATIN, _ALIKE, strict=True))
"""Latin letters and Cyrillic or Greek ones of the same shape (Unicode Technical Standard 39, confusables)."""

TYPOS = ("keyboard", "swap", "insert", "delete")
"""What fingers do."""


def _keyboard(word: str, i: int) -> Iterator[tuple[int, str]]:
    yield from ((1, key) for key in neighbours(word[i]))


def _insert(word: str, i: int) -> Iterator[tuple[int, str]]:
    yield from ((1, word[i] + key) for key in neighbours(word[i]))


def _delete(word: str, i: int) -> Iterator[tuple[int, str]]:
    yield 1, ""


def _swap(word: str, i: int) -> Iterator[tuple[int, str]]:
    if i + 1 < len(word) and word[i] != word[i + 1]:
        yield 2, word[i + 1] + word[i]


def _case(word: str, i: int) -> Iterator[tuple[int, str]]:
    other = word[i].swapcase()
    if len(other) == 1 and other != word[i]:
        yield 1, other


def _homoglyph(word: str, i: int) -> Iterator[tuple[int, str]]:
    if word[i] in _HOMOGLYPHS:
        yield 1, _HOMOGLYPHS[word[i]]


def _zero_width(word: str, i: int) -> Iterator[tuple[int, str]]:
    yield 1, word[i] + _ZERO_WIDTH


_KINDS: Mapping[str, tuple[Callable[[str, int], Iterator[tuple[int, str]]], int]] = {
    "keyboard": (_keyboard, MOST_NEIGHBOURS),
    "swap": (_swap, 1),
    "insert": (_insert, MOST_NEIGHBOURS),
    "delete": (_delete, 1),
    "case": (_case, 1),
    "homoglyph": (_homoglyph, 1),
    "zero-width": (_zero_width, 1),
}
"""By name: from a word and the place of a letter in it to how many letters from there on become what; and how many such
edits there are at most."""


@dataclass(frozen=True, eq=False)
class CharacterEdits(Edits):
    """All texts at most ``k`` character edits away, each inside a word: typing errors, unless ``kinds`` says otherwise.

    First and last letters and short words are left alone: that is where a typo makes another word, and readers hardly
    notice the others (Pruthi et al., "Combating adversarial misspellings with robust word recognition", ACL 2019).

    Attributes:
        k: the most edits.
        kinds: of ``"keyboard"`` (a letter becomes one beside it on the keyboard), ``"swap"`` (with the next letter),
            ``"insert"`` (a letter beside it on the keyboard after it), ``"delete"``, ``"case"``, ``"homoglyph"`` (a Cyrillic
            or Greek letter of the same shape), and ``"zero-width"`` (an invisible space after it).
        shortest: words of fewer letters are left alone. ends: whether first and last letters change too.

    Raises:
        ThreatError: k is no whole number, there is no such kind, or none at all.
    """

    norm: ClassVar[str] = "characters"

    kinds: tuple[str, ...] = TYPOS
    shortest: int = 4
    ends: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        kinds = (self.kinds,) if isinstance(self.kinds, str) else tuple(self.kinds)
        unknown = [kind for kind in kinds if kind not in _KINDS]
        if unknown or not kinds:
            what = f"no kind of edit is called {unknown[0]!r}" if unknown else "kinds is empty"
            raise ThreatError(f"CharacterEdits: {what}; there is: {', '.join(_KINDS)}")
        object.__setattr__(self, "kinds", kinds)

    @property
    def most_options(self) -> int:
        return sum(most for _, most in map(_KINDS.__getitem__, self.kinds))

    def sites(self, text: Text, spans: Sequence[Span] | None = None) -> list[Site]:
        found = []
        trim = 0 if self.ends else 1
        for number, match in words_within(text, spans, _WORD):
            before = len(match[0]) - trim
            for i in range(trim, before) if len(match[0]) >= self.shortest else ():
                options = tuple(self._options(number, match.start(), match[0], i, before))
                if options:
                    found.append(Site(number, match.span(), options))
        return found

    def measure(self, clean: Text, changed: Text, most: int) -> int:
        pairs = zip(as_parts(clean), as_parts(changed), strict=True)
        return min(most + 1, sum(distance(one, other, most, swaps=True) for one, other in pairs))

    def _options(self, part: int, start: int, word: str, i: int, before: int) -> Iterator[Edit]:
        for kind in self.kinds:
            for length, new in _KINDS[kind][0](word, i):
                if i + length <= before:
                    yield Edit(part, start + i, start + i + length, new)
