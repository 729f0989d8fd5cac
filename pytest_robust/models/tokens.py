"""Texts as rows of token ids, each cut and padded by itself, so that no row depends on its neighbours."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from pytest_robust.data.examples import Column, Inputs, Text
from pytest_robust.errors import PreflightError

_POSITION_TABLES = ("position_embeddings", "embed_positions", "wpe")
_UNLIMITED = 10**6
"""transformers writes 10**30 for a tokenizer whose limit it does not know."""


@dataclass(frozen=True)
class Row:
    """One text without padding: token ids, token types where the tokenizer gives them, and which tokens are special.

    Attributes:
        places: for each token the part of the text that it is of and its characters there, where asked for; None for others
            than those of a part.
    """

    ids: list[int]
    types: list[int] | None
    special: list[int]
    places: list[tuple[int, int, int] | None] | None = None


class Tokens:
    """A Hugging Face tokenizer that leaves the user's object alone."""

    def __init__(self, tokenizer: Any, module: nn.Module) -> None:
        # A fast tokenizer keeps the truncation of its last call; the user's keeps its own.
        self._tokenizer = copy.deepcopy(tokenizer)
        self.limit = _limit(tokenizer, module)
        pad = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
        self._pad = Row([pad], [getattr(tokenizer, "pad_token_type_id", 0)], [1])

    def rows(self, inputs: Inputs) -> tuple[list[Row], int]:
        """One row per text, or per row of a mapping with ``input_ids``, and how many were cut to ``limit``.

        Raises:
            PreflightError: neither texts nor token ids, or more than two texts.
        """
        rows: list[Row]
        cut = 0
        if isinstance(inputs, dict) and "input_ids" in inputs:
            rows = [self._row_of_ids(inputs, i) for i in range(len(inputs["input_ids"]))]
        elif isinstance(inputs, (dict, Tensor)) or isinstance(inputs[0], Tensor):
            raise PreflightError(
                "inputs: a text model was given tensors; give (text, label) pairs, or a mapping with 'input_ids' and 'label'"
            )
        else:
            rows = []
            for i, text in enumerate(inputs):
                row = self._row_of_text(text, i, None)
                if self.limit is not None and len(row.ids) > self.limit:
                    row, cut = self._row_of_text(text, i, self.limit), cut + 1
                rows.append(row)
        return rows, cut

    def read(self, texts: Sequence[Text], *, places: bool = False) -> list[Row]:
        """One row per text, cut to ``limit``: a call for all of them, which is many times faster than one for each.

        Args:
            places: also say which characters each token is of; only a tokenizer that is ``fast`` can.
        """
        parts = zip(*((text,) if isinstance(text, str) else text for text in texts), strict=True)
        encoded = self._tokenizer(
            *map(list, parts), truncation=self.limit is not None, max_length=self.limit, return_special_tokens_mask=True,
            return_offsets_mapping=places, verbose=False,
        )  # fmt: skip
        types = encoded.get("token_type_ids") or [None] * len(texts)
        rows = zip(encoded["input_ids"], types, encoded["special_tokens_mask"], strict=True)
        found = [Row(list(ids), kinds and list(kinds), list(special)) for ids, kinds, special in rows]
        if not places:
            return found
        return [
            replace(row, places=_places(encoded.sequence_ids(i), encoded["offset_mapping"][i]))
            for i, row in enumerate(found)
        ]

    def pieces(self, words: Sequence[str]) -> list[list[int]]:
        """The token ids of each of these pieces of text by itself, without special tokens."""
        return [list(ids) for ids in self._tokenizer(list(words), add_special_tokens=False, verbose=False)["input_ids"]]

    @property
    def fast(self) -> bool:
        """Whether the tokenizer knows which characters a token is of."""
        return bool(getattr(self._tokenizer, "is_fast", False))

    def padded(self, rows: Sequence[Row], multiple: int) -> dict[str, Column]:
        """Columns of (L,) int64 tensors, L a multiple of ``multiple`` where the model's limit allows it."""
        columns: dict[str, list[Tensor]] = {"input_ids": [], "attention_mask": [], "special": []}
        if all(row.types is not None for row in rows):
            columns["token_type_ids"] = []
        for row in rows:
            length = self.padded_length(row, multiple)
            columns["input_ids"].append(_filled(row.ids, self._pad.ids, length))
            columns["attention_mask"].append(_filled([1] * len(row.ids), [0], length))
            columns["special"].append(_filled(row.special, self._pad.special, length))
            if "token_type_ids" in columns:
                columns["token_type_ids"].append(_filled(row.types or [], self._pad.types or [0], length))
        return dict(columns)

    def padded_length(self, row: Row, multiple: int) -> int:
        length = -(-len(row.ids) // multiple) * multiple
        return length if self.limit is None else max(len(row.ids), min(length, self.limit))

    def _row_of_text(self, text: Text, i: int, limit: int | None) -> Row:
        parts = (text,) if isinstance(text, str) else text
        if len(parts) > 2:
            raise PreflightError(f"inputs: example {i} has {len(parts)} texts; give one text, or a pair of them")
        encoded = self._tokenizer(
            *parts, truncation=limit is not None, max_length=limit, return_special_tokens_mask=True, verbose=False
        )
        return Row(list(encoded["input_ids"]), _maybe_list(encoded, "token_type_ids"), list(encoded["special_tokens_mask"]))

    def _row_of_ids(self, columns: Mapping[str, Column], i: int) -> Row:
        ids = columns["input_ids"][i]
        attended = columns["attention_mask"][i].bool() if "attention_mask" in columns else torch.ones_like(ids).bool()
        kept = ids[attended].tolist()
        types = columns["token_type_ids"][i][attended].tolist() if "token_type_ids" in columns else None
        return Row(kept, types, self._tokenizer.get_special_tokens_mask(kept, already_has_special_tokens=True))


def _limit(tokenizer: Any, module: nn.Module) -> int | None:
    """The most tokens that the model takes, None where nothing limits them."""
    limits = [int(tokenizer.model_max_length)]
    for name, part in module.named_modules():
        if isinstance(part, nn.Embedding) and name.rpartition(".")[2] in _POSITION_TABLES:
            # RoBERTa and its kin count positions from just after the padding index.
            limits.append(part.num_embeddings - (0 if part.padding_idx is None else part.padding_idx + 1))
            configured = getattr(getattr(module, "config", None), "max_position_embeddings", None)
            limits += [configured] if isinstance(configured, int) else []
    limit = min(limits)
    return limit if limit < _UNLIMITED else None


def _filled(values: list[int], filler: list[int], length: int) -> Tensor:
    return torch.tensor(values + filler * (length - len(values)), dtype=torch.int64)


def _places(parts: Sequence[int | None], offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int, int] | None]:
    return [None if part is None else (part, *span) for part, span in zip(parts, offsets, strict=True)]


def _maybe_list(encoded: Any, key: str) -> list[int] | None:
    return list(encoded[key]) if key in encoded else None
