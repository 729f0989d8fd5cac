"""Token classifiers (named entities, parts of speech): broken when some word of the text gets another tag than its own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from pytest_robust.data.examples import Examples, Text
from pytest_robust.data.loading import split
from pytest_robust.errors import ModelError, PreflightError
from pytest_robust.models.embedded_text import EmbeddedText
from pytest_robust.models.forward import class_names
from pytest_robust.models.tokens import Row

_GOLD = "gold tag"
"""The column with the number of each token's tag, negative for tokens that are not judged; no argument is called so."""
_UNJUDGED = -100


class TokenClassifier(EmbeddedText):
    """A token classifier seen as one of two classes: ``"tags right"`` and ``"a tag is wrong"``.

    Its logits are (m, 0), m the smallest lead, over the words with a tag, that the logit of the right tag has over the best
    other one. As is the custom, the first token of a word stands for it. So a text is broken exactly when one of its words
    gets a wrong tag, and every attack works on the word that is nearest to that.

    The tags of a text are its reference: a JSON list with one entry per word, a name or a number, null where none is judged.
    Words are what white space parts.
    """

    @staticmethod
    def _check_head(module: Any) -> None:
        outputs = getattr(module.config, "num_labels", 0)
        if outputs < 2:
            raise ModelError(f"{type(module).__name__} tells {outputs} tags apart; a token classifier needs two or more")

    def _class_names(self, given: Sequence[str] | None) -> tuple[str, ...]:
        self._need_places("token classification")
        self._tags = class_names(self.module.config, given)
        return "tags right", "a tag is wrong"

    def read(self, data: object) -> Examples:
        """Examples of ``(text, tags)``, or ``(list of words, tags)``, with one tag per word: its name or number.

        Words are joined by blanks. A tag that is None or negative (-100) is not judged.

        Raises:
            PreflightError: not such data, tags that the model does not know, or not one per word.
        """
        if isinstance(data, Examples):
            if data.references is None:
                raise PreflightError("data: these examples have no tags; read them by read(), or give them as references")
            return data
        raw_texts, raw_tags = split(data)
        texts: list[Text] = [_text(text, i) for i, text in enumerate(_listed(_alone(raw_texts), "inputs"))]
        tags = _listed(raw_tags, "labels")
        if len(texts) != len(tags):
            raise PreflightError(f"data: there are {len(texts)} texts, and tags for {len(tags)}; give one list of tags each")
        references = [json.dumps(self._named(given, i), ensure_ascii=False) for i, given in enumerate(tags)]
        return Examples.of(texts, torch.zeros(len(texts), dtype=torch.int64), self.classes, references)

    def _observed(self, output: object, batch_size: int) -> Tensor:
        logits = getattr(output, "logits", output[0] if isinstance(output, tuple) else output)
        return self._of_tokens(logits, batch_size, "(batch, tokens, tags) is", "return the logits of every token")

    def _judged(self, observed: Tensor, context: dict[str, Tensor]) -> Tensor:
        gold = context[_GOLD]
        right = gold.clamp(min=0).unsqueeze(2)
        lead = observed.gather(2, right).squeeze(2) - observed.scatter(2, right, -torch.inf).amax(2)
        # Among equal logits the first tag is the prediction, as argmax has it: by a hair.
        wrong = observed.argmax(2) != gold
        lead = lead - wrong * torch.finfo(lead.dtype).tiny
        smallest = lead.masked_fill(gold < 0, torch.inf).amin(1)
        return torch.stack([smallest, torch.zeros_like(smallest)], 1)

    def _completed(self, row: Row, examples: Examples, i: int) -> Row:
        where = f"example {i} (id {examples.ids[i]})"
        if examples.references is None or row.places is None:
            raise PreflightError(f"inputs: {where} has no text with tags; give (text, tags) pairs, with one tag per word")
        text = cast("list[Any]", examples.inputs)[i]
        if not isinstance(text, str):
            raise PreflightError(f"inputs: {where} is a pair of texts; a token classifier takes one text")
        words = [match.span() for match in re.finditer(r"\S+", text)]
        try:
            tags = list(json.loads(examples.references[i]))
        except (ValueError, TypeError):
            raise PreflightError(
                f"labels: {where} has the reference {examples.references[i]!r:.80}, where a JSON list of tags is needed; "
                "read() makes it"
            ) from None
        if len(words) != len(tags):
            raise PreflightError(f"labels: {where} has {len(words)} words and {len(tags)} tags; give one tag per word")
        known = [(place[0], token) for token, place in enumerate(row.places) if place is not None]
        end = max(place[1] for place in row.places if place is not None)
        gold = [_UNJUDGED] * len(row.ids)
        for (first, last), tag in zip(words, tags, strict=True):
            if tag is None or (row.cut and last > end):
                continue
            token = next((token for start, token in known if first <= start < last), None)
            if token is None:
                raise PreflightError(
                    f"inputs: {where}: the tokenizer gives no token that begins in the word {text[first:last]!r}, so its "
                    "tag cannot be judged; give None for this tag, or drop the word"
                )
            gold[token] = self._number(tag, where)
        if all(tag < 0 for tag in gold):
            raise PreflightError(f"labels: {where} has no word whose tag is judged; drop such texts from the data")
        return replace(row, others={**row.others, _GOLD: gold})

    def _named(self, tags: object, i: int) -> list[str | int | None]:
        """Tags as they are written in a reference, by name where names are known."""
        values = tags.tolist() if isinstance(tags, (Tensor, np.ndarray)) else tags
        if not isinstance(values, (list, tuple)):
            raise PreflightError(f"labels: example {i} has {tags!r:.80}, where a list with one tag per word is needed")
        named: list[str | int | None] = []
        for value in values:
            tag = value.item() if isinstance(value, (Tensor, np.generic)) else value
            if tag is None or (isinstance(tag, int) and tag < 0):
                named.append(None)
                continue
            number = self._number(tag, f"example {i}")
            named.append(self._tags[number] if self._tags is not None else number)
        return named

    def _number(self, tag: object, where: str) -> int:
        outputs = self.module.config.num_labels
        if isinstance(tag, int) and not isinstance(tag, bool) and 0 <= tag < outputs:
            return tag
        if isinstance(tag, str) and self._tags is not None and tag in self._tags[:outputs]:
            return self._tags.index(tag)
        known = f"{', '.join(self._tags[:10])}" if self._tags is not None else "not known by name: use numbers"
        raise PreflightError(
            f"labels: {where} has the tag {tag!r}, which is none of the model's, 0 to {outputs - 1} ({known}); "
            "None stands for a word that is not judged"
        )


def _listed(values: object, name: str) -> Sequence[object]:
    if isinstance(values, (list, tuple)) and values:
        return values
    raise PreflightError(f"{name}: a {type(values).__name__}; for a token classifier give a list of (text, tags per word)")


def _alone(value: object) -> object:
    """The column of a mapping that has one."""
    return next(iter(value.values())) if isinstance(value, Mapping) and len(value) == 1 else value


def _text(value: object, i: int) -> str:
    value = _alone(value)
    if isinstance(value, str):
        return value
    words = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        raise PreflightError(f"inputs: example {i} is a {type(value).__name__}; give a text, or a list of its words")
    odd = next((word for word in words if len(word.split()) != 1), None)
    if odd is not None:
        raise PreflightError(f"inputs: example {i} has the word {odd!r}; a word is not empty and has no white space in it")
    return " ".join(words)
