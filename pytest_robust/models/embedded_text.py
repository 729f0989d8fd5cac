"""Models that read text, attacked in the space of their token embeddings: what all of them share, whatever their head.

transformers is never imported here: whoever has its models has it.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pytest_robust.data import load
from pytest_robust.data.examples import Column, Examples, Inputs, Text
from pytest_robust.errors import ModelError, PreflightError
from pytest_robust.models.bpda import NonDifferentiable, approximated, approximations
from pytest_robust.models.devices import placed
from pytest_robust.models.forward import Forward
from pytest_robust.models.modes import training_parts
from pytest_robust.models.parity import AS_ARGUMENT, IN_PLACE, PADDINGS, Entry, difference, fitting
from pytest_robust.models.protocol import Batch
from pytest_robust.models.spans import Span, Spans, attackable, checked_spans, is_inside
from pytest_robust.models.tokens import FIXED, Row, Tokens
from pytest_robust.models.torch_module import Normalize, floating_dtype, refuse_unusable

_PUT_IN_PLACE = "embeddings in place"
"""The column of examples whose embeddings enter in place; no argument of a model can be called so."""
_UNBOUNDED = 2**31


class EmbeddedText(ABC):
    """A model of Hugging Face and its tokenizer as a ``Model``: the point is the (B, L, D) embeddings of the tokens.

    Padding, special tokens, and what lies outside the user's spans do not move. That the outputs for embeddings are those
    for token ids is checked on a few examples before anything else, and repaired where it can be (see ``parity``).

    A kind of head is a subclass: which modules it takes, what of their output is compared, and how that becomes logits.

    Attributes:
        notes: what the user should know about the texts, in sentences (how many were cut, say).
    """

    space = "embedding"
    classes: tuple[str, ...] | None
    of_examples: ClassVar[tuple[str, ...]] = ()
    """Attributes that hold what was worked out for the examples encoded so far: no part of what the model is."""

    def __init__(
        self,
        module: Any,
        tokenizer: Any,
        *,
        device: str = "auto",
        normalize: Normalize | None = None,
        classes: Sequence[str] | None = None,
        non_differentiable: NonDifferentiable | None = None,
        spans: Spans | None = None,
    ) -> None:
        """
        Args:
            spans: from a text to the characters that may be attacked. The others are as in ``adapt``.

        Raises:
            ModelError: not a model of this kind with its tokenizer.
        """
        _check_pair(module, tokenizer)
        self._check_head(module)
        if normalize is not None:
            raise ModelError("normalize is for images; a text model's embeddings are its own: leave it out")
        refuse_unusable(module)
        self.name = type(original(module)).__name__
        self._spans = checked_spans(spans)
        self._tokens = Tokens(tokenizer, module)
        if spans is not None:
            self._need_places("spans")
        self._approximations = approximations(module, non_differentiable)
        self.approximated = tuple(self._approximations)
        self._accepts = _accepted(original(module))
        self._entries = (AS_ARGUMENT, IN_PLACE) if "inputs_embeds" in self._accepts else (IN_PLACE,)
        self._entry, self._multiple = self._entries[0], 1
        on_device, self.device = placed(module, device)
        self.module: Any = on_device
        self.dtype = floating_dtype(self.module)
        self.classes = self._class_names(classes)
        self.notes: tuple[str, ...] = ()
        self._forward = Forward(self.name)

    @staticmethod
    @abstractmethod
    def _check_head(module: Any) -> None:
        """Raises ModelError for what is not a model of this kind."""

    @abstractmethod
    def _class_names(self, given: Sequence[str] | None) -> tuple[str, ...] | None:
        """Names of the columns of the logits."""

    @abstractmethod
    def _observed(self, output: object, batch_size: int) -> Tensor:
        """What of the module's output counts: (B, ...), or (B, L, ...) with a row for every token."""

    def _of_tokens(self, found: object, batch_size: int, wanted: str, advice: str) -> Tensor:
        """``found``, float32 or float64, where it is (B, L, ...) with a row for every token.

        Raises:
            ModelError: it is not; ``wanted`` is what is needed, and ``advice`` what to do.
        """
        if isinstance(found, Tensor) and found.ndim == 3 and len(found) == batch_size:
            return found if found.dtype == torch.float64 else found.float()
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ModelError(f"{self.name} returned {shape} for a batch of {batch_size}, where {wanted} needed; {advice}")

    def _judged(self, observed: Tensor, context: dict[str, Tensor]) -> Tensor:
        """(B, C) logits of what was observed."""
        return observed

    def _completed(self, row: Row, examples: Examples, i: int) -> Row:
        """The row of example ``i`` with the columns that the head needs besides."""
        return row

    def _looked_at(self, rows: Sequence[Row]) -> None:  # noqa: B027 - most heads need nothing
        """What the head has to know of the model's outputs for the examples as they are."""

    def _arguments(self, context: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the module is called with besides embeddings: ids, masks, and what else of the columns it knows."""
        return {name: column for name, column in context.items() if name in self._accepts or name == "input_ids"}

    def training_parts(self) -> tuple[str, ...]:
        """The submodules in training mode that act differently in it."""
        return training_parts(self.module)

    def read(self, data: object) -> Examples:
        return load(data, classes=self.classes)

    def attackable(self, text: Text) -> list[Span]:
        """The (start, end) characters of ``text`` that may be attacked: those of the user's ``spans``, else all.

        Of a pair, characters are counted through both texts: the first of the second is number ``len(first)``, and no span
        reaches across.

        Raises:
            PreflightError: the user's function gave no spans of this text.
        """
        return attackable(self._spans, text)

    def encode(self, examples: Examples) -> Examples:
        """The examples as token ids and masks, one tensor each; each padded by itself to a multiple of 16.

        Raises:
            PreflightError: not texts, or one in which nothing can move.
            ModelError: the outputs for embeddings are not those for token ids.
        """
        rows = [self._limited(row, examples, i) for i, row in enumerate(self.rows(examples))]
        cut = sum(row.cut for row in rows)
        notes = [f"{cut} of {len(rows)} texts were cut to the model's {self._tokens.limit} tokens"] if cut else []
        with self.isolated():
            self._entry, self._multiple, repair = self._attached(rows)
            self._looked_at(rows)
        self.notes = (*notes, *([repair] if repair else []))
        return replace(examples, inputs=self.padded(rows))

    def rows(self, examples: Examples) -> list[Row]:
        """The examples as rows of tokens, of any length."""
        return [self._completed(row, examples, i) for i, row in enumerate(self._tokenised(examples))]

    def _tokenised(self, examples: Examples) -> list[Row]:
        """The texts as the tokenizer makes them rows."""
        return self._tokens.rows(examples.inputs)

    def padded(self, rows: Sequence[Row]) -> dict[str, Column]:
        """Rows as inputs for ``batch``, each padded by itself, as ``encode`` found that they may be."""
        inputs = self._tokens.padded(rows, self._multiple)
        if self._entry is IN_PLACE:
            # With the examples, not with the model: it may encode others before it runs on these.
            inputs[_PUT_IN_PLACE] = torch.ones(len(rows))
        return inputs

    def padded_length(self, row: Row) -> int:
        """How many tokens ``padded`` makes of the row."""
        return self._tokens.padded_length(row, self._multiple)

    def batches(self, rows: Sequence[Row], most: int | None = None) -> list[tuple[list[int], Batch]]:
        """Rows of any length as batches, of at most so many, each with the numbers of its rows."""
        by_length: dict[int, list[int]] = defaultdict(list)
        for i, row in enumerate(rows):
            by_length[self.padded_length(row)].append(i)
        found = []
        for same in by_length.values():
            for start in range(0, len(same), most or len(same)):
                group = same[start : start + (most or len(same))]
                columns = self.padded([rows[i] for i in group])
                found.append((group, self.batch({name: _stacked(column) for name, column in columns.items()})))
        return found

    def pieces(self, words: Sequence[str]) -> list[list[int]]:
        """The token ids of each of these pieces of text by itself, without special tokens."""
        return self._tokens.pieces(words)

    def decoded(self) -> dict[int, str]:
        """By id, the text of each token that is not special, without white space around it."""
        # A tokenizer may have words that the model has no embedding for.
        size = self.module.get_input_embeddings().weight.shape[0]
        return {i: text for i, text in self._tokens.decoded().items() if i < size}

    def embedded(self, ids: Tensor) -> Tensor:
        """(..., D) embeddings of token ids (...), as the points of ``batch`` are. Only of a module in training mode they
        lead back to the table: retraining on edits has to teach it what pieces of misspelt words mean.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.module.training):
            # The module, not its weight: some scale what they look up.
            found: Tensor = self.module.get_input_embeddings()(ids)
        return found

    def ordinary(self) -> Tensor:
        """(V,) ids of the tokens that texts are made of, as far as tokenizer and embeddings tell.

        Raises:
            ModelError: there are fewer than two.
        """
        table = getattr(self.module.get_input_embeddings(), "weight", None)
        ids = self._tokens.ordinary(_UNBOUNDED if table is None else len(table))
        if len(ids) < 2:
            raise ModelError(f"{self.name}: its tokenizer has {len(ids)} tokens that are not special; has it a vocabulary?")
        return torch.tensor(ids, device=self.device)

    @property
    def in_one_pass(self) -> bool:
        """Whether logits are those of one forward pass of the module."""
        return True

    @property
    def between_texts(self) -> bool:
        """Whether logits mean anything at embeddings that are those of no text."""
        return True

    @property
    def knows_places(self) -> bool:
        """Whether the tokenizer says which characters a token stands for."""
        return self._tokens.knows_places

    def batch(self, inputs: Inputs) -> Batch:
        if not isinstance(inputs, dict):
            raise PreflightError(f"inputs: {self.name} takes encoded texts; call encode() on the examples first")
        columns = {key: _stacked(column).to(self.device) for key, column in inputs.items()}
        free = (columns.pop(FIXED) == 0).unsqueeze(-1)
        embedded = self.embedded(columns["input_ids"])
        # A small step must not be rounded away: the point is no coarser than float32, and cast inside the forward pass.
        x = embedded if embedded.dtype == torch.float64 else embedded.float()
        return Batch(x.clone(), columns, free)

    def logits(self, x: Tensor, context: dict[str, Tensor]) -> Tensor:
        """Logits at the embeddings ``x``; see the protocol."""
        return self._judged(self._seen(self._entry_of(context), x, context), context)

    def isolated(self) -> AbstractContextManager[None]:
        return approximated(self.module, self._approximations)

    @staticmethod
    def _entry_of(context: dict[str, Tensor]) -> Entry:
        """How the embeddings of these examples enter the model."""
        return IN_PLACE if _PUT_IN_PLACE in context else AS_ARGUMENT

    def _seen(self, entry: Entry, x: Tensor, context: dict[str, Tensor]) -> Tensor:
        arguments = self._arguments(context)
        output = self._forward.output(lambda point: entry.call(self.module, point.to(self.dtype), arguments), x)
        return self._observed(output, len(x)).to(x.device)

    def _limited(self, row: Row, examples: Examples, i: int) -> Row:
        """The row with everything fixed that lies outside the spans.

        Raises:
            PreflightError: spans of what is no text, or nothing is left to move.
        """
        where = f"inputs: example {i} (id {examples.ids[i]})"
        if all(row.fixed):
            raise PreflightError(
                f"{where} has no words to move: it is empty, or has only special tokens; drop such texts from the data"
            )
        if self._spans is None:
            return row
        if row.places is None or isinstance(examples.inputs, (dict, Tensor)):
            raise PreflightError(f"{where} is token ids, in which spans have no meaning; give texts")
        text: Any = examples.inputs[i]
        spans = self.attackable(text)
        fixed = [int(fixed or not is_inside(place, spans)) for fixed, place in zip(row.fixed, row.places, strict=True)]
        if all(fixed):
            raise PreflightError(
                f"{where} has no words to move: none of its {len(row.fixed) - sum(row.fixed)} tokens lies wholly inside one "
                f"of its spans {spans!r:.80}; widen them to whole words, or drop such texts from the data"
            )
        return replace(row, fixed=fixed)

    def _need_places(self, what: str) -> None:
        if not self._tokens.knows_places:
            raise ModelError(
                f"{what}: which characters a token stands for is known by fast tokenizers only, and this one is slow; "
                "use AutoTokenizer.from_pretrained(..., use_fast=True)"
            )

    def _attached(self, rows: list[Row]) -> tuple[Entry, int, str | None]:
        """How embeddings enter, the padding, and what to tell, by comparison on the rows that tell most."""
        telling = [(row, self._by_ids(row)) for row in self._telling(rows)]

        def gap(entry: Entry, multiple: int) -> float:
            return max(self._gap(row, wanted, entry, multiple) for row, wanted in telling)

        return fitting(self.name, self._entries, gap, self.dtype)

    def _telling(self, rows: list[Row]) -> list[Row]:
        """The row with most padding, the shortest, the longest, and the one with most padding tokens within its text.

        The last since some models count positions, or look for the end of the text, by the ids that are no padding.
        """
        table = getattr(self.module.get_input_embeddings(), "padding_idx", None)
        paddings = {table, getattr(self.module.config, "pad_token_id", None), self._tokens.padding}
        by_padding = max(rows, key=lambda row: self._tokens.padded_length(row, PADDINGS[0]) - len(row.ids))
        by_length = sorted(rows, key=lambda row: len(row.ids))
        by_ids = max(rows, key=lambda row: sum(i in paddings for i in row.ids))
        return list({id(row): row for row in (by_padding, by_length[0], by_length[-1], by_ids)}.values())

    @torch.no_grad()
    def _by_ids(self, row: Row) -> Tensor:
        """What is observed as the model is used: of token ids, alone and without padding."""
        batch = self.batch(dict(self._tokens.padded([row], 1)))
        output = self._forward.output(lambda _: self.module(**self._arguments(batch.context)), batch.x)
        return self._observed(output, 1).to(batch.x.device)

    @torch.no_grad()
    def _gap(self, row: Row, wanted: Tensor, entry: Entry, multiple: int) -> float:
        # Twice the same: some models refuse more than one row when they know no padding token.
        batch = self.batch(dict(self._tokens.padded([row, row], multiple)))
        return difference(self._seen(entry, batch.x, batch.context), wanted, self.dtype)


def original(module: Any) -> Any:
    """The module that ``torch.compile`` made ``module`` of, else itself."""
    return getattr(module, "_orig_mod", module)


def _accepted(module: Any) -> frozenset[str]:
    """The arguments that are known by name; of a wrapper that passes on whatever it is given, those that models have."""
    parameters = inspect.signature(module.forward).parameters
    passes_on = any(p.kind is p.VAR_KEYWORD for p in parameters.values()) and "input_ids" not in parameters
    usual = ("input_ids", "attention_mask", "token_type_ids", "inputs_embeds")
    return frozenset((*parameters, *usual)) if passes_on else frozenset(parameters)


def _stacked(column: Column) -> Tensor:
    return column if isinstance(column, Tensor) else torch.stack(column)


def _check_pair(module: Any, tokenizer: Any) -> None:
    name = type(module).__name__
    if not isinstance(module, nn.Module) or not hasattr(module, "get_input_embeddings") or not hasattr(module, "config"):
        raise ModelError(
            f"the model is a pair that begins with a {name}; a pair must be (model, tokenizer), a model of transformers "
            "for sequence or token classification and its tokenizer"
        )
    if not callable(tokenizer) or not hasattr(tokenizer, "get_special_tokens_mask"):
        raise ModelError(
            f"{name} came with a {type(tokenizer).__name__}, where a tokenizer is needed: "
            "(model, AutoTokenizer.from_pretrained(...))"
        )
