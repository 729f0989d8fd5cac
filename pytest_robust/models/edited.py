"""A model of texts seen through edits: its point says which edits are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from pytest_robust.data.examples import Examples, Inputs, Text, parts_of
from pytest_robust.errors import PreflightError
from pytest_robust.models.embedded_text import EmbeddedText
from pytest_robust.models.options import Led, Mixture, Options, Word, table
from pytest_robust.models.protocol import Batch
from pytest_robust.models.seen import Seen
from pytest_robust.models.spans import Span, blank_before, owners_of, part_begins
from pytest_robust.models.text_function import TextFunction
from pytest_robust.models.vocabulary import Vocabulary

_ROW, _OPTIONS, _WORDS = "edited row", "edited options", "proposed words"
"""Columns of encoded examples: the number of the text, and which options there are, (S, C); and where the model proposes
them, which words of its vocabulary they are: whoever knows examples again by these columns knows the options again. No
argument of a model can be called so."""
_SITES = 32
"""Sites are padded to a multiple of this, so that texts of similar length share a batch."""


class Edited(Seen[EmbeddedText | TextFunction]):
    """``model(text with edits)`` as a ``Model`` whose point, (B, S, C), has 1 where an option is taken at a site.

    Logits are always those of the text itself: edits are made, and what comes out is tokenised and run. The gradient with
    respect to an option is what the embeddings foretell: the gradient at the tokens of a word times how far its option lies
    from it, each the mean of its tokens (HotFlip: Ebrahimi et al., ACL 2018, eq. 2, for options of any number of tokens). It
    leads a search, and nothing else rests on it. A function of texts has none.
    """

    space = "text"

    def __init__(
        self,
        model: EmbeddedText | TextFunction,
        *,
        sites: Callable[[Text, Sequence[Span] | None], Sequence[Any]],
        edited: Callable[[Text, Sequence[Any]], Text],
        most_options: int,
        filled: Callable[[Any, Sequence[str]], Any] | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        """
        Args:
            sites: of a text, in these spans of it, as a threat of edits lists them. edited: the text with edits made.
            most_options: of any site.
            filled: a site with these words as its options, where they are to be proposed out of ``vocabulary``.
        """
        super().__init__(model)
        self._sites_of, self._edited, self._most = sites, edited, most_options
        self._filled, self._vocabulary = filled, vocabulary
        self._examples: Examples | None = None
        self._texts: list[Text] = []
        self._sites: list[Sequence[Any]] = []
        self._options: dict[int, Options] = {}
        self._mixtures: dict[int, Mixture] = {}
        self._pieces: dict[str, list[int]] = {}

    @property
    def differentiable(self) -> bool:
        """Whether gradients can lead a search: the model has them, and its tokenizer says where tokens come from."""
        return isinstance(self._model, EmbeddedText) and self._model.knows_places

    def encode(self, examples: Examples) -> Examples:
        """Encoded for the model, and for the edits.

        Raises:
            PreflightError: the inputs are token ids, from which no text can be known.
        """
        inputs = examples.inputs
        if not isinstance(inputs, list) or isinstance(inputs[0], Tensor):
            raise PreflightError("inputs: edits are of texts, and token ids were given; give (text, label) pairs")
        self._examples, self._texts = examples, inputs
        spans = [self._model.attackable(text) for text in self._texts]
        self._sites = [self._sites_of(text, inside) for text, inside in zip(self._texts, spans, strict=True)]
        self._options, self._mixtures = {}, {}
        encoded = self._model.encode(examples)
        self.notes = self._model.notes
        self._leave_out_unread()
        columns = {**cast("dict[str, Any]", encoded.inputs), _ROW: torch.arange(len(self._texts))}
        if self._vocabulary is not None and self._filled is not None:
            rows = range(len(self._texts))
            proposed = self._vocabulary.proposed(self._standing(rows), list(map(self._places, rows)), self._most)
            for row, numbers in enumerate(proposed):
                words = self._vocabulary.words(numbers)
                self._sites[row] = [self._filled(*pair) for pair in zip(self._sites[row], words, strict=True)]
            columns[_WORDS] = [_of_places(numbers, -1) for numbers in proposed]
        columns[_OPTIONS] = [self._there_are(sites) for sites in self._sites]
        return replace(encoded, inputs=columns)

    def batch(self, inputs: Inputs) -> Batch:
        columns = cast("dict[str, Tensor]", inputs)
        there = columns[_OPTIONS].to(self.device)
        return Batch(there.new_zeros(there.shape, dtype=torch.float32), {_ROW: columns[_ROW].to(self.device)}, there)

    def logits(self, x: Tensor, context: dict[str, Tensor]) -> Tensor:
        """Logits of the texts that the points make; see the protocol.

        Between texts, where options are taken by degrees, those of embeddings mixed by these weights; there nothing counts.
        """
        inner = ((x != 0) & (x != 1)).flatten(1).any(1)
        if not self.differentiable or not bool(inner.any()):
            return self._of_texts(x, context)
        parts, order = [], []
        for which, of in ((inner, self._of_mixtures), (~inner, self._of_texts)):
            if bool(which.any()):
                parts.append(of(x[which], {name: tensor[which] for name, tensor in context.items()}))
                order.append(which.nonzero().flatten())
        return torch.cat(parts)[torch.cat(order).argsort()]

    def _of_mixtures(self, x: Tensor, context: dict[str, Tensor]) -> Tensor:
        """Logits of the texts as they are, but for stand-ins, with embeddings of options mixed in."""
        assert isinstance(self._model, EmbeddedText)
        assert self._examples is not None, "encode() comes first"
        model, rows = self._model, context[_ROW].tolist()
        tokens = model.rows(self._standing(rows))
        groups, parts = model.batches(tokens), []
        for group, batch in groups:
            points = []
            for i, point in zip(group, batch.x, strict=True):
                if rows[i] not in self._mixtures:
                    one = self._options_of(rows[i])
                    owners = owners_of(tokens[i].places, self._moved(rows[i], one.words, self._stand_ins(rows[i])))
                    self._mixtures[rows[i]] = Mixture(one, owners)
                points.append(self._mixtures[rows[i]](point, x[i], model.embedded))
            parts.append(model.logits(torch.stack(points), batch.context))
        return _in_order(parts, groups)

    def _of_texts(self, x: Tensor, context: dict[str, Tensor]) -> Tensor:
        rows, taken = context[_ROW].tolist(), self._taken(x, context)
        texts = self._made(rows, taken)
        if isinstance(self._model, TextFunction):
            return self._model.judged(texts, rows).to(x.device)
        assert self._examples is not None, "encode() comes first"
        model, led = self._model, x.requires_grad and self.differentiable
        tokens = model.rows(replace(self._examples.subset(rows), inputs=texts))
        groups, parts = model.batches(tokens), []
        for group, batch in groups:
            point = batch.x
            if led:
                options = [self._options_of(rows[i]) for i in group]
                owners = [
                    owners_of(tokens[i].places, self._moved(rows[i], one.words, taken[i]))
                    for i, one in zip(group, options, strict=True)
                ]
                led_point: Any = Led.apply
                point = led_point(point, x[group], model.embedded, options, owners)
            parts.append(model.logits(point, batch.context))
        return _in_order(parts, groups)

    def texts(self, x: Tensor, context: dict[str, Tensor]) -> list[Text]:
        """The texts that the points make."""
        return self._made(context[_ROW].tolist(), self._taken(x, context))

    def clean(self, context: dict[str, Tensor]) -> list[Text]:
        """The texts as they are."""
        return [self._texts[row] for row in context[_ROW].tolist()]

    def _stand_ins(self, row: int) -> list[Any]:
        return [site.stand_in for site in self._sites[row] if site.stand_in is not None]

    def _standing(self, rows: Sequence[int]) -> Examples:
        """These texts with something at every site: gradients are asked of them where the text itself has nothing there."""
        assert self._examples is not None, "encode() comes first"
        texts: list[Any] = self._made(rows, [self._stand_ins(row) for row in rows])
        return replace(self._examples.subset(rows), inputs=texts)

    def _places(self, row: int) -> list[tuple[Span, str]]:
        """Where the words of the sites stand in such a text, each with the blank before it."""
        parts, sites = parts_of(self._texts[row]), self._sites[row]
        spans = self._moved(row, [_word(site) for site in sites], self._stand_ins(row))
        blanks = [" " if site.stand_in else blank_before(parts[site.part], site.word[0]) for site in sites]
        return list(zip(spans, blanks, strict=True))

    def _leave_out_unread(self) -> None:
        """Leave out sites for words more in texts that are so long that the model would not read them."""
        if not isinstance(self._model, EmbeddedText) or not self._model.knows_places:
            return
        adding = [row for row in range(len(self._texts)) if self._stand_ins(row)]
        for row, tokens in zip(adding, self._model.rows(self._standing(adding)) if adding else (), strict=True):
            read = set(owners_of(tokens.places, [span for span, _ in self._places(row)]))
            self._sites[row] = [site for number, site in enumerate(self._sites[row]) if number in read]

    def _moved(self, row: int, words: Sequence[Word], taken: Sequence[Any]) -> list[Span]:
        """Where edits have moved words of the text, in characters counted through all of its parts."""
        (text,) = self._made([row], [taken])
        begins, found = part_begins(text), []
        for part, start, end, turn in words:
            longer = [(e.start, e.turn, len(e.new) - (e.end - e.start)) for e in taken if e.part == part]
            before = sum(by for place, when, by in longer if (place, when) < (start, turn))
            inside = sum(by for place, when, by in longer if start <= place < end or (place, when) == (start, turn))
            found.append((begins[part] + start + before, begins[part] + end + before + inside))
        return found

    def _there_are(self, sites: Sequence[Any]) -> Tensor:
        """(S, C) bool."""
        there = torch.zeros(len(sites), self._most, dtype=torch.bool)
        for place, site in enumerate(sites):
            there[place, : len(site.options)] = True
        return _of_places(there, False)

    def _taken(self, x: Tensor, context: dict[str, Tensor]) -> list[list[Any]]:
        """The edits of each point."""
        rows = context[_ROW].tolist()
        taken: list[list[Any]] = [[] for _ in rows]
        for i, site, option in (x.detach() > 0.5).nonzero().tolist():  # one transfer
            taken[i].append(self._sites[rows[i]][site].options[option])
        return taken

    def _made(self, rows: Sequence[int], taken: Sequence[Sequence[Any]]) -> list[Text]:
        return [self._edited(self._texts[row], edits) for row, edits in zip(rows, taken, strict=True)]

    def _options_of(self, row: int) -> Options:
        if row not in self._options:
            self._options[row] = self._tokenised(row)
        return self._options[row]

    def _tokenised(self, row: int) -> Options:
        parts = parts_of(self._texts[row])
        numbers: dict[Word, int] = {}
        word, site, place, pieces = [], [], [], []
        for s, one in enumerate(self._sites[row]):
            start, end = one.word
            part = parts[one.part]
            for c, edit in enumerate(one.options):
                word.append(numbers.setdefault(_word(one), len(numbers)))
                site.append(s)
                place.append(c)
                piece = blank_before(part, start) + part[start : edit.start] + edit.new + part[edit.end : end]
                pieces.append(piece.rstrip())
        own = [(blank_before(parts[p], start) + parts[p][start:end]).rstrip() for p, start, end, _ in numbers]
        ids = [self._pieces_of(many) for many in (pieces, own)]
        known = {token: i for i, token in enumerate(sorted({token for many in ids for piece in many for token in piece}))}
        tables = [table([[known[token] for token in piece] for piece in many]) for many in ids]
        device = self.device
        return Options(
            list(numbers),
            *(torch.tensor(values, dtype=torch.int64, device=device) for values in (word, site, place, list(known))),
            *(table.to(device) for table in tables),
        )

    def _pieces_of(self, pieces: list[str]) -> list[list[int]]:
        new = [piece for piece in dict.fromkeys(pieces) if piece not in self._pieces]
        if new:
            self._pieces.update(zip(new, cast("EmbeddedText", self._model).pieces(new), strict=True))
        return [self._pieces[piece] for piece in pieces]


def _word(site: Any) -> Word:
    return site.part, *site.word, 0 if site.stand_in is None else site.stand_in.turn


def _in_order(parts: Sequence[Tensor], groups: Sequence[tuple[list[int], Batch]]) -> Tensor:
    """What was found of the groups' rows, in the order of their numbers."""
    order = torch.tensor([i for group, _ in groups for i in group], device=parts[0].device)
    return torch.cat(list(parts))[order.argsort()]


def _of_places(values: Tensor, rest: int) -> Tensor:
    """Values of sites, (W, C), filled up to (S, C)."""
    places = max(_SITES, -(-len(values) // _SITES) * _SITES)
    return torch.cat([values, values.new_full((places - len(values), values.shape[1]), rest)])
