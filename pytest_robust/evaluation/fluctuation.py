"""How much the results of queries fluctuate under random edits: described, not judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.data.examples import Examples
from pytest_robust.errors import ThreatError
from pytest_robust.evaluation.precision import full_precision
from pytest_robust.evaluation.prepare import under
from pytest_robust.models.edited import Edited
from pytest_robust.models.rankings import ndcg, overlap, ranked, rbo, recall, reciprocal_rank
from pytest_robust.models.retrieval import Retriever, RetrieverFunction
from pytest_robust.threats import Edits

_DRAWS = 2000
"""Of the bootstrap."""
_BATCH = 64
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """One metric of all queries that have it. Where an assert on it fails, pytest shows all its figures.

    Attributes:
        per_query: (n,) of each query as it is. samples: (n, k) of its k random edits.
    """

    name: str
    per_query: Values
    samples: Values

    @property
    def clean(self) -> float:
        """The mean over queries, as they are."""
        return float(self.per_query.mean())

    @property
    def mean(self) -> float:
        """The mean over queries and their edits."""
        return float(self.samples.mean())

    @property
    def worst(self) -> float:
        """The mean over queries of the worst of their k edits; the more edits, the lower it is."""
        return float(self.samples.min(1).mean())

    @property
    def drop(self) -> float:
        """How much of a query's metric the worst of its edits takes, as a share, on average over queries that have any."""
        some = self.per_query > 0
        if not some.any():
            return 0.0
        return float(((self.per_query - self.samples.min(1))[some] / self.per_query[some]).mean())

    def interval(self, of: str = "worst", confidence: float = 0.95) -> tuple[float, float]:
        """A percentile bootstrap interval of ``clean``, ``mean``, ``worst`` or ``drop``: queries are drawn anew, with all
        their edits, for edits of one query say nothing about others.
        """
        random = np.random.default_rng(0)
        rows = random.integers(0, len(self.per_query), (_DRAWS, len(self.per_query)))
        found = [getattr(Metric(self.name, self.per_query[drawn], self.samples[drawn]), of) for drawn in rows]
        low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
        return float(low), float(high)

    def __repr__(self) -> str:
        low, high = self.interval()
        worst = f"worst of {self.samples.shape[1]} {self.worst:.3f} (95% CI {low:.3f} - {high:.3f})"
        return f"{self.name:<12} clean {self.clean:.3f}  mean {self.mean:.3f}  {worst}  drop {100 * self.drop:.1f}%"


@dataclass(frozen=True)
class Fluctuation:
    """What random edits do to the results of queries.

    Attributes:
        metrics: by name: ``"ndcg@10"``, ``"mrr@10"`` and ``"recall@100"`` of queries with judgements; ``"overlap@10"``,
            ``"rbo"`` (p = 0.9) and ``"top-1"``, how much of the results of the query as it is stays, of all.
        threat: the edits. k: how many random edits of each query: the worst of k is of no use without it. seed: of them.
        fixed: queries in which nothing can be edited; they count as stable.
    """

    metrics: dict[str, Metric]
    threat: str
    k: int
    seed: int
    fixed: int

    def __getitem__(self, name: str) -> Metric:
        """Raises LookupError where there is no such metric."""
        if name not in self.metrics:
            raise LookupError(f"no metric is called {name!r}; there is: {', '.join(self.metrics)}")
        return self.metrics[name]

    def __str__(self) -> str:
        fixed = f"; nothing can be edited in {self.fixed} of them" if self.fixed else ""
        head = f"{self.threat}, {self.k} random edits of each query, seed {self.seed}{fixed}"
        return "\n".join([head, *map(repr, self.metrics.values())])

    __repr__ = __str__


def fluctuation(
    retriever: Retriever | RetrieverFunction, queries: object, threat: Edits, *, samples: int = 10, seed: int = 0
) -> Fluctuation:
    """Metrics of queries as they are, and under random edits, each as many as the threat allows.

    That describes: random edits are weaker than a search, and surviving them is no evidence. For a verdict give the
    retriever to ``evaluate`` or ``robust``.

    Args:
        queries: as ``Retriever`` reads them. threat: ``CharacterEdits`` or ``WordEdits``.
        samples: random edits of each query. seed: of them.

    Raises:
        ValueError: samples is no whole number above 0. ThreatError: not edits. PreflightError: the queries cannot be read.
    """
    if not (isinstance(samples, Integral) and samples >= 1):
        raise ValueError(f"samples must be a whole number, at least 1, got {samples!r}")
    edited = under(retriever, threat)
    if not isinstance(edited, Edited):
        raise ThreatError(
            f"fluctuation tries random edits of texts, and {type(threat).__name__} is none; use CharacterEdits(k) or "
            "WordEdits(k), or evaluate() for the share of queries that hold"
        )
    examples = retriever.read(queries)
    with full_precision(), retriever.isolated():
        encoded = edited.encode(examples)
        fixed = sum(not bool(edited.batch(encoded.take([i])).free.any()) for i in range(len(encoded)))
        clean = ranked(retriever.scores([str(text) for text in examples.inputs]).cpu())
        rankings = [_edited(retriever, edited, encoded, threat, seed, number) for number in range(int(samples))]
    grades = retriever.corpus.grades(examples)
    judged = (grades > 0).any(1)
    metrics: dict[str, Metric] = {}
    quality: dict[str, Callable[[Tensor], Tensor]] = {
        "ndcg@10": lambda ranking: ndcg(ranking, grades, 10),
        "mrr@10": lambda ranking: reciprocal_rank(ranking, grades, 10),
        "recall@100": lambda ranking: recall(ranking, grades, 100),
    }
    for name, metric in quality.items() if bool(judged.any()) else ():
        metrics[name] = _metric(name, lambda ranking, metric=metric: metric(ranking)[judged], clean, rankings)
    stability: dict[str, Callable[[Tensor], Tensor]] = {
        "overlap@10": lambda ranking: overlap(ranking, clean, min(10, clean.shape[1])),
        "rbo": lambda ranking: rbo(ranking, clean),
        "top-1": lambda ranking: (ranking[:, 0] == clean[:, 0]).double(),
    }
    for name, metric in stability.items():
        metrics[name] = _metric(name, metric, clean, rankings)
    return Fluctuation(metrics, str(threat.summary()), int(samples), seed, fixed)


def _metric(name: str, metric: Callable[[Tensor], Tensor], clean: Tensor, rankings: list[Tensor]) -> Metric:
    samples = torch.stack([metric(ranking) for ranking in rankings], 1)
    return Metric(name, metric(clean).double().numpy(), samples.double().numpy())


def _edited(
    retriever: Retriever | RetrieverFunction, edited: Edited, encoded: Examples, threat: Edits, seed: int, number: int
) -> Tensor:
    """(n, N) the rankings of one random edit of each query."""
    texts: dict[int, str] = {}
    for group in encoded.groups(range(len(encoded))):
        for start in range(0, len(group), _BATCH):
            rows = group[start : start + _BATCH]
            batch = edited.batch(encoded.take(rows))
            keys = torch.tensor([keyed.key(seed, encoded.ids[row], "fluctuation", number) for row in rows])
            x = threat.start(threat.region(batch.x, batch.free), keys.to(batch.x.device))
            texts.update(zip(rows, map(str, edited.texts(x, batch.context)), strict=True))
    return ranked(retriever.scores([texts[row] for row in range(len(encoded))]).cpu())
