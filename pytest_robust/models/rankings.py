"""How good a ranking is, and how much of it stays: the metrics of retrieval, for a batch of queries at once."""

from __future__ import annotations

import torch
from torch import Tensor


def ranked(scores: Tensor) -> Tensor:
    """(B, N) the documents of each query, best first; the first of equal ones comes first."""
    return scores.argsort(dim=1, descending=True, stable=True)


def recall(ranking: Tensor, grades: Tensor, k: int) -> Tensor:
    """(B,) share of the relevant documents that are among the first ``k``; nan without any.

    Args:
        ranking: (B, N) documents, best first. grades: (B, N) of each document, above 0 where it is relevant.
    """
    relevant = grades > 0
    found = relevant.gather(1, ranking[:, :k]).sum(1)
    return found / relevant.sum(1)


def reciprocal_rank(ranking: Tensor, grades: Tensor, k: int) -> Tensor:
    """(B,) one over the rank of the first relevant document, 0 where it is beyond ``k``; nan without any."""
    relevant = grades.gather(1, ranking[:, :k]) > 0
    rank = torch.arange(1, relevant.shape[1] + 1, device=ranking.device)
    best = (relevant / rank).amax(1)
    return torch.where((grades > 0).any(1), best, torch.nan)


def ndcg(ranking: Tensor, grades: Tensor, k: int) -> Tensor:
    """(B,) normalised discounted cumulative gain of the first ``k``: the gain is the grade, the discount log2(rank + 1), as
    trec_eval has it (Jarvelin and Kekalainen, TOIS 2002); nan without a relevant document.
    """
    gains = grades.clamp_min(0).double()
    discount = 1 / torch.arange(2, min(k, grades.shape[1]) + 2, device=grades.device).double().log2()
    reached = (gains.gather(1, ranking[:, :k]) * discount).sum(1)
    ideal = (gains.sort(dim=1, descending=True).values[:, :k] * discount).sum(1)
    return reached / torch.where(ideal > 0, ideal, torch.nan)


def overlap(ranking: Tensor, other: Tensor, k: int) -> Tensor:
    """(B,) share of the first ``k`` documents that two rankings have in common."""
    return _shared(ranking, other, k)[:, -1] / k


def rbo(ranking: Tensor, other: Tensor, p: float = 0.9, depth: int = 100) -> Tensor:
    """(B,) rank-biased overlap, extrapolated from ``depth`` (Webber et al., TOIS 2010): 10 ranks weigh 86 %."""
    depth = min(depth, ranking.shape[1])
    ranks = torch.arange(1, depth + 1, device=ranking.device).double()
    agreement = _shared(ranking, other, depth) / ranks
    return (1 - p) * (agreement * p ** (ranks - 1)).sum(1) + agreement[:, -1] * p**depth


def _shared(ranking: Tensor, other: Tensor, depth: int) -> Tensor:
    """(B, depth) how many documents the first 1, 2, ... of both have in common."""
    one, two = ranking[:, :depth], other[:, :depth]
    # A document is shared from the deeper of its two ranks on.
    same = one.unsqueeze(2) == two.unsqueeze(1)
    ranks = torch.arange(depth, device=ranking.device)
    deeper = torch.maximum(ranks.unsqueeze(1), ranks)
    shared = torch.zeros(len(one), depth, dtype=torch.float64, device=ranking.device)
    found, place = same.flatten(1).nonzero(as_tuple=True)
    shared.index_put_((found, deeper.flatten()[place]), torch.ones_like(found, dtype=torch.float64), accumulate=True)
    return shared.cumsum(1)
