"""How much results fluctuate under random edits of queries or sources: described, not judged."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.data import stratified
from pytest_robust.data.examples import Examples, content_id
from pytest_robust.errors import ModelError, ThreatError
from pytest_robust.evaluation.means import Fluctuation, Metric, Values
from pytest_robust.evaluation.precision import full_precision
from pytest_robust.evaluation.prepare import under
from pytest_robust.evaluation.recall import digests
from pytest_robust.evaluation.result import Cost
from pytest_robust.models.edited import Edited
from pytest_robust.models.rankings import ndcg, overlap, ranked, rbo, recall, reciprocal_rank
from pytest_robust.models.retrieval import Retriever, RetrieverFunction
from pytest_robust.models.similarity import chrf, consistency, proportion
from pytest_robust.models.translation import Translator
from pytest_robust.models.translator_function import TranslatorFunction
from pytest_robust.threats import Edits

_BATCH = 64
_GOOD, _LOST = 0.4, 0.1
"""Values of chrF between which a translation that is a hallucination falls; a convention of our own."""


def fluctuation(
    model: Retriever | RetrieverFunction | Translator | TranslatorFunction,
    data: object,
    threat: Edits,
    *,
    samples: int = 10,
    seed: int = 0,
    n: int | None = None,
) -> Fluctuation:
    """Metrics of queries or sources as they are, and under random edits, each as many as the threat allows.

    That describes: random edits are weaker than a search, and surviving them is no evidence. For a verdict give the
    model to ``evaluate`` or ``robust``.

    Args:
        data: queries as ``Retriever`` reads them, or sources, with references or without, for a ``Translator``.
        threat: ``CharacterEdits`` or ``WordEdits``. samples: random edits of each text. seed: of them.
        n: so many of the texts, chosen by content.

    Raises:
        ValueError: samples or n is no whole number above 0. ThreatError: not edits. PreflightError: the data cannot be read.
        ModelError: a model that neither retrieves nor translates, or gives no numbers, or sacrebleu is not installed.
    """
    began = time.perf_counter()
    for what, value in (("samples", samples), ("n", n)):
        if value is not None and not (isinstance(value, Integral) and value >= 1):
            raise ValueError(f"{what} must be a whole number, at least 1, got {value!r}")
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
    whole = model.read(data)
    rows = list(range(len(whole))) if n is None else stratified(whole, int(n), seed)
    examples = whole.subset(rows)
    texts = [str(text) for text in examples.inputs]
    with full_precision(), model.isolated():
        encoded = edited.encode(examples)
        fixed = tuple(row for row in range(len(encoded)) if not _editable(edited, encoded, row))
        changed = [_edited(edited, encoded, threat, seed, number) for number in range(int(samples))]
        if isinstance(model, (Translator, TranslatorFunction)):
            clean, *translations = [model.translate(each) for each in (texts, *changed)]
            said = _references(data)
            references = [said[row] for row in rows]
            found = _of_translations(texts, references, clean, changed, translations)
            # Held against another reference the same translation is another figure, also where the condition needs none.
            ids, among = tuple(content_id(*one) for one in zip(texts, [0] * len(texts), references, strict=True)), ""
        else:
            rankings = [_ranked(model.scores(each).cpu(), each) for each in (texts, *changed)]
            found = {"metrics": _of_rankings(model.corpus.grades(examples), rankings[0], rankings[1:])}
            ids, among = examples.ids, f" of {model.corpus.named}"
    return Fluctuation(
        threat=threat.summary(),
        k=int(samples),
        seed=int(seed),
        fixed=fixed,
        model=model.name,
        device=str(model.device),
        ids=ids,
        of=len(whole),
        among=among,
        texts=tuple(texts),
        edits=tuple(map(tuple, changed)),
        cost=Cost((1 + int(samples)) * len(examples), 0, time.perf_counter() - began),
        identity=digests((threat, int(samples), int(seed)), model, examples),
        **found,
    )


def _of_rankings(grades: Tensor, clean: Tensor, rankings: list[Tensor]) -> dict[str, Metric]:
    judged, documents = (grades > 0).any(1), clean.shape[1]
    metrics: dict[str, Metric] = {}
    quality: dict[str, Callable[[Tensor], Tensor]] = {
        "ndcg@10": lambda ranking: ndcg(ranking, grades, 10),
        "mrr@10": lambda ranking: reciprocal_rank(ranking, grades, 10),
    }
    stability: dict[str, Callable[[Tensor], Tensor]] = {
        "rbo": lambda ranking: rbo(ranking, clean),
        "top-1": lambda ranking: (ranking[:, 0] == clean[:, 0]).double(),
    }
    # Of no more documents than that nothing could ever be lost.
    if documents > 100:
        quality["recall@100"] = lambda ranking: recall(ranking, grades, 100)
    if documents > 10:
        stability["overlap@10"] = lambda ranking: overlap(ranking, clean, 10)
    for name, metric in quality.items() if bool(judged.any()) else ():
        metrics[name] = _metric(name, metric, clean, rankings, judged)
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
    metrics = {"consistency": Metric("consistency", np.ones(len(clean)), stays, tuple(range(len(clean))))}
    referred = np.array([reference is not None for reference in references])
    if not referred.any():
        return {"metrics": metrics}
    before = each(chrf, clean, references)
    after = np.stack([each(chrf, translation, references) for translation in translations], 1)
    alike = np.stack([each(chrf, edit, sources)[referred] for edit in changed], 1)
    holds = np.vectorize(proportion)(alike, before[:, None], after)
    return {
        "metrics": {"chrf": Metric("chrf", before, after, _rows(referred)), **metrics},
        "hallucinations": int(((before >= _GOOD) & (after.min(1) < _LOST)).sum()),
        "true_successes": int((holds < 0).any(1).sum()),
    }


def _references(data: object) -> list[str | None]:
    """Those of pairs; of a condition that needs none the model does not keep them."""
    if isinstance(data, Examples):
        return [json.loads(reference)["reference"] for reference in data.references or ()]
    return [None if isinstance(item, str) else item[1] for item in cast("Sequence[Any]", data)]


def _ranked(scores: Tensor, texts: Sequence[str]) -> Tensor:
    """Raises ModelError where the model gives no scores: in order they would still come, that of the corpus."""
    bad = (~scores.isfinite().all(1)).nonzero().flatten().tolist()
    if bad:
        raise ModelError(
            f"the model returned NaN or infinity for {len(bad)} of {len(texts)} texts, such as {texts[bad[0]]!r:.120}; such "
            "results have no order: mend the model there first"
        )
    return ranked(scores)


def _metric(
    name: str,
    metric: Callable[[Tensor], Tensor],
    clean: Tensor,
    rankings: list[Tensor],
    having: Tensor,
) -> Metric:
    """Of the queries ``having`` it, (n,) bool."""
    # Sums of parts: without rounding nothing lost would be 0.9999999999999999.
    values, *samples = (metric(ranking)[having].double().numpy().round(12) for ranking in (clean, *rankings))
    return Metric(name, values, np.stack(samples, 1), _rows(having.numpy()))


def _rows(having: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(having.nonzero()[0].tolist())


def _editable(edited: Edited, encoded: Examples, row: int) -> bool:
    free = edited.batch(encoded.take([row])).free
    return free is None or bool(free.any())


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
