"""Documents as vectors, what has to hold of those that a query finds among them, and by how much it does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pytest_robust.data.examples import Examples, Text
from pytest_robust.errors import ModelError, PreflightError
from pytest_robust.models.holds import Holds

CLASSES = ("holds", "fluctuates")
_CORPUS = "give a mapping from ids to texts, or (ids, vectors)"
Documents = Mapping[str, str] | tuple[Sequence[str], Any]


@dataclass(frozen=True, eq=False)
class Corpus:
    """The documents that queries are asked of, and what has to hold of the answers.

    Attributes:
        ids: of the documents. vectors: (N, D), of length 1 where scores are cosines. cosine: whether they are, or dot
            products. holds: what has to hold.
    """

    ids: tuple[str, ...]
    vectors: Tensor
    cosine: bool
    holds: Holds

    @classmethod
    def of(
        cls,
        documents: Documents,
        encode: Callable[[list[str]], Tensor],
        *,
        holds: str,
        similarity: str,
        prefix: str,
        device: torch.device,
    ) -> Corpus:
        """The user's documents as a corpus.

        Args:
            documents: a mapping from ids to texts, or (ids, vectors). encode: from texts to (N, D) vectors.
            prefix: of every text. device: where scores are computed.

        Raises:
            ModelError: no such documents, similarity or condition.
        """
        condition = Holds.parse(holds)
        if similarity not in ("cosine", "dot"):
            raise ModelError(f"similarity={similarity!r} is not known; there is 'cosine' and 'dot'")
        texts = isinstance(documents, Mapping)
        raw: Any
        if isinstance(documents, Mapping):
            odd = next((id for id, text in documents.items() if not isinstance(text, str)), None)
            if odd is not None:
                raise ModelError(f"the document {odd!r} is a {type(documents[odd]).__name__}, where a text is needed")
            ids, raw = tuple(map(str, documents)), documents.values()
        elif isinstance(documents, (tuple, list)) and len(documents) == 2 and not isinstance(documents[0], str):
            ids, raw = tuple(map(str, documents[0])), documents[1]
        else:
            raise ModelError(f"the corpus is a {type(documents).__name__}; {_CORPUS}")
        if not ids:
            raise ModelError("the corpus is empty; give at least one document")
        if len(set(ids)) < len(ids):
            raise ModelError("the corpus has an id twice; give every document its own")
        if condition.k > len(ids):
            raise ModelError(f"holds={holds!r} asks for {condition.k} results, and there are {len(ids)} documents")
        found = encode([prefix + text for text in raw]) if texts else as_vectors(raw, len(ids), "the corpus")
        vectors = found.to(device)
        if not bool(vectors.isfinite().all()):
            bad = int((~vectors.isfinite().all(1)).nonzero()[0])
            raise ModelError(f"the vector of the document {ids[bad]!r} is NaN or infinite; encode it again, or drop it")
        cosine = similarity == "cosine"
        return cls(ids, torch.nn.functional.normalize(vectors, dim=1) if cosine else vectors, cosine, condition)

    def read(self, data: object, prefix: str) -> Examples:
        """Examples of ``(query, relevant)``, or of queries alone.

        Args:
            prefix: of every query.

        Raises:
            PreflightError: not such data, documents that there are not, a query without a relevant one, or one for which no
                results could hold.
        """
        if isinstance(data, Examples):
            if data.references is None:
                raise PreflightError("data: these examples have no references; read them by read()")
            for i, reference in enumerate(data.references):
                self._check(i, json.loads(reference)["relevant"])
            return data
        if not isinstance(data, (list, tuple)) or not data:
            raise PreflightError(f"data: a {type(data).__name__}; give a list of (query, relevant ids), or of queries")
        texts: list[Text] = []
        references = []
        for i, item in enumerate(data):
            query, relevant = (item, None) if isinstance(item, str) else _pair(item, i)
            if not query.strip():
                raise PreflightError(f"inputs: query {i} is empty; drop it")
            grades = None if relevant is None else _graded(relevant, i)
            self._check(i, grades)
            texts.append(prefix + query)
            references.append(json.dumps({"query": texts[-1], "relevant": grades}, sort_keys=True))
        return Examples.of(texts, torch.zeros(len(texts), dtype=torch.int64), CLASSES, references)

    @property
    def named(self) -> str:
        """``12 documents (3fa2c1)``: how many, and a digest of their ids: among others the same query finds other ones."""
        return f"{len(self.ids)} documents ({hashlib.blake2b(json.dumps(sorted(self.ids)).encode()).hexdigest()[:6]})"

    @property
    def question(self) -> str:
        """What has to hold, of which documents."""
        return f"{self.holds.text} of {self.named}"

    def relevant(self, reference: str) -> Tensor:
        """(N,) what this reference calls relevant, as the condition has it."""
        grades = json.loads(reference)["relevant"] or {}
        known = torch.tensor([grades.get(id, 0.0) for id in self.ids], dtype=torch.float64, device=self.vectors.device)
        return self.holds.relevant(known)

    def grades(self, examples: Examples) -> Tensor:
        """(n, N) grades of all documents for each query, 0 where nothing was said."""
        place = {id: i for i, id in enumerate(self.ids)}
        grades = torch.zeros(len(examples), len(self.ids), dtype=torch.float64)
        for i, reference in enumerate(examples.references or ()):
            for id, grade in (json.loads(reference)["relevant"] or {}).items():
                grades[i, place[id]] = grade
        return grades

    def scores(self, vectors: Tensor) -> Tensor:
        """(B, N) scores of all documents for the vectors of queries, (B, D).

        Raises:
            ModelError: the documents have other dimensions.
        """
        if vectors.shape[1] != self.vectors.shape[1]:
            raise ModelError(
                f"queries are encoded to {vectors.shape[1]} dimensions, and documents have {self.vectors.shape[1]}; encode "
                "both with the same model"
            )
        queries = torch.nn.functional.normalize(vectors, dim=1) if self.cosine else vectors
        return queries @ self.vectors.to(queries.dtype).T

    def logits(self, scores: Tensor, wanted: Sequence[Tensor]) -> Tensor:
        """(B, 2) logits (m, 0), m the margin by which a query holds.

        Args:
            scores: (B, N). wanted: for each, (N,) what it has to find, as the condition has it.
        """
        margin = torch.stack([self.holds.margin(*pair) for pair in zip(scores, wanted, strict=True)])
        return torch.stack([margin, torch.zeros_like(margin)], 1)

    def _check(self, i: int, grades: Mapping[str, float] | None) -> None:
        known = set(self.ids) if grades else set()
        strange = next((id for id in grades or () if id not in known), None)
        if strange is not None:
            raise PreflightError(f"labels: query {i} names the document {strange!r}, which the corpus does not have")
        if not self.holds.judged:
            return
        if not grades:
            raise PreflightError(
                f"labels: query {i} has no relevant document, so nothing can be missed; drop it, or use "
                "holds='overlap@10>=0.6', 'rbo>=0.5' or 'top-1', which need none"
            )
        needed = self.holds.too_many(grades)
        if needed is not None:
            raise PreflightError(
                f"labels: query {i} has {len(grades)} relevant documents, of which {self.holds.text!r} needs {needed}: more "
                "than there are results; ask for more results or a lower share, or drop the query"
            )


def as_vectors(values: object, n: int, whose: str) -> Tensor:
    """(n, D) float32 or float64 vectors.

    Raises:
        ModelError: that is not what ``values`` is. ``whose``: how to call it.
    """
    try:
        vectors = values if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
    except (TypeError, ValueError):
        raise ModelError(f"{whose} has vectors that are no numbers; give a row of numbers for each text") from None
    if vectors.ndim != 2 or len(vectors) != n:
        raise ModelError(f"{whose} has vectors of shape {tuple(vectors.shape)} for {n} texts; give a row for each")
    return vectors.detach() if vectors.dtype == torch.float64 else vectors.detach().float()


def _pair(item: object, i: int) -> tuple[str, object]:
    if isinstance(item, (tuple, list)) and len(item) == 2 and isinstance(item[0], str):
        return item[0], item[1]
    raise PreflightError(f"data: example {i} is a {type(item).__name__}, where (query, relevant ids) or a query is needed")


def _graded(relevant: object, i: int) -> dict[str, float]:
    if isinstance(relevant, Mapping):
        try:
            return {str(id): float(grade) for id, grade in relevant.items() if float(grade) > 0}
        except (TypeError, ValueError):
            pass
    elif isinstance(relevant, (list, tuple, set, frozenset)):
        return {str(id): 1.0 for id in relevant}
    raise PreflightError(
        f"labels: query {i} has {relevant!r:.60}; give the ids of its relevant documents as a list, or a mapping to grades"
    )
