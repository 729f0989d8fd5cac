"""Budgets in units of a model's token embeddings."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from text_models import SummedLinear, tokenizer

import pytest_robust
from pytest_robust import EmbeddingBall, Linf, ModelError, ThreatError, adapt, curve, evaluate
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.typos import _of_samples, _of_vectors
from pytest_robust.evaluation.units import as_text
from pytest_robust.models.edited import Edited
from pytest_robust.models.units import nearest, units_of
from pytest_robust.threats import CharacterEdits, ThreatSummary, make
from pytest_robust.threats.edits import edited

pytest.importorskip("transformers")

PRAISE, BLAME = ("good", "fine", "great"), ("bad", "poor", "awful")
TEXTS = [
    (f"the {thing} was {degree} {word}", int(word in PRAISE))
    for thing, degree, word in itertools.product(("film", "plot"), ("very", "not"), (*PRAISE, *BLAME))
]
WAIVE = {"chance": "few texts"}


def known(scale=1.0):
    """A classifier by the first coordinate, in which words of praise and of blame stand apart, and its tokenizer."""
    tokens = tokenizer()
    model = SummedLinear(len(tokens), dimensions=2).eval()
    with torch.no_grad():
        model.embeddings.weight.normal_(generator=torch.Generator().manual_seed(0))
        for word, sign in (*((word, 1.5) for word in PRAISE), *((word, -1.5) for word in BLAME)):
            model.embeddings.weight[tokens.get_vocab()[word], 0] += sign
        model.embeddings.weight.mul_(scale)
        model.head.weight.copy_(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]) / scale)
        model.head.bias.zero_()
    return model, tokens


def ordinary(model, tokens):
    special = {0, 1, 2, 3}
    return model.embeddings.weight.detach().double()[[i for i in range(len(tokens)) if i not in special]]


def right(pair):
    model, tokens = pair
    return [(text, int(model(**tokens([text], return_tensors="pt")).argmax())) for text, _ in TEXTS]


@pytest.mark.parametrize(("norm", "order"), [("l2", 2), ("linf", torch.inf)])
def test_units_are_what_the_table_of_ordinary_tokens_says(norm, order):
    model, tokens = known()
    table = ordinary(model, tokens)
    apart = torch.cdist(table, table, order).fill_diagonal_(torch.inf).amin(1)
    found = pytest_robust.units((model, tokens), norm=norm)
    assert (found.tokens, found.features) == (len(tokens) - 4, 2)
    assert found.median == pytest.approx(float(table.norm(order, dim=1).median()))
    assert found.nearest == pytest.approx(float(apart.median()))
    assert found.near == pytest.approx(float(apart.quantile(0.05)))
    assert f"1%norm is {found.median / 100:.4g}" in str(found)


def test_tokens_that_are_named_unused_or_beyond_the_table_do_not_count():
    model, tokens = known()
    tokens.add_tokens(["[unused1]", "<extra_id_0>", "beyond"])
    bigger = SummedLinear(len(tokens) - 1, dimensions=2).eval()
    with torch.no_grad():
        bigger.embeddings.weight.fill_(100.0)
        bigger.embeddings.weight[: len(model.embeddings.weight)] = model.embeddings.weight
    assert units_of(adapt((bigger, tokens)), "l2") == units_of(adapt((model, tokenizer())), "l2")


def test_the_scale_of_the_embedding_module_counts():
    """As in Gemma: what the module returns is not its weight."""
    model, tokens = known()

    class Scaled(torch.nn.Embedding):
        def forward(self, ids):
            return 7 * super().forward(ids)

    table = Scaled(*model.embeddings.weight.shape)
    table.weight = model.embeddings.weight
    plain = pytest_robust.units((model, tokens)).median
    model.embeddings = table
    assert pytest_robust.units((model, tokens)).median == pytest.approx(7 * plain)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_budget_is_the_radius_that_is_shown(norm):
    pair = known()
    data, card = right(pair), pytest_robust.units(pair, norm=norm)
    for eps, radius in (("10%norm", card.median / 10), ("0.1norm", card.median / 10), ("0.5nn", card.nearest / 4)):
        result = evaluate(pair, data, EmbeddingBall(eps, norm=norm), waive=WAIVE)
        assert radius * 0.999 < result.threat.value <= radius
        assert str(result.threat) == f"{norm} {eps} ({result.threat.value:.4g})"
        assert result.threat.scale == pytest.approx(card.median)
        plain = evaluate(pair, data, EmbeddingBall(f"{result.threat.value:.4g}", norm=norm), waive=WAIVE)
        assert plain.threat.value == result.threat.value
        assert plain.robust.tolist() == result.robust.tolist()
        assert plain.threat.scale is None


def test_embeddings_of_another_scale_make_another_radius_and_no_other_outcome():
    small, large = (evaluate(pair, right(pair), EmbeddingBall("10%norm"), waive=WAIVE) for pair in (known(), known(16.0)))
    assert large.threat.value == pytest.approx(16 * small.threat.value, rel=1e-3)
    assert large.robust.tolist() == small.robust.tolist()
    assert 0 < sum(small.robust) < len(TEXTS)


def test_typo_one_is_where_vectors_do_as_much_as_the_worst_of_ten_typos():
    pair = known()
    data = right(pair)
    result = evaluate(pair, data, EmbeddingBall("typo:1"), waive=WAIVE)
    assert str(result.threat).startswith("l2 typo:1 (")
    assert evaluate(pair, data[::-1], EmbeddingBall("typo:1"), waive=WAIVE, batch_size=3).threat == result.threat

    model, edits = adapt(pair), CharacterEdits(1)
    seen = Edited(model, sites=edits.sites, edited=edited, most_options=edits.most_options)
    examples = model.read(data)
    wanted = _of_samples(seen, Passes(seen, 32), examples, edits)
    encoded = model.encode(examples)
    at = [_of_vectors(model, Passes(model, 32), encoded, EmbeddingBall(by * result.threat.value)) for by in (0.97, 1.01)]
    assert at[0] < wanted <= at[1]


def test_the_passes_of_the_calibration_are_counted():
    pair = known()
    data = right(pair)
    typed = evaluate(pair, data, EmbeddingBall("typo:1"), waive=WAIVE)
    plain = evaluate(pair, data, EmbeddingBall(typed.threat.value), waive=WAIVE)
    assert typed.cost.forward - plain.cost.forward > 24 * 10 * 10


def test_typos_that_change_nothing_have_no_radius():
    model, tokens = known()
    data = [
        (f"{verb} {word}", int(model(**tokens([f"{verb} {word}"], return_tensors="pt")).argmax()))
        for verb in ("is", "was", "not", "the")
        for word in ("bad", "not")
    ]
    with pytest.raises(ThreatError, match=r"typo:1 has no radius here: .* does less than .* give eps as '2%norm', or"):
        evaluate((model, tokens), data, EmbeddingBall("typo:1"), waive=WAIVE)


def test_typos_are_not_measured_on_a_model_of_draws():
    with pytest.raises(ThreatError, match="with draws each pass is another"):
        evaluate(known(), TEXTS, EmbeddingBall("typo:1"), draws=4)


@pytest.mark.parametrize(("norm", "eps"), [("linf", "8/255"), ("l2", "0.5/255")])
def test_a_pixel_budget_is_refused_with_the_units_of_the_model(norm, eps):
    pair = known()
    card = pytest_robust.units(pair, norm=norm)
    with pytest.raises(ThreatError) as refused:
        evaluate(pair, TEXTS, EmbeddingBall(eps, norm=norm))
    first, *rest = str(refused.value).splitlines()
    value = float(eps.split("/")[0]) / 255
    size = value * 2**0.5 if norm == "linf" else value
    assert first.startswith(f"eps {eps} is {100 * size / card.length:.2g}% of a token norm, ")
    assert first.endswith(
        "it is a pixel budget; for text use CharacterEdits(k), WordEdits(k, substitutes=...), or eps='1%norm'"
    )
    assert "\n".join(rest) == str(card)


def test_units_are_for_embedding_balls_and_models_of_text():
    with pytest.raises(ThreatError, match="eps 2%norm is in a unit of token embeddings; it is for EmbeddingBall"):
        Linf("2%norm")
    with pytest.raises(ThreatError, match="k counts edits and must be a whole number, got 2nn"):
        CharacterEdits("2nn")
    with pytest.raises(ThreatError, match="eps nn has no size without a model"):
        EmbeddingBall("nn").region(torch.zeros(1, 2, 3))
    with pytest.raises(ModelError, match="Linear has no token embeddings to measure"):
        pytest_robust.units(torch.nn.Linear(2, 2))


def test_a_curve_has_budgets_in_units():
    pair = known()
    data = right(pair)
    found = curve(pair, data, EmbeddingBall("40%norm"), budgets=["10%norm", "20%norm"], waive=WAIVE)
    assert list(map(str, found.budgets)) == ["10%norm", "20%norm"]
    for eps in found.budgets:
        one = evaluate(pair, data, EmbeddingBall(str(eps)), waive=WAIVE)
        assert found.at(str(eps)).threat == one.threat
        assert found.at(str(eps)).robust.tolist() == one.robust.tolist()
    with pytest.raises(ValueError, match="budget 50%norm is above the threat's own, 40%norm"):
        curve(pair, data, EmbeddingBall("40%norm"), budgets=["50%norm"], waive=WAIVE)


def test_a_radius_of_a_baseline_is_kept_while_the_scale_is_the_same():
    pair = known(1.02)
    before = evaluate(known(), right(known()), EmbeddingBall("10%norm"), waive=WAIVE).threat
    kept = evaluate(pair, right(pair), EmbeddingBall("10%norm", earlier=before), waive=WAIVE)
    assert (kept.threat.eps, kept.threat.value) == (before.eps, before.value)
    assert any("as in the baseline, where the median norm of a token was" in note for note in kept.notes)
    far = replace(before, scale=before.scale * 1.1)
    anew = evaluate(pair, right(pair), EmbeddingBall("10%norm", earlier=far), waive=WAIVE)
    assert anew.threat == evaluate(pair, right(pair), EmbeddingBall("10%norm"), waive=WAIVE).threat
    assert not any("baseline" in note for note in anew.notes)


def test_another_radius_is_not_compared():
    old, new = (evaluate(pair, right(known()), EmbeddingBall("10%norm"), waive=WAIVE) for pair in (known(), known(1.5)))
    found = pytest_robust.compare(old, new)
    assert found.unlike == "incomparable"
    assert any(reason.startswith(f"eps differs: {old.threat.eps} in the baseline") for reason in found.reasons)


def test_a_kept_radius_has_the_identity_of_one_that_was_measured():
    pair = known()
    data = right(pair)
    first = evaluate(pair, data, EmbeddingBall("10%norm"), waive=WAIVE)
    kept = evaluate(pair, data, EmbeddingBall("10%norm", earlier=first.threat), waive=WAIVE)
    assert kept.identity == first.identity
    assert pytest_robust.compare(first, kept).unlike is None


def test_moved_vectors_are_held_against_the_nearest_token():
    """Of five tokens that may move one is put onto another token, the others stay."""
    model, tokens = known()
    adapted = adapt((model, tokens))
    encoded = adapted.encode(adapted.read([("the film was very good", 1)]))
    batch = adapted.batch(encoded.take([0]))
    point = batch.x[0].clone()
    point[5] = model.embeddings.weight[tokens.get_vocab()["bad"]]
    (note,) = as_text(EmbeddingBall(9), adapted, encoded, {0: point.detach()}, 0)
    assert note.endswith("put to the nearest token each, 1 of 5 tokens of 1 broken texts change")
    (note,) = as_text(EmbeddingBall(9), adapted, encoded, {0: (batch.x[0] + 1e-4).detach()}, 0)
    assert note.endswith("no token changes at this radius (5 tokens of 1 broken texts)")
    assert as_text(EmbeddingBall(9), adapted, encoded, {}, 0) == ()
    distance, found = nearest(adapted, point[5:6].detach().double(), "l2")
    assert (float(distance), int(found)) == (0.0, tokens.get_vocab()["bad"])


def test_make_knows_edits_by_name():
    for space in ("embedding", "text"):
        threat = make("characters", "2", space=space)
        assert isinstance(threat, CharacterEdits)
        assert str(threat.summary()) == "characters 2"
    with pytest.raises(ThreatError, match="'characters' counts edits of texts, and this model takes tensors; use linf, l2"):
        make("characters", 2)
    with pytest.raises(ThreatError, match="must be a whole number, got 0.5"):
        make("characters", "0.5", space="embedding")
    with pytest.raises(ThreatError, match="l2 0.5 moves numbers, and here texts are edited; use norm 'characters'"):
        make("l2", "0.5", space="text")


def test_a_summary_without_a_scale_is_one_of_an_older_baseline():
    assert ThreatSummary("l2", "0.5", 0.5, "embedding", "unbounded").scale is None
