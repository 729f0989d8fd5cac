"""Texts as rows of token ids, each cut and padded by itself, so that no row depends on its neighbours."""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from pytest_robust.data.examples import Column, Inputs, parts_of
from pytest_robust.errors import ModelError, PreflightError

FIXED = "fixed token"
"""The column of tokens that may not move; no argument of a model can be called so."""
_POSITION_TABLES = ("position_embeddings", "embed_positions", "wpe")
_UNUSED = re.compile(r"^[\[<|]+(unused|extra_id|reserved|madeupword|pad)", re.IGNORECASE)
_UNLIMITED = 10**6
"""transformers writes 10**30 for a tokenizer whose limit it does not know."""
_IGNORED = -100
"""What fills up further columns: as in transformers, a token that is not judged."""


@dataclass(frozen=True)
class Row:
    """One text without padding; every list has one value per token.

    Attributes:
        types: where the tokenizer gives them.
        fixed: 1 for tokens that may not move: those that are special, or outside the user's spans.
        places: the characters (start, end) that a token stands for, without white space at its edges; None for tokens that
            stand for none. Of a pair, characters are counted through both texts. None where the tokenizer does not say.
        others: further columns of the model's own, by name.
        cut: whether the text was longer than the model takes.
    """

    ids: list[int]
    types: list[int] | None
    fixed: list[int]
    places: list[tuple[int, int] | None] | None = None
    others: dict[str, list[int]] = field(default_factory=dict)
    cut: bool = False


class Tokens:
    """A Hugging Face tokenizer that leaves the user's object alone."""

    def __init__(self, tokenizer: Any, module: nn.Module) -> None:
        # A fast tokenizer keeps the truncation of its last call; the user's keeps its own.
        self._tokenizer = copy.deepcopy(tokenizer)
        self.limit = _limit(tokenizer, module)
        self.padding = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
        self._pad_type = getattr(tokenizer, "pad_token_type_id", 0)
        self.knows_places = bool(getattr(tokenizer, "is_fast", False))

    def rows(self, inputs: Inputs, *, special: bool = True) -> list[Row]:
        """One row per text, cut to ``limit``, or per row of a mapping with ``input_ids``.

        Args:
            special: whether the tokenizer adds the special tokens that it usually does.

        Raises:
            PreflightError: neither texts nor token ids, or more than two texts.
        """
        if isinstance(inputs, dict) and "input_ids" in inputs:
            return [self._row_of_ids(inputs, i) for i in range(len(inputs["input_ids"]))]
        if isinstance(inputs, (dict, Tensor)) or isinstance(inputs[0], Tensor):
            raise PreflightError(
                "inputs: a text model was given tensors; give (text, label) pairs, or a mapping with 'input_ids' and 'label'"
            )
        texts = [parts_of(text) for text in inputs]
        for i, parts in enumerate(texts):
            if len(parts) > 2:
                raise PreflightError(f"inputs: example {i} has {len(parts)} texts; give one text, or a pair of them")
        rows = self._rows_of_texts(texts, None, special)
        long = [i for i, row in enumerate(rows) if self.limit is not None and len(row.ids) > self.limit]
        for i, row in zip(long, self._rows_of_texts([texts[i] for i in long], self.limit, special), strict=True):
            rows[i] = replace(row, cut=True)
        return rows

    def pieces(self, words: Sequence[str]) -> list[list[int]]:
        """The token ids of each of these pieces of text by itself, without special tokens."""
        return [list(ids) for ids in self._tokenizer(list(words), add_special_tokens=False, verbose=False)["input_ids"]]

    def ordinary(self, rows: int) -> list[int]:
        """Ids, ascending, of the tokens that texts are made of: in the vocabulary and among the first ``rows``, neither
        special nor by their names unused.
        """
        special = set(self._tokenizer.all_special_ids)
        vocabulary = self._tokenizer.get_vocab()
        return sorted({i for name, i in vocabulary.items() if i < rows and i not in special and not _UNUSED.search(name)})

    def reserved(self) -> set[int]:
        """Ids of tokens that are special wherever they stand: all but the one for what is not in the vocabulary."""
        tokenizer = self._tokenizer
        added = {i for i, token in getattr(tokenizer, "added_tokens_decoder", {}).items() if token.special}
        named = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id} - {None}
        return (added | set(tokenizer.all_special_ids)) - {tokenizer.unk_token_id} | named

    @property
    def has_template(self) -> bool:
        """Whether the tokenizer has a template for conversations."""
        return bool(getattr(self._tokenizer, "chat_template", None))

    def conversation(self, messages: Sequence[Mapping[str, str]], options: Mapping[str, Any]) -> str:
        """Messages in the template, up to where the model answers.

        Raises:
            ModelError: the template refuses them.
        """
        try:
            return str(
                self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True, **options)
            )
        except Exception as error:
            roles = ", ".join(message["role"] for message in messages)
            raise ModelError(
                f"the chat template of the tokenizer raised {type(error).__name__} for messages of {roles}: {error}; "
                "try tokenizer.apply_chat_template by hand on such messages"
            ) from error

    def target(self, text: str) -> list[int]:
        """The token ids of a translation, as the model writes it, with those that end it."""
        return list(self._tokenizer(text_target=text, truncation=self.limit is not None, max_length=self.limit)["input_ids"])

    def texts(self, ids: Tensor) -> list[str]:
        """(B, T) token ids as texts, without special tokens."""
        return list(self._tokenizer.batch_decode(ids, skip_special_tokens=True))

    def decoded(self) -> dict[int, str]:
        """By id, the text of each token that is not special, without white space around it."""
        ids = sorted(set(self._tokenizer.get_vocab().values()) - set(self._tokenizer.all_special_ids))
        texts = self._tokenizer.batch_decode([[i] for i in ids], clean_up_tokenization_spaces=False)
        return {i: text.strip() for i, text in zip(ids, texts, strict=True)}

    def padded(self, rows: Sequence[Row], multiple: int) -> dict[str, Column]:
        """Columns of (L,) int64 tensors, L a multiple of ``multiple`` where the model's limit allows it."""
        columns: dict[str, list[Tensor]] = defaultdict(list)
        typed = all(row.types is not None for row in rows)
        for row in rows:
            length = self.padded_length(row, multiple)
            columns["input_ids"].append(_filled(row.ids, self.padding, length))
            columns["attention_mask"].append(_filled([1] * len(row.ids), 0, length))
            columns[FIXED].append(_filled(row.fixed, 1, length))
            if typed:
                columns["token_type_ids"].append(_filled(row.types or [], self._pad_type, length))
            for name, values in row.others.items():
                columns[name].append(_filled(values, _IGNORED, length))
        return dict(columns)

    def padded_length(self, row: Row, multiple: int) -> int:
        length = -(-len(row.ids) // multiple) * multiple
        return length if self.limit is None else max(len(row.ids), min(length, self.limit))

    def _rows_of_texts(self, texts: Sequence[tuple[str, ...]], limit: int | None, special: bool) -> list[Row]:
        """All in one call, or in two where some are pairs: a call for each takes many times as long."""
        rows: dict[int, Row] = {}
        for length in sorted({len(parts) for parts in texts}):
            which = [i for i, parts in enumerate(texts) if len(parts) == length]
            encoded = self._tokenizer(
                *(list(column) for column in zip(*(texts[i] for i in which), strict=True)),
                truncation=limit is not None,
                max_length=limit,
                add_special_tokens=special,
                return_special_tokens_mask=True,
                return_offsets_mapping=self.knows_places,
                verbose=False,
            )
            typed = "token_type_ids" in encoded
            for number, i in enumerate(which):
                places = _places(encoded, number, texts[i]) if self.knows_places else None
                types = list(encoded["token_type_ids"][number]) if typed else None
                rows[i] = Row(
                    list(encoded["input_ids"][number]), types, list(encoded["special_tokens_mask"][number]), places
                )
        return [rows[i] for i in range(len(texts))]

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


def _places(encoded: Any, number: int, parts: Sequence[str]) -> list[tuple[int, int] | None]:
    begins = (0, len(parts[0]))
    places: list[tuple[int, int] | None] = []
    for part, (start, end) in zip(encoded.sequence_ids(number), encoded["offset_mapping"][number], strict=True):
        token = "" if part is None else parts[part][start:end]
        # Byte-level tokens have the blank before a word in them, which is no part of it.
        start, end = start + len(token) - len(token.lstrip()), end - len(token) + len(token.rstrip())
        places.append((begins[part] + start, begins[part] + end) if start < end and part is not None else None)
    return places


def _filled(values: list[int], filler: int, length: int) -> Tensor:
    return torch.tensor(values + [filler] * (length - len(values)), dtype=torch.int64)
