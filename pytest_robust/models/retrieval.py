"""Retrieval by an encoder of queries and documents: broken when a changed query finds other documents than it should."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.data.examples import Examples, Text
from pytest_robust.errors import ModelError, PreflightError
from pytest_robust.models.corpus import CLASSES, Corpus, Documents, as_vectors
from pytest_robust.models.embedded_text import EmbeddedText
from pytest_robust.models.spans import Span, Spans, attackable
from pytest_robust.models.text_function import TextFunction
from pytest_robust.models.tokens import Row

_QUERY = "query key"
"""The column with the key of each query, by its content; no argument of a model can be called so."""
Pooling = Callable[[Tensor, Tensor], Tensor]


class Retriever(EmbeddedText):
    """An encoder with its tokenizer and a corpus, seen as one of two classes: ``"holds"`` and ``"fluctuates"``.

    The point is the embeddings of the query's tokens; documents are encoded once and stay. Logits are (m, 0), m the margin
    of scores by which it holds: see ``Holds``. So a query is broken exactly when it no longer finds what it should.

    Data is a list of ``(query, relevant)``, with the ids of the relevant documents or a mapping from ids to grades; or, for
    what needs no judgements, a list of queries.

    Attributes:
        corpus: the documents, and what has to hold of the results.
    """

    of_examples = ("_wanted",)

    def __init__(
        self,
        module: Any,
        tokenizer: Any,
        corpus: Documents,
        *,
        holds: str = "hit@10",
        pooling: str | Pooling = "mean",
        similarity: str = "cosine",
        query_prefix: str = "",
        document_prefix: str = "",
        batch_size: int = 32,
        device: str = "auto",
        spans: Spans | None = None,
    ) -> None:
        """
        Args:
            module: an encoder of transformers (``AutoModel``). corpus: a mapping from ids to texts, which are encoded here;
                or ``(ids, vectors)`` with vectors (N, D) of this encoder.
            holds: ``"hit@10"``: a relevant document is among the first ten. ``"recall@10>=0.5"``: half of the relevant ones
                are. ``"ndcg@10>=0.3"``: nDCG of the first ten is at least that. ``"overlap@10>=0.6"``: six of the ten
                documents that the query finds as it is are among the first ten. ``"rbo>=0.5"``: the rank-biased overlap with
                the results of the query as it is is at least that. ``"top-1"``: its first result is.
            pooling: ``"mean"`` over the tokens, ``"cls"``, or a function from hidden states (B, L, D) and the attention mask
                (B, L) to vectors (B, D). similarity: ``"cosine"`` or ``"dot"``.
            query_prefix, document_prefix: what the encoder wants to read first; it is never attacked.
            batch_size: of documents. device, spans: as in ``adapt``.

        Raises:
            ModelError: not such a model, corpus or condition.
        """
        if pooling not in ("mean", "cls") and not callable(pooling):
            raise ModelError(f"pooling={pooling!r} is not known; there is 'mean', 'cls', or a function of your own")
        self._pooling, self._prefix = pooling, query_prefix
        super().__init__(module, tokenizer, device=device, spans=_past(query_prefix, spans))
        self._wanted: dict[int, Tensor] = {}
        with self.isolated():
            self.corpus = Corpus.of(
                corpus,
                lambda texts: self._vectors(texts, batch_size),
                holds=holds,
                similarity=similarity,
                prefix=document_prefix,
                device=self.device,
            )

    @staticmethod
    def _check_head(module: Any) -> None:
        if getattr(module.config, "is_encoder_decoder", False):
            raise ModelError(f"{type(module).__name__} has a decoder; a retriever is an encoder, as AutoModel loads it")

    def _class_names(self, given: Sequence[str] | None) -> tuple[str, ...]:
        return CLASSES

    def read(self, data: object) -> Examples:
        """Examples of ``(query, relevant)``, or of queries alone; see ``Corpus.read``."""
        return self.corpus.read(data, self._prefix)

    def _looked_at(self, rows: Sequence[Row]) -> None:
        """What queries find as they are, each as it is used: by its token ids, alone."""
        for row in () if self.corpus.holds.judged else rows:
            scores = self._scores(self._by_ids(row), torch.ones(1, len(row.ids), device=self.device))
            self._wanted[row.others[_QUERY][0]] = self.corpus.holds.found(scores.squeeze(0))

    @torch.no_grad()
    def scores(self, texts: Sequence[str], batch_size: int = 32) -> Tensor:
        """(B, N) scores of all documents for texts as they are; inside ``isolated()``."""
        return self.corpus.scores(self._vectors(texts, batch_size))

    def _observed(self, output: object, batch_size: int) -> Tensor:
        hidden = getattr(output, "last_hidden_state", output[0] if isinstance(output, tuple) else output)
        wanted = "hidden states (batch, tokens, dimensions) are"
        return self._of_tokens(hidden, batch_size, wanted, "load the encoder with AutoModel")

    def _judged(self, observed: Tensor, context: dict[str, Tensor]) -> Tensor:
        scores = self._scores(observed, context["attention_mask"])
        return self.corpus.logits(scores, [self._wanted[key] for key in context[_QUERY][:, 0].tolist()])

    def _completed(self, row: Row, examples: Examples, i: int) -> Row:
        if examples.references is None:
            raise PreflightError("inputs: a retriever reads its own data; call read() on it first")
        reference = examples.references[i]
        key = _key(reference)
        if self.corpus.holds.judged and key not in self._wanted:
            self._wanted[key] = self.corpus.relevant(reference)
        return replace(row, others={**row.others, _QUERY: [key] * len(row.ids)})

    def _scores(self, hidden: Tensor, attended: Tensor) -> Tensor:
        return self.corpus.scores(self._pooled(hidden, attended))

    def _pooled(self, hidden: Tensor, attended: Tensor) -> Tensor:
        if self._pooling == "cls":
            return hidden[:, 0]
        if callable(self._pooling):
            vectors = self._pooling(hidden, attended)
            if not isinstance(vectors, Tensor) or vectors.ndim != 2 or len(vectors) != len(hidden):
                shape = tuple(vectors.shape) if isinstance(vectors, Tensor) else type(vectors).__name__
                raise ModelError(
                    f"pooling returned {shape} for hidden states {tuple(hidden.shape)}, where one vector per text, (batch, "
                    "dimensions), is needed"
                )
            return vectors
        weights = attended.to(hidden.dtype).unsqueeze(2)
        return (hidden * weights).sum(1) / weights.sum(1)

    @torch.no_grad()
    def _vectors(self, texts: Sequence[str], batch_size: int) -> Tensor:
        """(B, D) in the order of the texts; those of one length together, so that none is padded."""
        rows = self._tokens.rows(cast("list[Text]", list(texts)))
        by_length: dict[int, list[int]] = {}
        for i, row in enumerate(rows):
            by_length.setdefault(len(row.ids), []).append(i)
        found: list[Tensor | None] = [None] * len(texts)
        for which in by_length.values():
            for start in range(0, len(which), batch_size):
                part = which[start : start + batch_size]
                batch = self.batch(dict(self._tokens.padded([rows[i] for i in part], 1)))
                output = self.module(**self._arguments(batch.context))
                vectors = self._pooled(self._observed(output, len(part)), batch.context["attention_mask"])
                for i, vector in zip(part, vectors, strict=True):
                    found[i] = vector
        return torch.stack(cast("list[Tensor]", found))


class RetrieverFunction(TextFunction):
    """Any function from texts to vectors and a corpus, seen as ``Retriever`` is: a black box, which only edits can attack.

    Attributes:
        corpus: the documents, and what has to hold of the results.
    """

    def __init__(
        self,
        function: Callable[[list[Any]], object],
        corpus: Documents,
        *,
        holds: str = "hit@10",
        similarity: str = "cosine",
        query_prefix: str = "",
        document_prefix: str = "",
        batch_size: int = 32,
        name: str | None = None,
    ) -> None:
        """
        Args:
            function: from a list of texts to (B, D) vectors, a tensor, an array or nested lists. name: in reports. The
                others are as in ``Retriever``.

        Raises:
            ModelError: not a function, or no such corpus or condition.
        """
        super().__init__(function, CLASSES, name=name)
        self._prefix = query_prefix
        self._wanted: list[Tensor] = []
        with self.isolated():
            self.corpus = Corpus.of(
                corpus,
                lambda texts: self._vectors(texts, batch_size),
                holds=holds,
                similarity=similarity,
                prefix=document_prefix,
                device=self.device,
            )

    def read(self, data: object) -> Examples:
        """Examples of ``(query, relevant)``, or of queries alone; see ``Corpus.read``."""
        return self.corpus.read(data, self._prefix)

    def attackable(self, text: Text) -> list[Span] | None:
        """All but the prefix."""
        spans = _past(self._prefix, None)
        return None if spans is None else attackable(spans, text)

    def encode(self, examples: Examples) -> Examples:
        encoded = super().encode(examples)
        if examples.references is None:
            raise PreflightError("inputs: a retriever reads its own data; call read() on it first")
        if self.corpus.holds.judged:
            self._wanted = [self.corpus.relevant(reference) for reference in examples.references]
        else:
            # Each alone, as the results of an edited query are verified.
            with self.isolated():
                self._wanted = [self.corpus.holds.found(self.scores([text]).squeeze(0)) for text in self._texts]
        return encoded

    def judged(self, texts: Sequence[Text], rows: Sequence[int]) -> Tensor:
        """(B, 2) logits: whether the results for these texts are what those of the rows have to be."""
        return self.corpus.logits(self.scores(texts), [self._wanted[row] for row in rows])

    def scores(self, texts: Sequence[Text], batch_size: int = 32) -> Tensor:
        """(B, N) scores of all documents for texts as they are."""
        return self.corpus.scores(self._vectors(texts, batch_size))

    def _vectors(self, texts: Sequence[Text], batch_size: int) -> Tensor:
        parts = [texts[start : start + batch_size] for start in range(0, len(texts), batch_size)]
        return torch.cat([as_vectors(self.answers(part), len(part), self.name).cpu() for part in parts])


def _key(reference: str) -> int:
    return keyed.key("query", reference)


def _past(prefix: str, spans: Spans | None) -> Spans | None:
    """Spans that leave the prefix alone; the user's are those of the query without it."""
    if not prefix:
        return spans

    def after(text: Text) -> list[tuple[int, int]]:
        assert isinstance(text, str), "queries are single texts"
        begin = len(prefix)
        inside = [(0, len(text) - begin)] if spans is None else spans(text[begin:])
        return [(start + begin, end + begin) for start, end in inside]

    return after
