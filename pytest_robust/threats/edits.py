"""S(x) for text itself: at most so many edits, each one of a finite set of options at its site."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.budget import Budget, Number
from pytest_robust.errors import ThreatError
from pytest_robust.threats.l0 import largest
from pytest_robust.threats.region import Region, Terrain
from pytest_robust.threats.summary import ThreatSummary

Text = str | tuple[str, ...]
Span = tuple[int, int]


@dataclass(frozen=True)
class Edit:
    """The characters from ``start`` to before ``end`` of one part of a text become ``new``.

    Attributes:
        turn: of several that begin at one place, the lower comes first.
    """

    part: int
    start: int
    end: int
    new: str
    turn: int = 0


@dataclass(frozen=True)
class Site:
    """A place in a text where at most one edit is made.

    Attributes:
        part: the part of the text. word: the characters of the word in it that it changes. options: the edits that are
            possible; none where the words of the model's vocabulary are still to be proposed.
        stand_in: an edit of no meaning, where the text has nothing to replace: gradients are asked of the text with it.
    """

    part: int
    word: Span
    options: tuple[Edit, ...]
    stand_in: Edit | None = None


@dataclass(frozen=True, eq=False)
class Edits(ABC):
    """All texts that at most ``k`` edits make of a text.

    A point is (B, S, C): 1 where option c is taken at site s, 0 elsewhere; 0 everywhere is the text as it is. So edits are
    an L0 ball on switches, of which no site may have two on, and every attack that moves in such a ball can search it.
    ``sites`` lists the options, ``measure`` counts edits from two texts alone: a text counts only where this is within k.

    Attributes:
        k: the most edits, a whole number.
    """

    space: ClassVar[str] = "text"
    norm: ClassVar[str]
    terrain: ClassVar[Terrain] = "edits"
    closed: ClassVar[str] = ""
    """What to say in place of the vocabulary that an open one needs."""

    k: Number | Budget

    def __post_init__(self) -> None:
        if self.budget.value.denominator != 1 or self.budget.unit is not None:
            raise ThreatError(f"{type(self).__name__}: k counts edits and must be a whole number, got {self.budget}")

    @property
    @abstractmethod
    def most_options(self) -> int:
        """The most options that a site can have, whatever the text."""

    @property
    def is_open(self) -> bool:
        """Whether the words of a model's vocabulary are the options of sites, which have none before they are ``filled``."""
        return False

    def admits(self, word: str) -> bool:
        """Whether a word of the vocabulary may be an option."""
        return False

    def filled(self, site: Site, words: Sequence[str]) -> Site:
        """The site with these words as its options."""
        return site

    @abstractmethod
    def sites(self, text: Text, spans: Sequence[Span] | None = None) -> list[Site]:
        """The sites of a text, in its order.

        Args:
            spans: the (start, end) of the characters that may be changed, of a pair counted through both texts; None: all.
        """

    @abstractmethod
    def measure(self, clean: Text, changed: Text, most: int) -> int:
        """How many edits lie between two texts, counted anew from the texts alone; ``most + 1`` where it is more."""

    @cached_property
    def budget(self) -> Budget:
        """The number of edits."""
        try:
            return Budget.parse(self.k)
        except ValueError as error:
            raise ThreatError(f"{type(self).__name__}: {error}") from None

    def summary(self) -> ThreatSummary:
        """The threat in plain values, for reports."""
        return ThreatSummary(self.norm, str(self.budget), float(self.budget), self.space, "texts")

    def with_eps(self, eps: Number | Budget) -> Edits:
        """The same threat with another number of edits."""
        return replace(self, k=eps)

    def origin(self, inputs: Tensor) -> Tensor:
        """The points themselves."""
        return inputs

    def region(self, origin: Tensor, free: Tensor | None = None) -> Region:
        """Where the points may move.

        Args:
            free: (B, S, C) bool: the options that there are.
        """
        upper = torch.ones_like(origin) if free is None else free.to(origin.dtype)
        return Region(origin, torch.zeros_like(origin), upper, self._radius(upper > 0).to(origin.dtype))

    def scaled(self, region: Region, by: Tensor) -> Region:
        """The regions of ``by`` times as many edits, (B,), rounded down."""
        most = (region.upper > 0).any(2).sum(1, keepdim=True).to(region.radius.dtype)
        return replace(region, radius=torch.minimum((region.radius * by.unsqueeze(1)).floor(), most))

    def start(self, region: Region, keys: Tensor) -> Tensor:
        """As many edits as are allowed, at random sites, each a random one of its options.

        Args:
            keys: (B,) int64, one per example (see ``keyed``).
        """
        options = region.upper > 0
        where, which = (keyed.uniform(keys, tuple(options.shape[1 : 2 + i]), i) for i in (0, 1))
        movable = options.any(2)
        chosen = largest(torch.where(movable, where, -1.0), region.radius) & movable
        return _at(torch.where(options, which, -1.0).argmax(2), chosen, region)

    def step(self, x: Tensor, grad: Tensor, size: Tensor, region: Region) -> Tensor:
        """Up to ``size`` times k sites go where the linearised loss is largest; of all edits, those worth most to it stay.

        Args:
            size: (B,) share of k.
        """
        worth = (grad * x).sum(2)
        gain, best = torch.where(region.upper > 0, grad, -torch.inf).max(2)
        undone = worth < 0
        undone &= gain < 0
        rise = torch.where(undone, -worth, gain - worth)
        moving = largest(rise, (size.unsqueeze(1) * region.radius).ceil()) & (rise > 0)
        moved = torch.where(moving.unsqueeze(2), _at(best, ~undone, region), x)
        return self._kept(moved, (grad * moved).sum(2), region)

    def project(self, x: Tensor, region: Region) -> Tensor:
        """The nearest choice of options: at each site the largest above one half, of all the k largest."""
        most, best = torch.where(region.upper > 0, x, -torch.inf).max(2)
        return self._kept(_at(best, most > 0.5, region), most, region)

    def maximise(self, grad: Tensor, region: Region) -> Tensor:
        """The choice of options for which the linear function ``grad`` is largest."""
        gain, best = torch.where(region.upper > 0, grad, -torch.inf).max(2)
        return self._kept(_at(best, gain > 0, region), gain, region)

    def seal(self, x: Tensor, region: Region) -> Tensor:
        """The nearest choice of options."""
        return self.project(x, region)

    def contains(self, x: Tensor, region: Region) -> Tensor:
        """(B,) bool: a choice of options that there are, at most one at a site and k in all. Texts are measured besides."""
        switches = ((x == 0) | ((x == 1) & (region.upper > 0))).flatten(1).all(1)
        return switches & (x.sum(2) <= 1).all(1) & (x.flatten(1).sum(1) <= region.radius.squeeze(1))

    def distance(self, x: Tensor, region: Region) -> Tensor:
        """(B,) float64: how many edits."""
        return (x != 0).flatten(1).sum(1).to(torch.float32 if x.device.type == "mps" else torch.float64)

    def _radius(self, options: Tensor) -> Tensor:
        """(B, 1) the most edits of each example, of which (B, S, C) bool are the options."""
        return torch.full((len(options), 1), float(self.budget), device=options.device)

    @staticmethod
    def _kept(x: Tensor, worth: Tensor, region: Region) -> Tensor:
        """The edits of ``x`` that are worth most, (B, S), as many as are allowed."""
        edited = x.any(2)
        return x * (largest(torch.where(edited, worth, -torch.inf), region.radius) & edited).unsqueeze(2)


def _at(option: Tensor, chosen: Tensor, region: Region) -> Tensor:
    """(B, S, C) points with one ``option``, (B, S), at each ``chosen`` site."""
    point = torch.zeros_like(region.origin)
    return point.scatter_(2, option.unsqueeze(2), chosen.unsqueeze(2).to(point.dtype))


def edited(text: Text, edits: Iterable[Edit]) -> Text:
    """The text with these edits made, from left to right; one that begins inside the one before is left out."""
    parts = list(as_parts(text))
    behind: dict[int, int] = {}
    made = []
    for edit in sorted(edits, key=lambda edit: (edit.part, edit.start, edit.turn)):
        if edit.start >= behind.get(edit.part, 0):
            behind[edit.part] = edit.end
            made.append(edit)
    for edit in reversed(made):
        part = parts[edit.part]
        parts[edit.part] = part[: edit.start] + edit.new + part[edit.end :]
    return parts[0] if isinstance(text, str) else tuple(parts)


def words_within(text: Text, spans: Sequence[Span] | None, word: re.Pattern[str]) -> Iterator[tuple[int, re.Match[str]]]:
    """The words of a text that may be changed, each with the number of its part.

    Args:
        spans: see ``Edits.sites``. word: what a word is.
    """
    begin = 0
    for number, part in enumerate(as_parts(text)):
        inside = [(0, len(part))] if spans is None else [(start - begin, end - begin) for start, end in spans]
        for match in word.finditer(part):
            if any(low <= match.start() and match.end() <= high for low, high in inside):
                yield number, match
        begin += len(part)


def as_parts(text: Text) -> tuple[str, ...]:
    """The parts of a text: itself, or those of a pair."""
    return (text,) if isinstance(text, str) else text


def distance(one: Sequence[object], other: Sequence[object], most: int, *, swaps: bool = False) -> int:
    """The fewest insertions, deletions and replacements that make ``other`` of ``one``; ``most + 1`` where it takes more.

    Args:
        swaps: the exchange of two neighbours is one edit too (optimal string alignment; Boytsov, ACM JEA 2011).
    """
    far = most + 1
    if abs(len(one) - len(other)) > most:
        return far
    older: list[int] = []
    before = [j if j <= most else far for j in range(len(other) + 1)]
    for i in range(1, len(one) + 1):
        row = [far] * (len(other) + 1)
        row[0] = min(i, far)
        # Farther from the diagonal lies nothing within reach.
        for j in range(max(1, i - most), min(len(other), i + most) + 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (one[i - 1] != other[j - 1]), far)
            if swaps and i > 1 and j > 1 and one[i - 1] == other[j - 2] and one[i - 2] == other[j - 1]:
                cost = min(cost, older[j - 2] + 1)
            row[j] = cost
        older, before = before, row
    return before[-1]
