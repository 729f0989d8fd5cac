"""A model of texts seen through edits: its point says which edits are made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from pytest_robust.data.examples import Examples, Inputs, Text
from pytest_robust.errors import PreflightError
from pytest_robust.models.hugging_face import TextModel
from pytest_robust.models.protocol import Batch
from pytest_robust.models.text_function import TextFunction
from pytest_robust.models.tokens import Row

_ROW, _OPTIONS = "edited row", "edited options"
"""Columns of encoded examples: the number of the text, and which options there are, (S, C). No argument of a model can be
called so."""
_SITES = 32
"""Sites are padded to a multiple of this, so that texts of similar length share a batch."""


@dataclass
class _Options:
    """The options of one text as tokens, for gradients.

    Attributes:
        words: by number, the part, start and end of each word that has sites. word: (O,) int64, of each option.
        site, place: (O,) int64, where it stands in a point. ids: (I,) int64, the token ids that occur.
        tokens: (O, T) int64, places in ``ids``; -1 beyond its own. own: (W, T) the same of the words as they are.
    """

    words: list[tuple[int, int, int]]
    word: Tensor
    site: Tensor
    place: Tensor
    ids: Tensor
    tokens: Tensor
    own: Tensor


class Edited:
    """``model(text with edits)`` as a ``Model`` whose point, (B, S, C), has 1 where an option is taken at a site.

    Logits are always those of the text itself: edits are made, and what comes out is tokenised and run. The gradient with
    respect to an option is what the embeddings foretell: the gradient at the tokens of a word times how far its option lies
    from it, each the mean of its tokens (HotFlip: Ebrahimi et al., ACL 2018, eq. 2, for options of any number of tokens). It
    leads a search, and nothing else rests on it. A function of texts has none.
    """

    space = "text"

    def __init__(
        self,
        model: TextModel | TextFunction,
        *,
        sites: Callable[[Text], Sequence[Any]],
        edited: Callable[[Text, Sequence[Any]], Text],
        most_options: int,
    ) -> None:
        """
        Args:
            sites: of a text, as a threat of edits lists them. edited: the text with edits made. most_options: of any site.
        """
        self._model, self._sites_of, self._edited, self._most = model, sites, edited, most_options
        self.name, self.device, self.classes = model.name, model.device, model.classes
        self.notes, self.approximated = model.notes, model.approximated
        self._texts: list[Text] = []
        self._sites: list[Sequence[Any]] = []
        self._options: dict[int, _Options] = {}
        self._pieces: dict[str, list[int]] = {}

    @property
    def differentiable(self) -> bool:
        """Whether gradients can lead a search: the model has them, and its tokenizer says where tokens come from."""
        return isinstance(self._model, TextModel) and self._model.tokens.fast

    def training_parts(self) -> tuple[str, ...]:
        return self._model.training_parts()

    def encode(self, examples: Examples) -> Examples:
        """Encoded for the model, and for the edits.

        Raises:
            PreflightError: the inputs are token ids, from which no text can be known.
        """
        inputs = examples.inputs
        if not isinstance(inputs, list) or isinstance(inputs[0], Tensor):
            raise PreflightError("inputs: edits are of texts, and token ids were given; give (text, label) pairs")
        self._texts = inputs
        self._sites = [self._sites_of(text) for text in self._texts]
        self._options = {}
        encoded = self._model.encode(examples)
        self.notes = self._model.notes
        columns = {
            **cast("dict[str, Any]", encoded.inputs),
            _ROW: torch.arange(len(self._texts)),
            _OPTIONS: [self._there_are(sites) for sites in self._sites],
        }
        return replace(encoded, inputs=columns)

    def batch(self, inputs: Inputs) -> Batch:
        columns = cast("dict[str, Tensor]", inputs)
        there = columns[_OPTIONS].to(self.device)
        return Batch(there.new_zeros(there.shape, dtype=torch.float32), {_ROW: columns[_ROW].to(self.device)}, there)

    def logits(self, x: Tensor, context: dict[str, Tensor]) -> Tensor:
        """Logits of the texts that the points make; see the protocol."""
        rows, texts = context[_ROW].tolist(), self.texts(x, context)
        if isinstance(self._model, TextFunction):
            return self._model.of(texts).to(x.device)
        model, led = self._model, x.requires_grad and self.differentiable
        tokens = model.tokens.read(texts, places=led)
        by_length: dict[int, list[int]] = defaultdict(list)
        for i, row in enumerate(tokens):
            by_length[len(model.padded([row])["input_ids"][0])].append(i)
        parts = []
        for group in by_length.values():
            columns = model.padded([tokens[i] for i in group])
            batch = model.batch({name: torch.stack(list(column)) for name, column in columns.items()})
            point = batch.x
            if led:
                options = [self._options_of(rows[i]) for i in group]
                made = [self._taken(x[i], rows[i]) for i in group]
                owners = [_owners(tokens[i], o.words, taken) for i, o, taken in zip(group, options, made, strict=True)]
                led_point: Any = _Led.apply
                point = led_point(point, x[group], model.embedded, options, owners)
            parts.append(model.logits(point, batch.context))
        order = torch.tensor([i for group in by_length.values() for i in group], device=x.device)
        return torch.cat(parts)[order.argsort()]

    def texts(self, x: Tensor, context: dict[str, Tensor]) -> list[Text]:
        """The texts that the points make."""
        rows = context[_ROW].tolist()
        taken: list[list[Any]] = [[] for _ in rows]
        for i, site, option in (x.detach() > 0.5).nonzero().tolist():
            taken[i].append(self._sites[rows[i]][site].options[option])
        return [self._edited(self._texts[row], edits) for row, edits in zip(rows, taken, strict=True)]

    def clean(self, context: dict[str, Tensor]) -> list[Text]:
        """The texts as they are."""
        return [self._texts[row] for row in context[_ROW].tolist()]

    def isolated(self) -> AbstractContextManager[None]:
        return self._model.isolated()

    def _there_are(self, sites: Sequence[Any]) -> Tensor:
        """(S, C) bool."""
        there = torch.zeros(max(_SITES, -(-len(sites) // _SITES) * _SITES), self._most, dtype=torch.bool)
        for place, site in enumerate(sites):
            there[place, : len(site.options)] = True
        return there

    def _taken(self, point: Tensor, row: int) -> list[Any]:
        """The edits of one point, (S, C)."""
        return [self._sites[row][site].options[option] for site, option in (point.detach() > 0.5).nonzero().tolist()]

    def _options_of(self, row: int) -> _Options:
        if row not in self._options:
            self._options[row] = self._tokenised(row)
        return self._options[row]

    def _tokenised(self, row: int) -> _Options:
        text = self._texts[row]
        parts = (text,) if isinstance(text, str) else text
        numbers: dict[tuple[int, int, int], int] = {}
        word, site, place, pieces = [], [], [], []
        for s, one in enumerate(self._sites[row]):
            start, end = one.word
            for c, edit in enumerate(one.options):
                key = (edit.part, start, end)
                part = parts[edit.part]
                word.append(numbers.setdefault(key, len(numbers)))
                site.append(s)
                place.append(c)
                pieces.append(_before(part, start) + part[start : edit.start] + edit.new + part[edit.end : end])
        own = [_before(parts[p], start) + parts[p][start:end] for p, start, end in numbers]
        ids = [self._pieces_of(many) for many in (pieces, own)]
        known = {token: i for i, token in enumerate(sorted({token for many in ids for piece in many for token in piece}))}
        tables = [_table([[known[token] for token in piece] for piece in many]) for many in ids]
        device = self.device
        return _Options(
            list(numbers),
            *(torch.tensor(values, dtype=torch.int64, device=device) for values in (word, site, place, list(known))),
            *(table.to(device) for table in tables),
        )

    def _pieces_of(self, pieces: list[str]) -> list[list[int]]:
        new = [piece for piece in dict.fromkeys(pieces) if piece not in self._pieces]
        if new:
            self._pieces.update(zip(new, cast("TextModel", self._model).tokens.pieces(new), strict=True))
        return [self._pieces[piece] for piece in pieces]


class _Led(torch.autograd.Function):
    """Passes embeddings on, and gives the point that made their text a gradient in return."""

    @staticmethod
    def forward(ctx: Any, embedded: Tensor, x: Tensor, embed: Any, options: Any, owners: Any) -> Tensor:
        ctx.shape, ctx.more = x.shape, (embed, options, owners)
        return embedded.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        embed, options, owners = ctx.more
        found = grad.new_zeros(ctx.shape)
        for i, (one, owner) in enumerate(zip(options, owners, strict=True)):
            if not len(one.ids):
                continue
            at_words = grad.new_zeros(len(one.words) + 1, grad.shape[2])
            at_words.index_add_(0, torch.tensor(owner, device=grad.device), grad[i, : len(owner)])
            # (I, W): what a token would be worth in place of a word's.
            worth = embed(one.ids).to(grad.dtype) @ at_words[:-1].T
            whole = _mean(worth, one.own, torch.arange(len(one.words), device=grad.device))
            found[i, one.site, one.place] = _mean(worth, one.tokens, one.word) - whole[one.word]
        return None, found, None, None, None


def _mean(worth: Tensor, tokens: Tensor, word: Tensor) -> Tensor:
    """(O,) the mean worth of each option's tokens, (O, T), for its word, (O,)."""
    there = tokens >= 0
    each = worth[tokens.clamp_min(0), word.unsqueeze(1)] * there
    return each.sum(1) / there.sum(1).clamp_min(1)


def _owners(row: Row, words: list[tuple[int, int, int]], taken: Sequence[Any]) -> list[int]:
    """For each token the number of the word that it is of, where edits have moved the words; ``len(words)``: of none."""
    spans = []
    for part, start, end in words:
        before = sum(len(e.new) - (e.end - e.start) for e in taken if e.part == part and e.end <= start)
        inside = sum(len(e.new) - (e.end - e.start) for e in taken if e.part == part and start <= e.start < end)
        spans.append((part, start + before, end + before + inside))
    owners = []
    number = 0
    for place in row.places or []:
        while place is not None and number < len(spans) and (spans[number][0], spans[number][2]) <= (place[0], place[1]):
            number += 1
        part, start, end = spans[number] if number < len(spans) else (-1, 0, 0)
        inside = place is not None and place[0] == part and place[1] < end and place[2] > start
        owners.append(number if inside else len(words))
    return owners


def _before(part: str, start: int) -> str:
    """A space where one stands before a word: to some tokenizers it belongs to it."""
    return " " if start and part[start - 1].isspace() else ""


def _table(pieces: list[list[int]]) -> Tensor:
    """(O, T) int64, -1 beyond the end of each."""
    table = torch.full((len(pieces), max(map(len, pieces), default=1) or 1), -1, dtype=torch.int64)
    for i, piece in enumerate(pieces):
        table[i, : len(piece)] = torch.tensor(piece, dtype=torch.int64)
    return table
