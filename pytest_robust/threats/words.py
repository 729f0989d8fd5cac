"""Words in place of words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from pytest_robust.budget import Budget
from pytest_robust.errors import ThreatError
from pytest_robust.threats.edits import Edit, Edits, Site, Span, Text, as_parts, distance, words_within

_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")

Substitutes = Mapping[str, Sequence[str]] | Callable[[str], Sequence[str]]


@dataclass(frozen=True, eq=False)
class WordEdits(Edits):
    """All texts in which at most ``k`` words are replaced, each by one of its substitutes, or by any word at all.

    Attributes:
        k: the most words: a number, or a share of the words that have substitutes, such as ``"10%"``, rounded down.
        substitutes: for a word, the words that may stand in its place: a mapping, in which a word that is not found is
            looked up in lower case, or a function; only single words count. They are the user's claim of what changes no
            label: no list can know it. None: any word of the model's vocabulary may stand in place of any; such edits keep
            no label, and say how few words turn the answer.
        most: the most substitutes that are used of a word, the first ones; of a vocabulary, as many as are searched, those
            that the gradient likes best.

    Raises:
        ThreatError: k is neither a whole number nor a share.
    """

    norm: ClassVar[str] = "words"
    closed: ClassVar[str] = "which words may stand for which: WordEdits(k, substitutes={...})"

    substitutes: Substitutes | None = field(default=None, kw_only=True)
    most: int = 64

    def __post_init__(self) -> None:
        if not self._is_share:
            super().__post_init__()
        elif self.budget.value > 1:
            raise ThreatError(f"WordEdits: k is {self.budget} of the words; a share is at most 100%")
        if not (self.is_open or callable(self.substitutes) or isinstance(self.substitutes, Mapping)):
            raise ThreatError(
                f"WordEdits: substitutes is a {type(self.substitutes).__name__}; give a mapping from a word to the words "
                "that may stand in its place, or a function"
            )

    @property
    def is_open(self) -> bool:
        """Whether any word of a vocabulary is a substitute."""
        return self.substitutes is None

    @property
    def most_options(self) -> int:
        return self.most

    def sites(self, text: Text, spans: Sequence[Span] | None = None) -> list[Site]:
        found = []
        for number, match in words_within(text, spans, _WORD):
            options = tuple(Edit(number, *match.span(), word) for word in self._substitutes(match[0]))
            if options or self.is_open:
                found.append(Site(number, match.span(), options))
        return found

    def admits(self, word: str) -> bool:
        return is_word(word)

    def filled(self, site: Site, words: Sequence[str]) -> Site:
        return replace(site, options=tuple(Edit(site.part, *site.word, word) for word in words[: self.most]))

    def measure(self, clean: Text, changed: Text, most: int) -> int:
        pairs = zip(as_parts(clean), as_parts(changed), strict=True)
        return min(most + 1, sum(distance(_pieces(one), _pieces(other), most) for one, other in pairs))

    def _substitutes(self, word: str) -> list[str]:
        if self.substitutes is None:
            return []
        if callable(self.substitutes):
            found = self.substitutes(word)
        else:
            found = self.substitutes.get(word, self.substitutes.get(word.lower(), ()))
        if isinstance(found, str):
            raise ThreatError(f"WordEdits: the substitutes of {word!r} are one text, {found!r}; give a list of words")
        usable = dict.fromkeys(other for other in found if other != word and is_word(other))
        return list(usable)[: self.most]

    def _radius(self, options: Tensor) -> Tensor:
        if not self._is_share:
            return super()._radius(options)
        # In whole numbers: a third of three words is one word.
        share, words = self.budget.value, options.any(2).sum(1, keepdim=True)
        return torch.div(words * share.numerator, share.denominator, rounding_mode="floor").to(torch.float32)

    @cached_property
    def _is_share(self) -> bool:
        return (self.k.text if isinstance(self.k, Budget) else str(self.k)).strip().endswith("%")


def is_word(text: str) -> bool:
    """Whether a text is a single word."""
    return _WORD.fullmatch(text) is not None


def _pieces(part: str) -> list[str]:
    """The words, and what stands between them."""
    pieces, behind = [], 0
    for match in _WORD.finditer(part):
        pieces += [part[behind : match.start()], match[0]]
        behind = match.end()
    return [*pieces, part[behind:]]
