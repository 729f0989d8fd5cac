"""How much results fluctuate under random edits of queries or sources: described, not judged."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.data.examples import Examples
from pytest_robust.errors import ModelError, ThreatError
from pytest_robust.evaluation.precision import full_precision
from pytest_robust.evaluation.prepare import under
from pytest_robust.models.edited import Edited
from pytest_robust.models.rankings import ndcg, overlap, ranked, rbo, recall, reciprocal_rank
from pytest_robust.models.retrieval import Retriever, RetrieverFunction
from pytest_robust.models.similarity import chrf, consistency, proportion
from pytest_robust.models.translation import Translator
from pytest_robust.models.translator_function import TranslatorFunction
from pytest_robust.threats import Edits

_DRAWS = 2000
"""Of the bootstrap."""
_BATCH = 64
_GOOD, _LOST = 0.4, 0.1
"""Values of chrF between which a translation that is a hallucination falls; a convention of our own."""
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
    """What random edits do to the results of queries, or to translations.

    Attributes:
        metrics: by name. Of retrieval ``"ndcg@10"``, ``"mrr@10"`` and ``"recall@100"`` of queries with judgements;
            ``"overlap@10"``, ``"rbo"`` (p = 0.9) and ``"top-1"``, how much of the results of the query as it is stays, of
            all. Of translation ``"chrf"`` of sources with references, and ``"consistency"``, see ``Translator``, of all.
        threat: the edits. k: how many random edits of each text: the worst of k is of no use without it. seed: of them.
        fixed: texts in which nothing can be edited; they count as stable.
        hallucinations: of sources with references, those whose translation has a chrF of 0.4 at least, and after the worst
            of the edits less than 0.1; None elsewhere.
        true_successes: of the same, those of which an edit costs a larger share of chrF than it changes of the source
            (Michel et al., NAACL 2019, section 3; see ``similarity.proportion``): there ``holds="proportionate"`` is broken.
    """

    metrics: dict[str, Metric]
    threat: str
    k: int
    seed: int
    fixed: int
    hallucinations: int | None = None
    true_successes: int | None = None

    def __getitem__(self, name: str) -> Metric:
        """Raises LookupError where there is no such metric."""
        if name not in self.metrics:
            raise LookupError(f"no metric is called {name!r}; there is: {', '.join(self.metrics)}")
        return self.metrics[name]

    def __str__(self) -> str:
        fixed = f"; nothing can be edited in {self.fixed} of them" if self.fixed else ""
        head = f"{self.threat}, {self.k} random edits of each text, seed {self.seed}{fixed}"
        lines = [head, *map(repr, self.metrics.values())]
        if self.hallucinations is not None:
            lines.append(f"hallucinations {self.hallucinations}, true successes {self.true_successes}")
        return "\n".join(lines)

    __repr__ = __str__


def fluctuation(
    model: Retriever | RetrieverFunction | Translator | TranslatorFunction,
    data: object,
    threat: Edits,
    *,
    samples: int = 10,
    seed: int = 0,
) -> Fluctuation:
    """Metrics of queries or sources as they are, and under random edits, each as many as the threat allows.

    That describes: random edits are weaker than a search, and surviving them is no evidence. For a verdict give the
    model to ``evaluate`` or ``robust``.

    Args:
        data: queries as ``Retriever`` reads them, or sources, with references or without, for a ``Translator``.
        threat: ``CharacterEdits`` or ``WordEdits``. samples: random edits of each text. seed: of them.

    Raises:
        ValueError: samples is no whole number above 0. ThreatError: not edits. PreflightError: the data cannot be read.
        ModelError: a model that neither retrieves nor translates, or sacrebleu is not installed.
    """
    if not (isinstance(samples, Integral) and samples >= 1):
        raise ValueError(f"samples must be a whole number, at least 1, got {samples!r}")
    if not isinstance(model, (Retriever, RetrieverFunction, Translator, TranslatorFunction)):
        raise ModelError(
            f"fluctuation is for a Retriever, a Translator, or a function as one of them, got a {type(model).__name__}; for "
            "other models use evaluate()"
        )
    edited = under(model, threat)
    if not isinstance(edited, Edited):
        raise ThreatError(
            f"fluctuation tries random edits of texts, and {type(threat).__name__} is none; use CharacterEdits(k) or "
            "WordEdits(k), or evaluate() for the share of texts that hold"
        )
    examples = model.read(data)
    texts = [str(text) for text in examples.inputs]
    with full_precision(), model.isolated():
        encoded = edited.encode(examples)
        fixed = sum(not bool(edited.batch(encoded.take([i])).free.any()) for i in range(len(encoded)))
        changed = [_edited(edited, encoded, threat, seed, number) for number in range(int(samples))]
        if isinstance(model, (Translator, TranslatorFunction)):
            clean, *translations = [model.translate(each) for each in (texts, *changed)]
            found = _of_translations(texts, _references(data), clean, changed, translations)
        else:
            rankings = [ranked(model.scores(each).cpu()) for each in (texts, *changed)]
            found = {"metrics": _of_rankings(model.corpus.grades(examples), rankings[0], rankings[1:])}
    return Fluctuation(threat=str(threat.summary()), k=int(samples), seed=seed, fixed=fixed, **found)


def _of_rankings(grades: Tensor, clean: Tensor, rankings: list[Tensor]) -> dict[str, Metric]:
    judged = (grades > 0).any(1)
    metrics: dict[str, Metric] = {}
    quality: dict[str, Callable[[Tensor], Tensor]] = {
        "ndcg@10": lambda ranking: ndcg(ranking, grades, 10),
        "mrr@10": lambda ranking: reciprocal_rank(ranking, grades, 10),
        "recall@100": lambda ranking: recall(ranking, grades, 100),
    }
    for name, metric in quality.items() if bool(judged.any()) else ():
        metrics[name] = _metric(name, metric, clean, rankings, judged)
    stability: dict[str, Callable[[Tensor], Tensor]] = {
        "overlap@10": lambda ranking: overlap(ranking, clean, min(10, clean.shape[1])),
        "rbo": lambda ranking: rbo(ranking, clean),
        "top-1": lambda ranking: (ranking[:, 0] == clean[:, 0]).double(),
    }
    for name, metric in stability.items():
        metrics[name] = _metric(name, metric, clean, rankings, torch.ones_like(judged))
    return metrics


def _of_translations(
    sources: Sequence[str],
    references: Sequence[str | None],
    clean: Sequence[str],
    changed: Sequence[Sequence[str]],
    translations: Sequence[Sequence[str]],
) -> dict[str, Any]:
    """The metrics and the counts, as fields of a ``Fluctuation``."""

    def each(measure: Callable[[str, str], float], one: Sequence[str], other: Sequence[str | None]) -> Values:
        return np.array([measure(a, b) for a, b in zip(one, other, strict=True) if b is not None])

    stays = np.stack([each(consistency, after, clean) for after in translations], 1)
    metrics = {"consistency": Metric("consistency", np.ones(len(clean)), stays)}
    referred = np.array([reference is not None for reference in references])
    if not referred.any():
        return {"metrics": metrics}
    before = each(chrf, clean, references)
    after = np.stack([each(chrf, translation, references) for translation in translations], 1)
    alike = np.stack([each(chrf, edit, sources)[referred] for edit in changed], 1)
    holds = np.vectorize(proportion)(alike, before[:, None], after)
    return {
        "metrics": {"chrf": Metric("chrf", before, after), **metrics},
        "hallucinations": int(((before >= _GOOD) & (after.min(1) < _LOST)).sum()),
        "true_successes": int((holds < 0).any(1).sum()),
    }


def _references(data: object) -> list[str | None]:
    """Those of pairs; of a condition that needs none the model does not keep them."""
    if isinstance(data, Examples):
        return [json.loads(reference)["reference"] for reference in data.references or ()]
    return [None if isinstance(item, str) else item[1] for item in cast("Sequence[Any]", data)]


def _metric(name: str, metric: Callable[[Tensor], Tensor], clean: Tensor, rankings: list[Tensor], having: Tensor) -> Metric:
    """Of the queries ``having`` it, (n,) bool."""
    samples = torch.stack([metric(ranking)[having] for ranking in rankings], 1)
    return Metric(name, metric(clean)[having].double().numpy(), samples.double().numpy())


def _edited(edited: Edited, encoded: Examples, threat: Edits, seed: int, number: int) -> list[str]:
    """One random edit of each text."""
    texts: dict[int, str] = {}
    for group in encoded.groups(range(len(encoded))):
        for start in range(0, len(group), _BATCH):
            rows = group[start : start + _BATCH]
            batch = edited.batch(encoded.take(rows))
            keys = torch.tensor([keyed.key(seed, encoded.ids[row], "fluctuation", number) for row in rows])
            x = threat.start(threat.region(batch.x, batch.free), keys.to(batch.x.device))
            texts.update(zip(rows, map(str, edited.texts(x, batch.context)), strict=True))
    return [texts[row] for row in range(len(encoded))]
