"""The characters of a text that may be attacked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pytest_robust.data.examples import Text, parts_of
from pytest_robust.errors import ModelError, PreflightError

Span = tuple[int, int]
"""Characters from start to end, the end not included."""
Spans = Callable[[Text], Sequence[Span]]
"""From a text, or a pair as a tuple, to its spans. Of a pair, characters are counted through both texts: the first of the
second is number ``len(first)``."""


def checked_spans(spans: object) -> Spans | None:
    """Raises ModelError for what is not a function."""
    if spans is not None and not callable(spans):
        raise ModelError(
            f"spans={spans!r:.80} is no function; give one from a text to the (start, end) of what may be attacked in it"
        )
    return spans


def attackable(spans: Spans | None, text: Text) -> list[Span]:
    """What may be attacked of ``text``: what ``spans`` gives, all of it without; a pair has a span for each of its texts.

    Raises:
        PreflightError: no pairs of whole numbers, a span that is empty, beyond the text, or across the texts of a pair.
    """
    ends = _ends(text)
    if spans is None:
        return [(start, end) for start, end in zip((0, *ends[:-1]), ends, strict=True) if start < end]
    given = spans(text)
    try:
        found = [(int(start), int(end)) for start, end in given]
    except (TypeError, ValueError):
        raise PreflightError(
            f"spans: for {_shown(text)} the function returned {given!r:.80}; return a list of (start, end), in characters"
        ) from None
    for start, end in found:
        if not 0 <= start < end <= ends[-1]:
            raise PreflightError(
                f"spans: ({start}, {end}) is no part of {_shown(text)}, which has {ends[-1]} characters; "
                "a span has 0 <= start < end <= length"
            )
        if any(start < border < end for border in ends[:-1]):
            raise PreflightError(
                f"spans: ({start}, {end}) reaches from the first text of the pair {_shown(text)} into the second, which "
                f"begins at {ends[0]}; give one span for each"
            )
    return found


def part_begins(text: Text) -> tuple[int, ...]:
    """Where each part of a text begins, in characters counted through all of them."""
    return (0,) if isinstance(text, str) else (0, len(text[0]))


def blank_before(part: str, start: int) -> str:
    """A space where one stands before a word: to some tokenizers it belongs to it."""
    return " " if start and part[start - 1].isspace() else ""


def owners_of(places: Sequence[Span | None] | None, words: Sequence[Span]) -> list[int]:
    """For each token the number of the word that it is of; ``len(words)``: of none. Both stand in the order of the text."""
    owners, number = [], 0
    for place in places or []:
        if place is None:
            owners.append(len(words))
            continue
        while number < len(words) and words[number][1] <= place[0]:
            number += 1
        inside = number < len(words) and place[1] > words[number][0]
        owners.append(number if inside else len(words))
    return owners


def is_inside(place: Span | None, spans: Sequence[Span]) -> bool:
    """Whether all characters of a token lie in one of the spans."""
    return place is not None and any(start <= place[0] and place[1] <= end for start, end in spans)


def _ends(text: Text) -> list[int]:
    ends: list[int] = []
    for part in parts_of(text):
        ends.append((ends[-1] if ends else 0) + len(part))
    return ends


def _shown(text: Text) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else shown[:60] + "..."
