from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from text_models import Classifier, tokenizer
from torch import nn

from pytest_robust import CharacterEdits, EmbeddingBall, Retriever, RetrieverFunction, evaluate, fluctuation
from pytest_robust.errors import ModelError, PreflightError, ThreatError
from pytest_robust.evaluation.identity import digest
from pytest_robust.evaluation.means import Metric
from pytest_robust.models.holds import Holds
from pytest_robust.models.rankings import ndcg, overlap, ranked, rbo, recall, reciprocal_rank
from pytest_robust.threats.edits import edited

pytest.importorskip("transformers")

WORDS = ["the", "film", "plot", "was", "is", "good", "fine", "great", "bad", "poor", "awful", "very"]


class Encoder(Classifier):
    """The hidden states are the embeddings: a query's vector is the mean of its tokens'."""

    def __init__(self, vectors: torch.Tensor) -> None:
        super().__init__(*vectors.shape)
        self.config = SimpleNamespace(num_labels=0, is_encoder_decoder=False)
        self.embeddings = nn.Embedding.from_pretrained(vectors, freeze=False)

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None):
        hidden = self.embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        return SimpleNamespace(last_hidden_state=hidden)


def encoder(dimensions=6, seed=0):
    tokens = tokenizer(WORDS)
    return Encoder(torch.randn(len(tokens), dimensions, generator=torch.Generator().manual_seed(seed))).eval(), tokens


CORPUS = {
    "d1": "the film was good", "d2": "the film was bad", "d3": "the plot is fine", "d4": "the plot is poor",
    "d5": "great film", "d6": "awful plot", "d7": "very very good", "d8": "very bad film is awful",
}  # fmt: skip
QUERIES = [
    ("good film", ["d1", "d5"]),
    ("bad plot", ["d4", "d6"]),
    ("very awful film", {"d8": 2, "d2": 1}),
    ("fine plot", ["d3"]),
]


@pytest.mark.parametrize("holds", ["hit@3", "recall@3>=0.5", "recall@4>=1", "overlap@3>=0.6", "top-1"])
@pytest.mark.parametrize("ties", [False, True])
def test_the_sign_of_the_margin_is_what_holds(holds, ties):
    condition = Holds.parse(holds)
    random = torch.Generator().manual_seed(0)
    for _ in range(300):
        scores, wanted = torch.randn(9, generator=random), torch.zeros(9, dtype=torch.bool)
        scores = (2 * scores).round() if ties else scores
        size = condition.k if not condition.judged else int(torch.randint(1, 5, (1,), generator=random))
        wanted[torch.randperm(9, generator=random)[:size]] = True
        found = int(wanted[ranked(scores.unsqueeze(0))[0, : condition.k]].sum())
        needed = 1 if condition.share is None else condition.share * (size if condition.judged else condition.k)
        assert (float(condition.margin(scores, wanted)) >= 0) == (found >= needed)


@pytest.mark.parametrize("holds", ["ndcg@3>=0.5", "ndcg@1>=1", "rbo>=0.7", "rbo>=1"])
@pytest.mark.parametrize("ties", [False, True])
def test_the_sign_of_the_margin_of_a_value_is_what_holds_and_its_gradient_a_guide(holds, ties):
    condition = Holds.parse(holds)
    random, seen = torch.Generator().manual_seed(0), set()
    for _ in range(200):
        scores, other = torch.randn(2, 9, generator=random)
        scores = ((2 * scores).round() if ties else scores).requires_grad_()
        if condition.judged:
            wanted = condition.relevant((torch.rand(9, generator=random) < 0.3) * torch.arange(1.0, 10.0).double())
            if not wanted.any():
                continue
            value = float(ndcg(ranked(scores.detach().unsqueeze(0)), wanted.unsqueeze(0), condition.k))
        else:
            wanted = condition.found(torch.where(other > 1, other, scores.detach()))
            value = float(rbo(ranked(scores.detach().unsqueeze(0)), wanted.unsqueeze(0)))
        margin = condition.margin(scores, wanted)
        assert bool(margin >= 0) == (value >= condition.limit)
        seen.add(bool(margin >= 0))
        (grad,) = torch.autograd.grad(margin, scores)
        assert (grad * condition.weights(wanted)).sum() > 0
        assert grad.sum() == pytest.approx(0, abs=1e-4)
    assert len(seen) == 2 or condition.limit == 1


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_logits_are_the_margin_of_the_scores(similarity):
    model, tokens = encoder()
    retriever = Retriever(model, tokens, CORPUS, holds="hit@2", similarity=similarity)
    examples = retriever.read(QUERIES)
    encoded = retriever.encode(examples)
    grades = retriever.corpus.grades(examples)
    assert grades.sum(1).tolist() == [2, 2, 3, 1]
    scores = retriever.scores([query for query, _ in QUERIES])
    for i in range(len(QUERIES)):
        batch = retriever.batch(encoded.take([i]))
        logits = retriever.logits(batch.x, batch.context)[0]
        known = retriever.corpus.holds.margin(scores[i], grades[i] > 0)
        torch.testing.assert_close(logits, torch.stack([known, torch.zeros(())]))


def test_documents_may_come_as_vectors():
    model, tokens = encoder()
    texts = Retriever(model, tokens, CORPUS, holds="top-1")
    vectors = Retriever(model, tokens, (texts.corpus.ids, texts.corpus.vectors.numpy()), holds="top-1")
    torch.testing.assert_close(texts.scores(["good film"]), vectors.scores(["good film"]))


def test_robust_queries_in_a_ball_are_those_of_the_closed_form():
    """With dot products the margin of the first result to any other is linear in the embeddings: its worst case is known."""
    model, tokens = encoder(dimensions=4, seed=3)
    retriever = Retriever(model, tokens, CORPUS, holds="top-1", similarity="dot")
    queries = [f"{a} {b}" for a in WORDS[5:11] for b in ("film", "plot")]
    scores = retriever.scores(queries)
    documents = retriever.corpus.vectors
    worst = []
    for row in scores:
        first = int(row.argmax())
        others = [i for i in range(len(row)) if i != first]
        # Two of the four tokens move (not [CLS] and [SEP]), each by eps; the vector is the mean of four.
        worst.append(min(float((row[first] - row[i]) / (documents[first] - documents[i]).norm() * 4 / 2) for i in others))
    eps = sorted(worst)[len(worst) // 2] * 0.999
    result = evaluate(retriever, queries, EmbeddingBall(eps), profile="release")
    assert result.correct.all()
    assert result.robust.tolist() == [margin > eps for margin in worst]
    assert 0 < result.robust.sum() < len(queries)


def test_a_typo_that_hides_the_only_word_of_a_query_is_found():
    model, tokens = encoder()
    retriever = Retriever(model, tokens, CORPUS, holds="top-1")
    queries = ["great film", "awful plot", "the film", "very good"]
    result = evaluate(retriever, queries, CharacterEdits(1))
    assert result.class_name(0) == "holds"
    with torch.no_grad():
        for i, (clean, changed) in result.changed.items():
            assert int(retriever.scores([clean]).argmax()) != int(retriever.scores([changed]).argmax())
            assert queries[i] == clean
    threat = CharacterEdits(1)
    for query, robust in zip(queries, result.robust, strict=True):
        texts = [edited(query, [option]) for site in threat.sites(query) for option in site.options]
        found = {int(row.argmax()) for row in retriever.scores([query, *texts])}
        assert bool(robust) == (len(found) == 1)


def test_prefixes_are_read_and_never_edited():
    model, tokens = encoder()
    retriever = Retriever(model, tokens, CORPUS, holds="top-1", query_prefix="very great ")
    result = evaluate(retriever, ["awful film", "poor plot"], CharacterEdits(2), attacks="edit-search")
    assert all(changed.startswith("very great ") for _, changed in result.changed.values())
    assert result.changed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"holds": "hit@0"}, "cannot be read; write it like"),
        ({"holds": "recall@10"}, "cannot be read"),
        ({"holds": "recall@3>=2"}, "a share lies above 0 and at most at 1"),
        ({"holds": "hit@9"}, "asks for 9 results, and there are 8 documents"),
        ({"similarity": "l2"}, "similarity='l2' is not known"),
        ({"pooling": "max"}, "pooling='max' is not known"),
        ({"corpus": {}}, "the corpus is empty"),
        ({"corpus": (["a", "b"], torch.ones(3, 6))}, r"vectors of shape \(3, 6\) for 2 texts; give a row for each"),
        ({"corpus": (["a", "b"], [["x"], ["y"]])}, "vectors that are no numbers"),
        ({"corpus": ["the film", "the plot", "the cast"]}, "the corpus is a list; give a mapping from ids to texts"),
        ({"corpus": {"a": 3}}, "the document 'a' is a int, where a text is needed"),
        ({"pooling": lambda hidden, attended: hidden}, "pooling returned .* where one vector per text"),
        ({"corpus": (["a", "a"], torch.ones(2, 6))}, "an id twice"),
        ({"corpus": (["a", "b"], torch.tensor([[1.0] * 6, [math.nan] * 6]))}, "document 'b' is NaN"),
    ],
)
def test_what_is_no_retriever_is_refused(options, words):
    model, tokens = encoder()
    with pytest.raises(ModelError, match=words):
        Retriever(model, tokens, options.pop("corpus", CORPUS), **{"holds": "hit@1", **options})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "give a list of"),
        (["a query"], "query 0 has no relevant document"),
        ([("good film", [])], "query 0 has no relevant document"),
        ([("good film", ["d99"])], "names the document 'd99', which the corpus does not have"),
        ([("good film", "d1")], "give the ids of its relevant documents as a list"),
        ([("good film", {"d1": "very"})], "a mapping to grades"),
        ([("good film", ["d1"]), (" ", ["d1"])], "query 1 is empty; drop it"),
        ([3], "example 0 is a int"),
    ],
)
def test_what_are_no_judged_queries_is_refused(data, words):
    model, tokens = encoder()
    with pytest.raises(PreflightError, match=words):
        evaluate(Retriever(model, tokens, CORPUS, holds="hit@2"), data, CharacterEdits(1))


def test_a_query_for_which_no_results_could_hold_is_refused():
    model, tokens = encoder()
    retriever = Retriever(model, tokens, CORPUS, holds="recall@2>=1")
    data = [("fine plot", ["d3"]), ("good film", ["d1", "d5", "d7"])]
    words = "query 1 has 3 relevant documents, of which 'recall@2>=1' needs 3: more than there are results"
    with pytest.raises(PreflightError, match=words):
        retriever.read(data)
    examples = Retriever(model, tokens, CORPUS, holds="recall@3>=1").read(data)
    with pytest.raises(PreflightError, match=words):
        retriever.read(examples)


@pytest.mark.parametrize(("first", "holds"), [("other", False), ("d5", True)])
def test_of_equal_documents_the_first_comes_first(first, holds):
    """A relevant document behind another with the same vector is not the first result, though no score is higher."""
    model, tokens = encoder()
    corpus = {first: "great film", "other": "great film", "d5": "great film", "d2": "awful plot"}
    retriever = Retriever(model, tokens, corpus, holds="hit@1")
    data = [("great film", ["d5"]), ("awful plot", ["d2"])]
    result = evaluate(retriever, data, CharacterEdits(1), waive={"chance": "few"})
    assert result.correct.tolist() == [holds, True]


def test_documents_of_another_encoder_are_refused():
    model, tokens = encoder()
    other = Retriever(model, tokens, (["a", "b"], torch.eye(5)[:2]), holds="top-1")
    with pytest.raises(ModelError, match="queries are encoded to 6 dimensions, and documents have 5"):
        evaluate(other, ["good film", "bad plot"], CharacterEdits(1))


def test_a_retriever_is_the_same_model_whatever_it_was_asked():
    """Else what was finished is not found again when tests run in another order."""
    model, tokens = encoder()
    used, fresh, other = (Retriever(model, tokens, CORPUS, holds=holds) for holds in ("top-1", "top-1", "hit@2"))
    before = digest(used)
    evaluate(used, ["great film", "awful plot"], CharacterEdits(1), attacks="edit-search")
    again = [evaluate(each, ["the film", "very good"], CharacterEdits(1), attacks="edit-search") for each in (used, fresh)]
    assert again[0].identity.model is not None
    assert again[0].identity == again[1].identity
    assert before != digest(other)


def as_function(model, tokens):
    """The encoder as a function from texts to vectors, of which nothing else is known."""

    @torch.no_grad()
    def encode(texts):
        encoded = [tokens([text], return_tensors="pt") for text in texts]
        return np.stack([model(**one).last_hidden_state.mean(1).squeeze(0).numpy() for one in encoded])

    return encode


@pytest.mark.parametrize("holds", ["hit@2", "top-1", "overlap@3>=0.6", "ndcg@3>=0.5", "rbo>=0.8"])
def test_a_function_from_texts_to_vectors_is_broken_by_what_breaks_the_encoder(holds):
    model, tokens = encoder()
    known = Retriever(model, tokens, CORPUS, holds=holds)
    black_box = RetrieverFunction(as_function(model, tokens), CORPUS, holds=holds)
    threat = CharacterEdits(1)
    result = evaluate(black_box, QUERIES, threat, profile="release", waive={"chance": "few"})
    examples = known.read(QUERIES)
    for i, (query, _) in enumerate(QUERIES):
        if known.corpus.holds.judged:
            wanted = known.corpus.relevant(examples.references[i])
        else:
            wanted = known.corpus.holds.found(known.scores([query])[0])
        texts = [query] + [edited(query, [option]) for site in threat.sites(query) for option in site.options]
        margins = [float(known.corpus.holds.margin(row, wanted)) for row in known.scores(texts)]
        assert bool(result.correct[i]) == (margins[0] >= 0)
        assert bool(result.robust[i]) == (min(margins) >= 0)
    assert result.class_name(1) == "fluctuates"
    one, other = (fluctuation(each, QUERIES, threat, samples=3) for each in (known, black_box))
    np.testing.assert_allclose(one["rbo"].samples, other["rbo"].samples)


def test_the_prefix_of_a_function_is_never_edited():
    model, tokens = encoder()
    retriever = RetrieverFunction(as_function(model, tokens), CORPUS, holds="top-1", query_prefix="very great ")
    result = evaluate(retriever, ["awful film", "poor plot"], CharacterEdits(2))
    assert result.changed
    assert all(changed.startswith("very great ") for _, changed in result.changed.values())


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda texts: [1.0] * len(texts), r"lambda.* has vectors of shape \(8,\) for 8 texts"),
        (lambda texts: ["a"] * len(texts), "vectors that are no numbers"),
        (lambda texts: np.full((len(texts), 3), np.nan), "the document 'd1' is NaN"),
        (lambda texts: 1 / 0, "raised ZeroDivisionError on 8 texts"),
        ("encoder", "RetrieverFunction takes a function of a list of texts, got a str"),
    ],
)
def test_functions_that_give_no_vectors_are_refused(function, words):
    with pytest.raises(ModelError, match=words):
        RetrieverFunction(function, CORPUS, holds="top-1")


def test_balls_are_refused_where_only_texts_can_change():
    model, tokens = encoder()
    black_box = RetrieverFunction(as_function(model, tokens), CORPUS, holds="top-1")
    with pytest.raises(ThreatError, match="use CharacterEdits"):
        evaluate(black_box, ["good film", "bad plot"], EmbeddingBall(0.1))
    with pytest.raises(ThreatError, match="fluctuation tries random edits of texts, and EmbeddingBall is none"):
        fluctuation(Retriever(model, tokens, CORPUS, holds="top-1"), ["good film"], EmbeddingBall(0.1))


def test_metrics_are_those_worked_by_hand():
    ranking, grades = torch.tensor([[2, 0, 1, 3]]), torch.tensor([[1.0, 0.0, 0.0, 2.0]])
    assert recall(ranking, grades, 2).tolist() == [0.5]
    assert reciprocal_rank(ranking, grades, 3).tolist() == [0.5]
    assert reciprocal_rank(ranking, grades, 1).tolist() == [0]
    reached, ideal = 1 / math.log2(3) + 2 / math.log2(5), 2 + 1 / math.log2(3)
    assert float(ndcg(ranking, grades, 4)) == pytest.approx(reached / ideal)
    assert math.isnan(float(ndcg(ranking, torch.zeros(1, 4), 4)))
    other = torch.tensor([[0, 2, 3, 1]])
    assert overlap(ranking, other, 1).tolist() == [0]
    assert overlap(ranking, other, 2).tolist() == [1]


@given(st.permutations(range(8)), st.permutations(range(8)), st.floats(0.1, 0.95))
def test_rank_biased_overlap_is_that_of_its_definition(one, other, p):
    agreement = [len(set(one[:d]) & set(other[:d])) / d for d in range(1, 9)]
    known = (1 - p) * sum(a * p**d for d, a in enumerate(agreement)) + agreement[-1] * p**8
    found = rbo(torch.tensor([one]), torch.tensor([other]), p)
    assert float(found) == pytest.approx(known)
    assert float(rbo(torch.tensor([one]), torch.tensor([one]), p)) == pytest.approx(1)


def test_metrics_are_those_of_ir_measures():
    ir_measures = pytest.importorskip("ir_measures")
    random = torch.Generator().manual_seed(0)
    scores = torch.randn(20, 30, generator=random)
    grades = (torch.rand(20, 30, generator=random) > 0.8) * torch.randint(1, 4, (20, 30), generator=random)
    qrels = [ir_measures.Qrel(str(q), str(d), int(g)) for q, row in enumerate(grades) for d, g in enumerate(row) if g]
    run = [ir_measures.ScoredDoc(str(q), str(d), float(s)) for q, row in enumerate(scores) for d, s in enumerate(row)]
    known = ir_measures.calc_aggregate([ir_measures.nDCG @ 10, ir_measures.RR @ 10, ir_measures.R @ 10], qrels, run)
    ranking = ranked(scores)
    assert float(ndcg(ranking, grades, 10).nanmean()) == pytest.approx(known[ir_measures.nDCG @ 10])
    assert float(reciprocal_rank(ranking, grades, 10).nanmean()) == pytest.approx(known[ir_measures.RR @ 10])
    assert float(recall(ranking, grades, 10).nanmean()) == pytest.approx(known[ir_measures.R @ 10])


def test_fluctuation_is_that_of_the_edited_queries():
    model, tokens = encoder()
    retriever = Retriever(model, tokens, CORPUS, holds="hit@2")
    found = fluctuation(retriever, QUERIES, CharacterEdits(1), samples=6, seed=1)
    clean = ranked(retriever.scores([query for query, _ in QUERIES]))
    grades = retriever.corpus.grades(retriever.read(QUERIES))
    assert found["ndcg@10"].per_query.tolist() == pytest.approx(ndcg(clean, grades, 10).tolist())
    assert found["rbo"].clean == pytest.approx(1)
    for metric in found.metrics.values():
        assert metric.samples.shape == (len(QUERIES), 6)
        assert metric.worst <= metric.mean
        low, high = metric.interval()
        assert low <= metric.worst <= high
    assert found["top-1"].worst < 1
    assert "worst of 6" in str(found)
    assert repr(found["rbo"]) in str(found)
    worst = found.worst_texts("rbo")
    assert worst
    for one in worst:
        assert one.text == QUERIES[one.row][0] != one.edit
        again = rbo(ranked(retriever.scores([one.edit])), clean[one.row : one.row + 1])
        assert (one.before, one.after) == pytest.approx((1, float(again)))
    assert [one.after for one in worst] == sorted(one.after for one in worst)
    assert found.fixed == ()
    again = fluctuation(retriever, QUERIES[::-1], CharacterEdits(1), samples=6, seed=1)
    np.testing.assert_allclose(again["rbo"].samples[::-1], found["rbo"].samples)
    assert fluctuation(retriever, QUERIES, CharacterEdits(0), samples=2)["rbo"].worst == 1


def test_the_drop_is_that_of_queries_that_have_something_to_lose():
    metric = Metric("m", np.array([1.0, 0.5, 0.0]), np.array([[0.5, 1.0], [0.5, 0.25], [0.0, 0.0]]))
    assert (metric.clean, metric.mean, metric.worst) == pytest.approx((0.5, 0.375, 0.25))
    assert metric.drop == pytest.approx(0.5)


def test_queries_in_which_nothing_can_be_edited_are_said():
    model, tokens = encoder()
    found = fluctuation(Retriever(model, tokens, CORPUS, holds="top-1"), ["good film", "bad"], CharacterEdits(1), samples=2)
    assert found.fixed == (1,)
    assert "nothing can be edited in 1 of them" in str(found)


def test_queries_without_judgements_have_metrics_of_stability_only():
    model, tokens = encoder()
    found = fluctuation(Retriever(model, tokens, CORPUS, holds="top-1"), ["good film", "bad plot"], CharacterEdits(1))
    assert list(found.metrics) == ["rbo", "top-1"], "of ten documents all are always among the first ten"
    with pytest.raises(LookupError, match="no metric is called 'ndcg'; there is: rbo, top-1"):
        found["ndcg"]
    with pytest.raises(ValueError, match="samples must be a whole number"):
        fluctuation(Retriever(model, tokens, CORPUS, holds="top-1"), ["good film"], CharacterEdits(1), samples=0)
