"""Retrieval from the side of a document: broken when a changed passage comes up where it should not."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor
from typing import Any

import torch
from torch import Tensor

from pytest_robust.budget import exact
from pytest_robust.data.examples import Examples, Text
from pytest_robust.errors import ModelError, PreflightError
from pytest_robust.models.corpus import CLASSES, Corpus, Documents
from pytest_robust.models.encoder import Encoder, Pooling, past
from pytest_robust.models.spans import Spans


@dataclass(frozen=True)
class Out:
    """A passage stays out of the first ``k`` results of a ``share`` of the queries at least."""

    k: int
    share: Fraction

    @classmethod
    def parse(cls, text: str) -> Out:
        """Read ``out@10>=0.95``, or ``out@10``, which is of all queries.

        Raises:
            ModelError: neither.
        """
        match = re.fullmatch(r"out@(\d+)(?:>=(.+))?", text.replace(" ", ""))
        if match is None or int(match[1]) < 1:
            raise ModelError(f"holds={text!r} cannot be read; write it like 'out@10' or 'out@10>=0.95'")
        try:
            share = exact(match[2] or "1")
        except ValueError as error:
            raise ModelError(f"holds={text!r}: {error}") from None
        if not 0 < share <= 1:
            raise ModelError(f"holds={text!r}: a share lies above 0 and at most at 1")
        return cls(int(match[1]), share)

    def margin(self, scores: Tensor, last: Tensor) -> Tensor:
        """(B,) by how much it holds, below 0 exactly where it does not: how far the passage lies below the last result of
        that query by which, if it let the passage in, there were one too many. Of equal scores a document comes first.

        Args:
            scores: (B, Q) of passages for all queries. last: (Q,) of each query's ``k``-th result without them.
        """
        allowed = floor((1 - self.share) * len(last))
        return (last - scores).topk(allowed + 1, dim=1, largest=False).values[:, -1]


class Passages(Encoder):
    """An encoder seen from the side of passages that somebody puts into its corpus, as one of two classes: ``"holds"`` and
    ``"fluctuates"``. Queries and documents stay, and each passage is put in by itself.

    The point is the embeddings of the passage's tokens. Logits are (m, 0), see ``Out.margin``. So a passage is broken
    exactly when it is among the first results of too many queries (corpus poisoning: Zhong et al., EMNLP 2023).

    Data is a list of passages.

    Attributes:
        corpus: the documents. queries: the same for the queries. holds: what has to hold, written ``condition``.
    """

    def __init__(
        self,
        module: Any,
        tokenizer: Any,
        corpus: Documents,
        queries: Sequence[str],
        *,
        holds: str = "out@10>=0.95",
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
            corpus: without the passages. queries: texts. holds: ``"out@10>=0.95"``: it is not among the first ten results of
                95 % of the queries; ``"out@10"``: of none. batch_size: of documents and queries. The others are as in
                ``Retriever``.

        Raises:
            ModelError: not such a model, corpus, queries or condition.
        """
        if isinstance(queries, str) or not queries or not all(isinstance(query, str) and query.strip() for query in queries):
            raise ModelError(f"queries={queries!r:.60}: give a list of texts, of which none is empty")
        super().__init__(module, tokenizer, pooling=pooling, device=device, spans=past(document_prefix, spans))
        self.holds, self.condition, self._prefix = Out.parse(holds), holds, document_prefix
        with self.isolated():
            self.corpus = Corpus.of(
                corpus,
                lambda texts: self._vectors(texts, batch_size),
                holds="hit@1",  # it takes a condition; here only scores are asked of it
                similarity=similarity,
                prefix=document_prefix,
                device=self.device,
            )
            asked = self._vectors([query_prefix + query for query in queries], batch_size)
        if self.holds.k > len(self.corpus.ids):
            raise ModelError(
                f"holds={holds!r}: among the first {self.holds.k} results of {len(self.corpus.ids)} documents every passage "
                "is one; ask for fewer"
            )
        self._last = self.corpus.scores(asked).topk(self.holds.k, dim=1).values[:, -1]
        vectors = torch.nn.functional.normalize(asked, dim=1) if self.corpus.cosine else asked
        self.queries = replace(self.corpus, ids=tuple(queries), vectors=vectors)

    @property
    def question(self) -> str:
        """What has to hold, of which documents and how many queries."""
        return f"{self.condition} of {self.corpus.named} and {len(self.queries.ids)} queries"

    def read(self, data: object) -> Examples:
        """Examples of passages.

        Raises:
            PreflightError: no list of texts, or one of them is empty.
        """
        if isinstance(data, Examples):
            return data
        if not isinstance(data, (list, tuple)) or not data or not all(isinstance(text, str) for text in data):
            raise PreflightError(f"data: a {type(data).__name__}; give a list of passages, each a text")
        empty = next((i for i, text in enumerate(data) if not text.strip()), None)
        if empty is not None:
            raise PreflightError(f"inputs: passage {empty} is empty; drop it")
        texts: list[Text] = [self._prefix + text for text in data]
        references = [json.dumps({"passage": text}) for text in texts]
        return Examples.of(texts, torch.zeros(len(texts), dtype=torch.int64), CLASSES, references)

    def _judged(self, observed: Tensor, context: dict[str, Tensor]) -> Tensor:
        scores = self.queries.scores(self._pooled(observed, context["attention_mask"]))
        margin = self.holds.margin(scores, self._last.to(scores.dtype))
        return torch.stack([margin, torch.zeros_like(margin)], 1)
