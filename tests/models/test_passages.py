"""Passages that somebody puts into the corpus of a retriever."""

from __future__ import annotations

from math import floor

import pytest
import torch
from test_retrieval import CORPUS, WORDS, encoder

from pytest_robust import EmbeddingBall, Passages, Retriever, Suffix, WordEdits, evaluate, fluctuation
from pytest_robust.budget import exact
from pytest_robust.errors import ModelError, PreflightError
from pytest_robust.models.passages import Out
from pytest_robust.models.rankings import ranked
from pytest_robust.threats.edits import edited

QUERIES = ["good film", "bad plot", "very awful film", "fine plot", "great film was good"]
PASSAGES = ["the poor film", "the plot was the plot", "very fine", "is the film poor"]


def coming_up(passage: str, k: int, asked: str = "", **options: str) -> int:
    """For how many queries the passage is among the first results, where it is the last document of the corpus."""
    model = Retriever(*encoder(), {**CORPUS, "new": passage}, holds="top-1", **options)
    scores = model.scores([asked + query for query in QUERIES])
    return int((ranked(scores)[:, :k] == len(CORPUS)).any(1).sum())


@pytest.mark.parametrize("holds", ["out@1", "out@3>=0.4", "out@3>=0.6", "out@2>=0.61"])
@pytest.mark.parametrize("ties", [False, True])
def test_the_sign_of_the_margin_is_what_holds(holds, ties):
    out, random, seen = Out.parse(holds), torch.Generator().manual_seed(0), set()
    for _ in range(200):
        scores = torch.randn(5, 9, generator=random)
        scores = (2 * scores).round() if ties else scores
        documents, passage = scores[:, :8], scores[:, 8]
        found = int((ranked(scores)[:, : out.k] == 8).any(1).sum())
        last = documents.topk(out.k, dim=1).values[:, -1]
        holding = bool(out.margin(passage.unsqueeze(0), last) >= 0)
        assert holding == (5 - found >= exact(holds.partition(">=")[2] or "1") * 5)
        seen.add(holding)
    assert len(seen) == 2


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("share", ["1", "0.6"])
def test_a_passage_is_judged_as_if_it_were_in_the_corpus(similarity, share):
    holds = f"out@2>={share}"
    model = Passages(*encoder(), CORPUS, QUERIES, holds=holds, similarity=similarity)
    result = evaluate(model, PASSAGES, WordEdits(1, substitutes=lambda word: WORDS), waive={"chance": "few"})
    assert result.class_name(0) == "holds"
    threat, allowed = WordEdits(1, substitutes=lambda word: WORDS), floor((1 - exact(share)) * len(QUERIES))
    for passage, correct, robust in zip(PASSAGES, result.correct, result.robust, strict=True):
        texts = [edited(passage, [option]) for site in threat.sites(passage) for option in site.options]
        counts = [coming_up(text, 2, similarity=similarity) for text in (passage, *texts)]
        assert correct == (counts[0] <= allowed)
        assert robust == (max(counts) <= allowed)


def test_robust_passages_in_a_ball_are_those_of_the_closed_form():
    """With dot products the margin of one query is linear in the embeddings: its worst case is known."""
    model = Passages(*encoder(), CORPUS, QUERIES[:1], holds="out@2", similarity="dot")
    clean = model.encode(model.read(PASSAGES))
    margins, lengths = [], []
    for i, passage in enumerate(PASSAGES):
        batch = model.batch(clean.take([i]))
        margins.append(float(model.logits(batch.x, batch.context)[0, 0]))
        words = len(passage.split())
        lengths.append(words / (words + 2))  # [CLS] and [SEP] stay
    norm = float(model.queries.vectors.norm())
    worst = [margin / norm / share for margin, share in zip(margins, lengths, strict=True)]
    eps = sorted(worst)[2] * 0.999
    result = evaluate(model, PASSAGES, EmbeddingBall(eps), profile="release", waive={"chance": "few"})
    assert result.robust.tolist() == [margin > eps for margin in worst]
    assert 0 < result.robust.sum() < len(PASSAGES)


@pytest.mark.parametrize("threat", [Suffix(2, words=WORDS), WordEdits(2, substitutes=lambda word: WORDS)])
def test_changed_passages_come_up_and_prefixes_stay(threat):
    prefixes = {"document_prefix": "is very ", "query_prefix": "the "}
    model = Passages(*encoder(), CORPUS, QUERIES, holds="out@2>=0.8", **prefixes)
    result = evaluate(model, ["the poor film", "poor poor poor"], threat, waive={"chance": "few"})
    assert result.changed
    for texts in result.changed.values():
        assert all(text.startswith("is very ") for text in texts)
        before, after = (coming_up(text.removeprefix("is very "), 2, "the ", document_prefix="is very ") for text in texts)
        assert before <= 1 < after
    other = Retriever(*encoder(), CORPUS, holds="top-1", document_prefix="is very ")
    assert torch.equal(model.corpus.vectors, other.corpus.vectors)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"holds": "hit@3"}, "cannot be read; write it like 'out@10' or 'out@10>=0.95'"),
        ({"holds": "out@0"}, "cannot be read"),
        ({"holds": "out@3>=0"}, "a share lies above 0 and at most at 1"),
        ({"holds": "out@3>=many"}, "is not a number"),
        ({"holds": "out@9"}, "first 9 results of 8 documents every passage is one; ask for fewer"),
        ({"queries": "good film"}, "give a list of texts"),
        ({"queries": ["good film", " "]}, "of which none is empty"),
        ({"queries": []}, "give a list of texts"),
        ({"pooling": "max"}, "pooling='max' is not known"),
    ],
)
def test_what_cannot_be_asked_is_refused(options, words):
    with pytest.raises(ModelError, match=words):
        Passages(*encoder(), CORPUS, options.pop("queries", QUERIES), **{"holds": "out@1", **options})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "give a list of passages"),
        ([("a text", 1)], "give a list of passages"),
        (["great film", " "], "passage 1 is empty"),
    ],
)
def test_what_are_no_passages_is_refused(data, words):
    with pytest.raises(PreflightError, match=words):
        evaluate(Passages(*encoder(), CORPUS, QUERIES, holds="out@1"), data, Suffix(1, words=WORDS))


def test_passages_have_no_metrics_that_fluctuate():
    with pytest.raises(ModelError, match="fluctuation is for a Retriever"):
        fluctuation(Passages(*encoder(), CORPUS, QUERIES, holds="out@1"), PASSAGES, WordEdits(1, substitutes={}))
