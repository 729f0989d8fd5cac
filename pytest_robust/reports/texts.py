"""Texts that edits have broken, as reports show them: what went, what came."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import groupby
from typing import Literal

from pytest_robust.reports.record import Record

Kind = Literal["same", "gone", "new"]
Piece = tuple[Kind, str]
_WORD = re.compile(r"\w+|\W")
_AROUND = 40
"""Characters of what stayed that a line shows on either side of a change."""


def pieces(entry: Record, norm: str) -> list[Piece]:
    """The clean text with what went and what came, in order; the parts of a pair with `` | `` between them.

    Args:
        entry: of ``examples.texts`` of a record. norm: of the threat; ``"words"`` are never taken apart.
    """
    found: list[Piece] = []
    for number, (clean, changed) in enumerate(zip(entry["clean"], entry["changed"], strict=True)):
        if number:
            found.append(("same", " | "))
        found += _compared(_WORD.findall(clean), _WORD.findall(changed), by_letter=norm != "words")
    # Neighbours of one kind are one piece.
    return [(kind, "".join(text for _, text in group)) for kind, group in groupby(found, key=lambda piece: piece[0])]


def in_line(entry: Record, norm: str) -> str:
    """The same in one line of ASCII: ``the film was go[o>i]d``; far from changes what stayed is left out."""
    text, parts = "", pieces(entry, norm)
    for i, (kind, piece) in enumerate(parts):
        before, after = (parts[j] if 0 <= j < len(parts) else None for j in (i - 1, i + 1))
        if kind == "same":
            text += _escaped(_cropped(piece, begin=before is not None, end=after is not None))
        elif kind == "gone":
            text += f"[{_escaped(piece)}>" + ("" if after is not None and after[0] == "new" else "]")
        else:
            text += ("" if before is not None and before[0] == "gone" else "[>") + f"{_escaped(piece)}]"
    return text


def visible(text: str) -> str:
    """The text with every character that does not show, or cannot be written, as its code."""
    return "".join(c if c.isprintable() else _code(c) for c in text)


def _compared(clean: Sequence[str], changed: Sequence[str], *, by_letter: bool) -> Iterator[Piece]:
    """By words first: letter by letter a long text would take long."""
    for what, a, b, c, d in SequenceMatcher(None, clean, changed, autojunk=False).get_opcodes():
        gone, new = "".join(clean[a:b]), "".join(changed[c:d])
        if what == "equal":
            yield "same", gone
        elif by_letter and gone and new:
            yield from _compared(gone, new, by_letter=False)
        else:
            yield from ((kind, text) for kind, text in (("gone", gone), ("new", new)) if text)  # type: ignore[misc]


def _cropped(text: str, *, begin: bool, end: bool) -> str:
    """The ends of what stayed that are next to a change."""
    if len(text) <= 2 * _AROUND:
        return text
    return (text[:_AROUND] if begin else "") + "..." + (text[-_AROUND:] if end else "")


def _escaped(text: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() and c != "\\" else _code(c) for c in text)


def _code(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
