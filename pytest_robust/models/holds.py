"""What has to hold of the results of a query, and by how much it does."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from pytest_robust.budget import exact
from pytest_robust.errors import ModelError
from pytest_robust.models.rankings import ndcg, ranked, rbo

_FORMS = "'hit@10', 'recall@10>=0.5', 'ndcg@10>=0.3', 'overlap@10>=0.6', 'rbo>=0.5' or 'top-1'"
_GUIDE = 0.01
"""Of the margin of a value: the part that only leads a search. It never decides."""
_WEIGHED = 10
"""Results of rank-biased overlap that lead a search: they weigh 86 %."""


@dataclass(frozen=True)
class Holds(ABC):
    """A condition on the results of a query.

    Attributes:
        text: as it was written. k: how many results count. judged: it is about the relevant documents, which the user has to
            name; else about what the query finds as it is.
    """

    text: str
    k: int
    judged: bool

    @staticmethod
    def parse(text: str) -> Holds:
        """Read ``hit@10``, ``recall@10>=0.5``, ``ndcg@10>=0.3``, ``overlap@10>=0.6``, ``rbo>=0.5`` or ``top-1``.

        Raises:
            ModelError: none of these.
        """
        written = text.replace(" ", "")
        if written == "top-1":
            return Among(text, 1, judged=False, share=None)
        match = re.fullmatch(r"(?:(hit|recall|overlap|ndcg)@(\d+)|(rbo))(?:>=(.+))?", written)
        if match is None or (match[1] == "hit") != (match[4] is None) or int(match[2] or 1) < 1:
            raise ModelError(f"holds={text!r} cannot be read; write it like {_FORMS}")
        try:
            share = None if match[4] is None else exact(match[4])
        except ValueError as error:
            raise ModelError(f"holds={text!r}: {error}") from None
        if share is not None and not 0 < share <= 1:
            raise ModelError(f"holds={text!r}: a share lies above 0 and at most at 1")
        if match[3] is not None:
            return Rbo(text, 1, judged=False, limit=float(share or 0))
        if match[1] == "ndcg":
            return Ndcg(text, int(match[2]), judged=True, limit=float(share or 0))
        return Among(text, int(match[2]), judged=match[1] != "overlap", share=share)

    @abstractmethod
    def relevant(self, grades: Tensor) -> Tensor:
        """(N,) what ``margin`` has to know of grades (N,), above 0 where a document is relevant."""

    @abstractmethod
    def found(self, scores: Tensor) -> Tensor:
        """(N,) what it has to know of the scores (N,) of the query as it is."""

    @abstractmethod
    def margin(self, scores: Tensor, wanted: Tensor) -> Tensor:
        """() by how much it holds, below 0 exactly where it does not; of equal scores the first document comes first.

        Args:
            scores: (N,) of all documents. wanted: (N,) as ``relevant`` or ``found`` has it.
        """

    def too_many(self, grades: Mapping[str, float]) -> int | None:
        """How many of a query's relevant documents would be needed, where that is more than there are results."""
        return None


@dataclass(frozen=True)
class Among(Holds):
    """So many of a set of documents are among the first ``k``: of the relevant ones, or of those that the query finds as it
    is.

    That is so exactly when the last of them that is needed comes before the best document that would push it out: a margin
    of scores, with a gradient.

    Attributes:
        share: of the set that is to be among them; None: one.
    """

    share: Fraction | None

    def needed(self, size: int) -> int:
        """How many of a set of ``size`` have to be among the first ``k``."""
        return 1 if self.share is None else math.ceil(self.share * (size if self.judged else self.k))

    def too_many(self, grades: Mapping[str, float]) -> int | None:
        needed = self.needed(len(grades))
        return needed if needed > self.k else None

    def relevant(self, grades: Tensor) -> Tensor:
        return grades > 0

    def found(self, scores: Tensor) -> Tensor:
        first = torch.zeros_like(scores, dtype=torch.bool)
        first[ranked(scores.unsqueeze(0))[0, : self.k]] = True
        return first

    def margin(self, scores: Tensor, wanted: Tensor) -> Tensor:
        needed = self.needed(int(wanted.sum()))
        inside, rivals = wanted.nonzero().flatten(), (~wanted).nonzero().flatten()
        last = _at(scores, inside, needed)
        if len(rivals) <= self.k - needed:
            # There are too few others to push it out: it holds whatever the scores are.
            return 1 + last - last.detach()
        best = _at(scores, rivals, self.k - needed + 1)
        margin = last - best
        if bool(margin.detach() == 0) and _document(scores, rivals, self.k - needed + 1) < _document(scores, inside, needed):
            return margin - torch.finfo(margin.dtype).tiny
        return margin


@dataclass(frozen=True)
class Value(Holds):
    """A metric of the ranking is at least ``limit``.

    The metric decides. It changes in steps, so a guide with a gradient is added where it cannot change the sign: how far the
    scores of what should come first lie above those of what comes instead.
    """

    limit: float

    def margin(self, scores: Tensor, wanted: Tensor) -> Tensor:
        beyond = self.value(ranked(scores.detach().unsqueeze(0)), wanted) - self.limit
        weights = self.weights(wanted).to(scores.dtype)
        others = scores[weights == 0]
        rivals = others.topk(min(self.k, len(others))).values if len(others) else scores
        gap = (scores * weights).sum() / weights.sum() - rivals.mean()
        # In (0, 2) above the limit and in (-2, 0) below it.
        guide = gap / (1 + gap.abs()) + (1 if beyond >= 0 else -1)
        return beyond + _GUIDE * guide.double()

    @abstractmethod
    def value(self, ranking: Tensor, wanted: Tensor) -> float:
        """The metric of a ranking (1, N)."""

    @abstractmethod
    def weights(self, wanted: Tensor) -> Tensor:
        """(N,) how much each document matters to it, 0 where it should not come first."""


@dataclass(frozen=True)
class Ndcg(Value):
    """nDCG of the first ``k``, see ``rankings.ndcg``."""

    def relevant(self, grades: Tensor) -> Tensor:
        return grades

    def found(self, scores: Tensor) -> Tensor:
        raise AssertionError("it is about relevant documents")

    def value(self, ranking: Tensor, wanted: Tensor) -> float:
        return float(ndcg(ranking, wanted.unsqueeze(0), self.k))

    def weights(self, wanted: Tensor) -> Tensor:
        return wanted.clamp_min(0)


@dataclass(frozen=True)
class Rbo(Value):
    """Rank-biased overlap with the ranking of the query as it is, p = 0.9, see ``rankings.rbo``."""

    def relevant(self, grades: Tensor) -> Tensor:
        raise AssertionError("it is about what the query finds as it is")

    def found(self, scores: Tensor) -> Tensor:
        return ranked(scores.unsqueeze(0))[0]

    def value(self, ranking: Tensor, wanted: Tensor) -> float:
        return float(rbo(ranking, wanted.unsqueeze(0)))

    def weights(self, wanted: Tensor) -> Tensor:
        weights = torch.zeros(len(wanted), dtype=torch.float64, device=wanted.device)
        first = wanted[:_WEIGHED]
        weights[first] = 0.9 ** torch.arange(len(first), dtype=torch.float64, device=wanted.device)
        return weights


def _at(scores: Tensor, among: Tensor, place: int) -> Tensor:
    """() the ``place``-th score, from 1, of these documents."""
    return scores[among].topk(place).values[-1]


def _document(scores: Tensor, among: Tensor, place: int) -> int:
    """The document that comes ``place``-th, from 1, of these."""
    return int(among[ranked(scores[among].unsqueeze(0))[0, place - 1]])
