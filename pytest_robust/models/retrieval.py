"""Retrieval by an encoder of queries and documents: broken when a changed query finds other documents than it should."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from pytest_robust.budget import exact
from pytest_robust.data.examples import Examples, Text
from pytest_robust.errors import ModelError, PreflightError
from pytest_robust.models.embedded_text import EmbeddedText
from pytest_robust.models.spans import Spans
from pytest_robust.models.tokens import Row

_QUERY = "query number"
"""The column with the number of each query; no argument of a model can be called so."""
_FORMS = "'hit@10', 'recall@10>=0.5', 'overlap@10>=0.6' or 'top-1'"
Pooling = Callable[[Tensor, Tensor], Tensor]
Documents = Mapping[str, str] | tuple[Sequence[str], Any]


@dataclass(frozen=True)
class Holds:
    """What has to hold of the results of a query.

    So many of a set of documents are to be among the first ``k``: of the relevant ones, or of those that the query finds as
    it is. That is so exactly when the last of them that is needed scores no less than the best document that would push it
    out: a margin of scores, with a gradient.

    Attributes:
        k: how many results count. share: of the set that is to be among them; None: one. judged: the set is the relevant
            documents, which the user has to name.
    """

    k: int
    share: Fraction | None
    judged: bool

    @classmethod
    def parse(cls, text: str) -> Holds:
        """Read ``hit@10``, ``recall@10>=0.5``, ``overlap@10>=0.6`` or ``top-1``.

        Raises:
            ModelError: none of these.
        """
        if text.replace(" ", "") == "top-1":
            return cls(1, None, judged=False)
        match = re.fullmatch(r"(hit|recall|overlap)@(\d+)(?:>=(.+))?", text.replace(" ", ""))
        if match is None or (match[1] == "hit") != (match[3] is None) or int(match[2]) < 1:
            raise ModelError(f"holds={text!r} cannot be read; write it like {_FORMS}")
        try:
            share = None if match[3] is None else exact(match[3])
        except ValueError as error:
            raise ModelError(f"holds={text!r}: {error}") from None
        if share is not None and not 0 < share <= 1:
            raise ModelError(f"holds={text!r}: a share lies above 0 and at most at 1")
        return cls(int(match[2]), share, judged=match[1] != "overlap")

    def margin(self, scores: Tensor, wanted: Tensor) -> Tensor:
        """() by how much it holds.

        Args:
            scores: (N,) of all documents. wanted: (N,) bool, the set.
        """
        size = int(wanted.sum())
        needed = 1 if self.share is None else math.ceil(self.share * (size if self.judged else self.k))
        if needed > min(size, self.k):
            return scores.new_tensor(-torch.inf)
        rivals = scores[~wanted]
        place = self.k - needed
        last = scores[wanted].topk(needed).values[-1]
        # Where there are too few others to push it out, it holds whatever the scores are.
        best = rivals.topk(place + 1).values[-1] if len(rivals) > place else last.detach() - 1
        return last - best


class Retriever(EmbeddedText):
    """An encoder with its tokenizer and a corpus, seen as one of two classes: ``"holds"`` and ``"fluctuates"``.

    The point is the embeddings of the query's tokens; documents are encoded once and stay. Logits are (m, 0), m the margin
    of scores by which it holds: see ``Holds``. So a query is broken exactly when it no longer finds what it should.

    Data is a list of ``(query, relevant)``, with the ids of the relevant documents or a mapping from ids to grades; or, for
    what needs no judgements, a list of queries.

    Attributes:
        ids: of the documents, in the order of the scores. documents: (N, D) their vectors.
    """

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
                are. ``"overlap@10>=0.6"``: six of the ten documents that the query finds as it is are. ``"top-1"``: its
                first result is.
            pooling: ``"mean"`` over the tokens, ``"cls"``, or a function from hidden states (B, L, D) and the attention mask
                (B, L) to vectors (B, D). similarity: ``"cosine"`` or ``"dot"``.
            query_prefix, document_prefix: what the encoder wants to read first; it is never attacked.
            batch_size: of documents. device, spans: as in ``adapt``.

        Raises:
            ModelError: not such a model, corpus or condition.
        """
        self.holds = Holds.parse(holds)
        if similarity not in ("cosine", "dot"):
            raise ModelError(f"similarity={similarity!r} is not known; there is 'cosine' and 'dot'")
        if pooling not in ("mean", "cls") and not callable(pooling):
            raise ModelError(f"pooling={pooling!r} is not known; there is 'mean', 'cls', or a function of your own")
        self._pooling, self._cosine, self._prefix = pooling, similarity == "cosine", query_prefix
        super().__init__(module, tokenizer, device=device, spans=_past(query_prefix, spans))
        self._numbers: dict[str, int] = {}
        self._wanted: list[Tensor | None] = []
        with self.isolated():
            self.ids, self.documents = self._corpus(corpus, document_prefix, batch_size)
        if self.holds.k > len(self.ids):
            raise ModelError(f"holds={holds!r} asks for {self.holds.k} results, and there are {len(self.ids)} documents")

    @staticmethod
    def _check_head(module: Any) -> None:
        if getattr(module.config, "is_encoder_decoder", False):
            raise ModelError(f"{type(module).__name__} has a decoder; a retriever is an encoder, as AutoModel loads it")

    def _class_names(self, given: Sequence[str] | None) -> tuple[str, ...]:
        return "holds", "fluctuates"

    def read(self, data: object) -> Examples:
        """Examples of ``(query, relevant)``, or of queries alone.

        Raises:
            PreflightError: not such data, documents that the corpus does not have, or a query without a relevant one.
        """
        if isinstance(data, Examples):
            if data.references is None:
                raise PreflightError("data: these examples have no references; read them by read()")
            return data
        if not isinstance(data, (list, tuple)) or not data:
            raise PreflightError(f"data: a {type(data).__name__}; give a list of (query, relevant ids), or of queries")
        known = set(self.ids)
        texts: list[Text] = []
        references = []
        for i, item in enumerate(data):
            query, relevant = (item, None) if isinstance(item, str) else _pair(item, i)
            grades = None if relevant is None else _graded(relevant, i)
            if self.holds.judged and not grades:
                raise PreflightError(
                    f"labels: query {i} has no relevant document, so nothing can be missed; drop it, or use "
                    "holds='overlap@10>=0.6' or 'top-1', which need none"
                )
            strange = next((id for id in grades or () if id not in known), None)
            if strange is not None:
                raise PreflightError(f"labels: query {i} names the document {strange!r}, which the corpus does not have")
            texts.append(self._prefix + query)
            references.append(json.dumps({"query": texts[-1], "relevant": grades}, sort_keys=True))
        return Examples.of(texts, torch.zeros(len(texts), dtype=torch.int64), self.classes, references)

    def encode(self, examples: Examples) -> Examples:
        encoded = super().encode(examples)
        assert examples.references is not None, "read() gives them"
        if not self.holds.judged:
            # What queries find as they are, each as it is used: by its token ids, alone.
            with self.isolated():
                for row, reference in zip(self.rows(examples), examples.references, strict=True):
                    found = self._scores(self._by_ids(row), self._attended([row])).squeeze(0)
                    wanted = torch.zeros_like(found, dtype=torch.bool)
                    wanted[found.argsort(descending=True, stable=True)[: self.holds.k]] = True
                    self._wanted[self._numbers[reference]] = wanted
        return encoded

    def grades(self, examples: Examples) -> Tensor:
        """(n, N) grades of all documents for each query, 0 where nothing was said."""
        place = {id: i for i, id in enumerate(self.ids)}
        grades = torch.zeros(len(examples), len(self.ids), dtype=torch.float64)
        for i, reference in enumerate(examples.references or ()):
            for id, grade in (json.loads(reference)["relevant"] or {}).items():
                grades[i, place[id]] = grade
        return grades

    @torch.no_grad()
    def scores(self, texts: Sequence[str], batch_size: int = 32) -> Tensor:
        """(B, N) scores of all documents for texts as they are; inside ``isolated()``."""
        return self._similar(self._vectors(texts, batch_size))

    def _observed(self, output: object, batch_size: int) -> Tensor:
        hidden = getattr(output, "last_hidden_state", output[0] if isinstance(output, tuple) else output)
        if not isinstance(hidden, Tensor) or hidden.ndim != 3 or len(hidden) != batch_size:
            shape = tuple(hidden.shape) if isinstance(hidden, Tensor) else type(hidden).__name__
            raise ModelError(
                f"{self.name} returned {shape} for a batch of {batch_size}, where hidden states (batch, tokens, dimensions) "
                "are needed; load the encoder with AutoModel"
            )
        return hidden if hidden.dtype == torch.float64 else hidden.float()

    def _judged(self, observed: Tensor, context: dict[str, Tensor]) -> Tensor:
        scores = self._scores(observed, context["attention_mask"])
        margins = []
        for row, number in zip(scores, context[_QUERY][:, 0].tolist(), strict=True):
            wanted = self._wanted[number]
            assert wanted is not None, "encode() comes first"
            margins.append(self.holds.margin(row, wanted))
        margin = torch.stack(margins)
        return torch.stack([margin, torch.zeros_like(margin)], 1)

    def _completed(self, row: Row, examples: Examples, i: int) -> Row:
        if examples.references is None:
            raise PreflightError("inputs: a retriever reads its own data; call read() on it first")
        reference = examples.references[i]
        if reference not in self._numbers:
            self._numbers[reference] = len(self._wanted)
            grades = json.loads(reference)["relevant"]
            wanted = [bool(grades and grades.get(id, 0) > 0) for id in self.ids]
            self._wanted.append(torch.tensor(wanted, device=self.device) if self.holds.judged else None)
        return replace(row, others={**row.others, _QUERY: [self._numbers[reference]] * len(row.ids)})

    def _scores(self, hidden: Tensor, attended: Tensor) -> Tensor:
        return self._similar(self._pooled(hidden, attended))

    def _similar(self, vectors: Tensor) -> Tensor:
        return vectors @ self.documents.to(vectors.dtype).T

    def _pooled(self, hidden: Tensor, attended: Tensor) -> Tensor:
        if callable(self._pooling):
            vectors = self._pooling(hidden, attended)
        elif self._pooling == "cls":
            vectors = hidden[:, 0]
        else:
            weights = attended.to(hidden.dtype).unsqueeze(2)
            vectors = (hidden * weights).sum(1) / weights.sum(1)
        return torch.nn.functional.normalize(vectors, dim=1) if self._cosine else vectors

    def _attended(self, rows: Sequence[Row]) -> Tensor:
        return torch.ones(len(rows), len(rows[0].ids), device=self.device)

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

    def _corpus(self, corpus: Documents, prefix: str, batch_size: int) -> tuple[tuple[str, ...], Tensor]:
        if isinstance(corpus, Mapping):
            if not corpus:
                raise ModelError("the corpus is empty; give at least one document")
            ids = tuple(map(str, corpus))
            vectors = self._vectors([prefix + text for text in corpus.values()], batch_size)
        else:
            given, raw = corpus
            ids = tuple(map(str, given))
            vectors = torch.as_tensor(raw if isinstance(raw, Tensor) else np.asarray(raw)).to(self.device)
            if vectors.ndim != 2 or len(vectors) != len(ids) or not ids:
                raise ModelError(
                    f"the corpus has {len(ids)} ids, and vectors of shape {tuple(vectors.shape)}; give a row each"
                )
            vectors = torch.nn.functional.normalize(vectors, dim=1) if self._cosine else vectors
        if len(set(ids)) < len(ids):
            raise ModelError("the corpus has an id twice; give every document its own")
        if not bool(vectors.isfinite().all()):
            bad = int((~vectors.isfinite().all(1)).nonzero()[0])
            raise ModelError(f"the vector of the document {ids[bad]!r} is NaN or infinite; encode it again, or drop it")
        return ids, vectors


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


def _pair(item: object, i: int) -> tuple[str, object]:
    if isinstance(item, (tuple, list)) and len(item) == 2 and isinstance(item[0], str):
        return item[0], item[1]
    raise PreflightError(f"data: example {i} is a {type(item).__name__}, where (query, relevant ids) or a query is needed")


def _graded(relevant: object, i: int) -> dict[str, float]:
    if isinstance(relevant, Mapping):
        return {str(id): float(grade) for id, grade in relevant.items() if float(grade) > 0}
    if isinstance(relevant, (list, tuple, set, frozenset)):
        return {str(id): 1.0 for id in relevant}
    raise PreflightError(
        f"labels: query {i} has {relevant!r:.60}; give the ids of its relevant documents as a list, or a mapping to grades"
    )
