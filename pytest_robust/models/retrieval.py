"""Retrieval by an encoder of queries and documents: broken when a changed query finds other documents than it should."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.data.examples import Examples, Text
from pytest_robust.errors import PreflightError
from pytest_robust.models.corpus import CLASSES, Corpus, Documents, as_vectors
from pytest_robust.models.encoder import Encoder, Pooling, past
from pytest_robust.models.spans import Span, Spans, attackable
from pytest_robust.models.text_function import TextFunction
from pytest_robust.models.tokens import Row

_QUERY = "query key"
"""The column with the key of each query, by its content; no argument of a model can be called so."""


class Retriever(Encoder):
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
        super().__init__(module, tokenizer, pooling=pooling, device=device, spans=past(query_prefix, spans))
        self._prefix = query_prefix
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

    @property
    def question(self) -> str:
        """What has to hold, of which documents."""
        return self.corpus.question

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

    @property
    def question(self) -> str:
        """What has to hold, of which documents."""
        return self.corpus.question

    def read(self, data: object) -> Examples:
        """Examples of ``(query, relevant)``, or of queries alone; see ``Corpus.read``."""
        return self.corpus.read(data, self._prefix)

    def attackable(self, text: Text) -> list[Span] | None:
        """All but the prefix."""
        spans = past(self._prefix, None)
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
