"""Conversations in the template of a tokenizer: where in them the words stand that a user may write otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_robust.data.examples import Text
from pytest_robust.errors import ModelError, PreflightError
from pytest_robust.models.spans import is_inside
from pytest_robust.models.tokens import Row, Tokens

Message = Mapping[str, str]
"""``{"role": ..., "content": ...}``."""
_STAND_IN = "pytest-robust-stands-here"


@dataclass(frozen=True)
class Framed:
    """A conversation as the model reads it.

    Attributes:
        text: all of it. start, end: where the last message stands in it. stripped: how many characters at the beginning of
            that message the template leaves out.
    """

    text: str
    start: int
    end: int
    stripped: int

    def row(self, row: Row) -> Row:
        """A row of tokens of all the text, with places in the last message; all that is not wholly in it is fixed."""
        assert row.places is not None, "the tokenizer is a fast one"
        moved = self.stripped - self.start
        inside = [is_inside(place, [(self.start, self.end)]) for place in row.places]
        places = [(p[0] + moved, p[1] + moved) if p and there else None for p, there in zip(row.places, inside, strict=True)]
        fixed = [int(fixed or not there) for fixed, there in zip(row.fixed, inside, strict=True)]
        return replace(row, places=places, fixed=fixed)


@dataclass(frozen=True)
class Template:
    """How the last message of a user becomes what the model reads.

    Attributes:
        system: what stands before every conversation; None: nothing. options: further arguments of the template.
    """

    tokens: Tokens
    system: str | None
    options: Mapping[str, Any]

    def rows(self, texts: Sequence[str], before: Sequence[Sequence[Message]]) -> list[Row]:
        """The tokens of conversations that end with these texts of the user; only those of the texts can move.

        Args:
            before: for each text the messages ahead of it.

        Raises:
            ModelError: the template refuses a conversation, or changes what the user writes.
        """
        # What stands around the last message is the same for every way of writing it.
        different = {repr(ahead): ahead for ahead in before}
        around = {key: self._said(_STAND_IN, ahead).split(_STAND_IN) for key, ahead in different.items()}
        framed = [self._framed(text, ahead, around[repr(ahead)]) for text, ahead in zip(texts, before, strict=True)]
        # The template has the special tokens already.
        whole: list[Text] = [one.text for one in framed]
        rows = self.tokens.rows(whole, special=False)
        return [one.row(row) for one, row in zip(framed, rows, strict=True)]

    def _framed(self, text: str, before: Sequence[Message], around: Sequence[str]) -> Framed:
        whole = self._said(text, before)
        if len(around) == 2:
            head, tail = around
            for kept in (text, text.strip()):
                if whole == head + kept + tail:
                    return Framed(whole, len(head), len(head) + len(kept), text.find(kept))
        raise ModelError(
            f"the chat template of the tokenizer does not give the user's words {text!r:.60} once and as they are, so "
            "that nobody can say which tokens are theirs; apply it yourself, and give such texts with chat=False and spans="
        )

    def _said(self, text: str, before: Sequence[Message]) -> str:
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return self.tokens.conversation([*system, *before, {"role": "user", "content": text}], self.options)


def read_conversation(item: Sequence[Any], i: int) -> tuple[str, list[dict[str, str]]]:
    """The user's last message of a conversation, and those ahead of it.

    Raises:
        PreflightError: not messages with role and content, or the last is not the user's.
    """
    messages = []
    for message in item:
        role, content = (message.get(name) for name in ("role", "content")) if isinstance(message, Mapping) else (None, None)
        if not isinstance(role, str) or not isinstance(content, str):
            raise PreflightError(
                f"data: prompt {i} has the message {message!r:.60}; give {{'role': 'user', 'content': a text}}"
            )
        messages.append({"role": role, "content": content})
    if messages[-1]["role"] != "user":
        raise PreflightError(
            f"data: prompt {i} ends with a message of {messages[-1]['role']!r}; the last one is what is attacked, and has "
            "to be the user's"
        )
    return messages[-1]["content"], messages[:-1]
