"""Words after the end of a text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from pytest_robust.errors import ThreatError
from pytest_robust.threats.edits import Edit, Edits, Site, Span, Text, as_parts
from pytest_robust.threats.words import is_word

_MARK = re.compile(r"[^\w\s]")
_STAND_IN = "!"
"""What gradients are asked of before there is a suffix (Zou et al., 2023)."""


@dataclass(frozen=True, eq=False)
class Suffix(Edits):
    """All texts that go on with at most ``k`` words more, behind what may be changed of a text: those of an attacker who
    controls how a text ends (Zou et al., "Universal and transferable adversarial attacks on aligned language models", 2023).

    Attributes:
        k: the most words, a whole number.
        words: which there are: single words or single marks such as ``"!"``. None: any of the model's vocabulary that its
            tokenizer writes as one token.
        most: the most words that are tried at each place, the first ones; of a vocabulary, those that the gradient likes
            best.

    Raises:
        ThreatError: k is no whole number, or one of the words is not a single one.
    """

    norm: ClassVar[str] = "suffix"
    closed: ClassVar[str] = "which words may be added: Suffix(k, words=[...])"

    words: Sequence[str] | None = field(default=None, kw_only=True)
    most: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.words, str):
            raise ThreatError(f"Suffix: words={self.words!r:.80} is one text; give a list of words")
        if self.words is not None:
            object.__setattr__(self, "words", tuple(dict.fromkeys(self.words)))
            strange = next((word for word in self.words if not self.admits(word)), None)
            if strange is not None or not self.words:
                what = "words is empty" if strange is None else f"{strange!r} is neither a single word nor a single mark"
                raise ThreatError(f"Suffix: {what}; give words such as 'really' or '!'")

    @property
    def is_open(self) -> bool:
        """Whether the words are those of a model's vocabulary."""
        return self.words is None

    @property
    def most_options(self) -> int:
        return self.most if self.words is None else min(self.most, len(self.words))

    def admits(self, word: str) -> bool:
        return is_word(word) or _MARK.fullmatch(word) is not None

    def sites(self, text: Text, spans: Sequence[Span] | None = None) -> list[Site]:
        part, place = _end(text, spans)
        found = [
            Site(part, (place, place), (), Edit(part, place, place, self._set(text, part, place, _STAND_IN), turn))
            for turn in range(int(self.budget.value))
        ]
        return [self.filled(site, self.words or ()) for site in found]

    def filled(self, site: Site, words: Sequence[str]) -> Site:
        assert site.stand_in is not None, "every site has one"
        like = site.stand_in
        options = (replace(like, new=like.new.replace(_STAND_IN, word)) for word in words[: self.most])
        return replace(site, options=tuple(options))

    def measure(self, clean: Text, changed: Text, most: int) -> int:
        pairs = zip(as_parts(clean), as_parts(changed), strict=True)
        added = [_added(one, other) for one, other in pairs if one != other]
        return min(most + 1, sum(most + 1 if words is None else words for words in added))

    @staticmethod
    def _set(text: Text, part: int, place: int, word: str) -> str:
        """The word with a blank that keeps it apart from what stands before it, or behind it where that is one already."""
        before = as_parts(text)[part][:place]
        return f" {word}" if before and not before[-1].isspace() else f"{word} "


def _end(text: Text, spans: Sequence[Span] | None) -> tuple[int, int]:
    """The part of a text, and the place in it, where what may be changed ends."""
    starts = list(_starts(text))
    if not spans:
        return len(starts) - 1, len(as_parts(text)[-1])
    start, end = max(spans, key=lambda span: span[1])
    part = max(number for number, begin in enumerate(starts) if begin <= start)
    return part, end - starts[part]


def _starts(text: Text) -> Iterator[int]:
    begin = 0
    for part in as_parts(text):
        yield begin
        begin += len(part)


def _added(one: str, other: str) -> int | None:
    """How many words ``other`` has more than ``one``, in one place and apart from the others; None: it differs in more."""
    longer, words = len(other) - len(one), len(other.split()) - len(one.split())
    same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    # What was added may be read in several ways: "so" before or behind another "so".
    for place in range(same, -1, -1) if longer > 0 else ():
        if one[place:] != other[place + longer :]:
            return None
        if len(other[place : place + longer].split()) == words:
            return words
    return None
