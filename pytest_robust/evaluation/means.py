"""Metrics of texts as they are and under random edits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from pytest_robust.evaluation.comparison import Outcomes
from pytest_robust.evaluation.result import Cost, Identity
from pytest_robust.threats import ThreatSummary

_DRAWS = 2000
"""Of the bootstrap."""
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """One metric of all queries that have it. Where an assert on it fails, pytest shows all its figures.

    Attributes:
        per_query: (n,) of each query as it is. samples: (n, k) of its k random edits.
        rows: which of all texts have it.
    """

    name: str
    per_query: Values
    samples: Values
    rows: tuple[int, ...] = ()

    @property
    def worst_edits(self) -> Values:
        """(n,) of the worst edit of each query."""
        return cast("Values", self.samples.min(1))

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
        return float(self.worst_edits.mean())

    @property
    def drop(self) -> float:
        """How much of a query's metric the worst of its edits takes, as a share, on average over queries that have any."""
        some = self.per_query > 0
        if not some.any():
            return 0.0
        return float(((self.per_query - self.worst_edits)[some] / self.per_query[some]).mean())

    def interval(self, of: str = "worst", confidence: float = 0.95) -> tuple[float, float]:
        """A percentile bootstrap interval of ``clean``, ``mean``, ``worst`` or ``drop``: queries are drawn anew, with all
        their edits, for edits of one query say nothing about others.

        Each limit is drawn with one query more than there is, the worst and the best that could be: few queries that are
        alike say nothing of those not seen.
        """
        limits = ((1 - confidence) / 2, 0.0), ((1 + confidence) / 2, 1.0)
        low, high = (float(np.quantile(self._with(of, extreme)._drawn(of), part)) for part, extreme in limits)
        return low, high

    def _with(self, of: str, extreme: float) -> Metric:
        """With one query more, for which what is asked for is 0 or 1."""
        clean, edits = (extreme, 0.0) if of == "clean" else (1.0, 1 - extreme if of == "drop" else extreme)
        row = np.full((1, self.samples.shape[1]), edits)
        return Metric(self.name, np.append(self.per_query, clean), np.append(self.samples, row, 0))

    def _drawn(self, of: str) -> Values:
        random = np.random.default_rng(0)
        rows = random.integers(0, len(self.per_query), (_DRAWS, len(self.per_query)))
        return np.array([getattr(Metric(self.name, self.per_query[own], self.samples[own]), of) for own in rows])

    def __repr__(self) -> str:
        low, high = self.interval()
        worst = f"worst of {self.samples.shape[1]} {self.worst:.3f} (95% CI {low:.3f} - {high:.3f})"
        return f"{self.name:<12} clean {self.clean:.3f}  mean {self.mean:.3f}  {worst}  drop {100 * self.drop:.1f}%"


@dataclass(frozen=True)
class Worst:
    """A text, the worst edit of it, and the metric before and after; ``row``: which of all texts."""

    row: int
    text: str
    edit: str
    before: float
    after: float


@dataclass(frozen=True)
class Fluctuation:
    """What random edits do to the results of queries, or to translations.

    Attributes:
        metrics: by name. Of retrieval ``"ndcg@10"``, ``"mrr@10"`` and ``"recall@100"`` of queries with judgements;
            ``"rbo"`` (p = 0.9), ``"top-1"`` and ``"overlap@10"``, how much of the results of the query as it is stays, of
            all; recall and overlap only where there are more documents than that. Of translation ``"chrf"`` of sources
            with references, and ``"consistency"``, see ``Translator``, of all.
        threat: the edits. k: how many random edits of each text: the worst of k is of no use without it. seed: of them.
        fixed: which of the texts have nothing that can be edited; they count as stable.
        model, device: what was asked, and where. ids: of the content of the texts, and of what they are held against.
        of: how many there were to choose from. among: the documents.
        texts, edits: as they are, and k times edited.
        cost: one forward pass for each text measured. identity: what was measured, as digests.
        hallucinations: of sources with references, those whose translation has a chrF of 0.4 at least, and after the worst
            of the edits less than 0.1; None elsewhere.
        true_successes: of the same, those of which an edit costs a larger share of chrF than it changes of the source
            (Michel et al., NAACL 2019, section 3; see ``similarity.proportion``): there ``holds="proportionate"`` is
            broken.
    """

    metrics: dict[str, Metric]
    threat: ThreatSummary
    k: int
    seed: int
    fixed: tuple[int, ...]
    model: str
    device: str
    ids: tuple[str, ...]
    of: int
    among: str
    texts: tuple[str, ...]
    edits: tuple[tuple[str, ...], ...]
    cost: Cost
    identity: Identity
    hallucinations: int | None = None
    true_successes: int | None = None

    def __getitem__(self, name: str) -> Metric:
        """Raises LookupError where there is no such metric."""
        if name not in self.metrics:
            raise LookupError(f"no metric is called {name!r}; there is: {', '.join(self.metrics)}")
        return self.metrics[name]

    def outcomes(self, name: str) -> Outcomes:
        """Of one metric, for ``compare``: has it dropped since another measurement of the same texts?

        Raises:
            LookupError: there is no such metric.
        """
        metric = self[name]
        return Outcomes(
            ids=tuple(self.ids[row] for row in metric.rows),
            clean=rounded(metric.per_query),
            robust=rounded(metric.worst_edits),
            threat=self.threat,
            objective=f"{name}{self.among}",
            seed=self.seed,
            schedule=(f"{self.k} random edits",),
            digest=self.identity.attack,
            model=self.identity.model,
            metric=name,
        )

    def worst_texts(self, name: str) -> list[Worst]:
        """The worst edit of each text that it costs some of the metric, the most costly first.

        Raises:
            LookupError: there is no such metric.
        """
        metric = self[name]
        edits = metric.samples.argmin(1)
        found = [
            Worst(row, self.texts[row], self.edits[edit][row], float(before), float(after))
            for row, edit, before, after in zip(metric.rows, edits, metric.per_query, metric.worst_edits, strict=True)
            if after < before
        ]
        return sorted(found, key=lambda worst: (worst.after - worst.before, self.ids[worst.row]))

    def __str__(self) -> str:
        fixed = f"; nothing can be edited in {len(self.fixed)} of them" if self.fixed else ""
        head = f"{self.threat}, {self.k} random edits of each text, seed {self.seed}{fixed}"
        lines = [head, *map(repr, self.metrics.values())]
        if self.hallucinations is not None:
            lines.append(f"hallucinations {self.hallucinations}, true successes {self.true_successes}")
        return "\n".join(lines)

    __repr__ = __str__


def rounded(values: Values) -> tuple[float, ...]:
    """Values as they are kept to be compared."""
    return tuple(np.round(values, 4).tolist())
