from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from text_models import tokenizer

from pytest_robust import CharacterEdits, EmbeddingBall, Translator, TranslatorFunction, evaluate, fluctuation
from pytest_robust.errors import ModelError, PreflightError
from pytest_robust.evaluation.fluctuation import _of_translations
from pytest_robust.threats.edits import edited

transformers = pytest.importorskip("transformers")
chrf = pytest.importorskip("sacrebleu.metrics.chrf")

SOURCES = ["the film was good", "the plot is very bad", "great film", "magic was awful"]


def network(kind: str = "Bart", **more: Any) -> tuple[Any, Any]:
    tokens = tokenizer()
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
             "encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 80}  # fmt: skip
    special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 3}
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        config = getattr(transformers, f"{kind}Config")(vocab_size=len(tokens), **sizes, **special, **more)
        if kind == "Marian":
            model = transformers.MarianMTModel(config)
        else:
            model = getattr(transformers, f"{kind}ForConditionalGeneration")(config)
        # Random weights say the same whatever the source: larger ones do not.
        for parameter in model.parameters():
            parameter.data.mul_(6)
    return model.eval(), tokens


def greedy(model: Any, tokens: Any, text: str) -> str:
    ids = model.generate(**tokens([text], return_tensors="pt"), max_new_tokens=12, do_sample=False, num_beams=1)
    return tokens.batch_decode(ids, skip_special_tokens=True)[0]


def both_ways(one: str, other: str) -> float:
    score = chrf.CHRF().sentence_score
    return (score(one, [other]).score + score(other, [one]).score) / 200


@pytest.mark.parametrize("kind", ["Bart", "Marian"])
def test_logits_are_the_value_of_the_greedy_translation(kind):
    model, tokens = network(kind)
    translator = Translator(model, tokens, holds="chrf>=0.25", max_new_tokens=12)
    data = [(source, "great plot was fine") for source in SOURCES]
    encoded = translator.encode(translator.read(data))
    for i, source in enumerate(SOURCES):
        batch = translator.batch(encoded.take([i]))
        translation = greedy(model, tokens, source)
        assert translator.translate([source]) == [translation]
        value = chrf.CHRF().sentence_score(translation, ["great plot was fine"]).score / 100
        logits = translator.logits(batch.x, batch.context)
        torch.testing.assert_close(logits, torch.tensor([[value - 0.25, 0]], dtype=torch.float64))


def test_the_likelihood_is_that_of_the_model():
    model, tokens = network()
    translator = Translator(model, tokens, holds="nll<=0.5")
    data = [(source, "great plot was fine") for source in SOURCES]
    encoded = translator.encode(translator.read(data))
    labels = tokens(text_target="great plot was fine", return_tensors="pt")["input_ids"]
    for i, source in enumerate(SOURCES):
        batch = translator.batch(encoded.take([i]))
        moved = batch.x + 0.1 * torch.randn(batch.x.shape, generator=torch.Generator().manual_seed(i))
        columns = tokens([source], return_tensors="pt")
        length = columns["input_ids"].shape[1]
        with torch.no_grad():
            before = model(**columns, labels=labels).loss
            after = model(inputs_embeds=moved[:, :length], attention_mask=columns["attention_mask"], labels=labels).loss
            found = translator.logits(moved, batch.context)
        torch.testing.assert_close(found[0, 0], 0.5 - (after - before), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["Bart", "Marian"])
def test_what_breaks_is_translated_otherwise(kind):
    model, tokens = network(kind)
    translator = Translator(model, tokens, holds="consistency>=0.7", max_new_tokens=12)
    result = evaluate(translator, SOURCES, CharacterEdits(1), profile="smoke", waive={"room": "short words"})
    assert result.correct.all()
    assert result.changed
    for clean, changed in result.changed.values():
        assert both_ways(greedy(model, tokens, clean), greedy(model, tokens, changed)) < 0.7


def test_the_likelihood_falls_in_a_ball():
    model, tokens = network()
    translator = Translator(model, tokens, holds="nll<=0.1")
    wide = evaluate(translator, SOURCES, EmbeddingBall("80%norm"))
    narrow = evaluate(translator, SOURCES, EmbeddingBall("0.0001%norm"))
    assert not wide.robust.any()
    assert narrow.robust.all()


@pytest.mark.parametrize(
    ("holds", "words"),
    [
        ("bleu>=0.3", "cannot be read; write it like"),
        ("chrf>=30", "cannot be read"),
        ("nll<=", "cannot be read"),
        ("chrf>=x", "is not a number"),
    ],
)
def test_what_is_no_condition_is_refused(holds, words):
    with pytest.raises(ModelError, match=words):
        Translator(*network(), holds=holds)


def test_what_is_no_translator_is_refused():
    config = transformers.BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    with pytest.raises(ModelError, match="BertModel is no sequence-to-sequence model"):
        Translator(transformers.BertModel(config), tokenizer())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("a text", "data: a str; give a list of"),
        (["a source"], "source 0 has no reference to compare with"),
        ([("a source", " ")], "the reference of source 0 is empty"),
        ([("a source", 3)], "example 0 is a tuple"),
    ],
)
def test_what_are_no_translations_is_refused(data, words):
    with pytest.raises(PreflightError, match=words):
        evaluate(Translator(*network(), holds="chrf>=0.1"), data, CharacterEdits(1))


def test_without_sacrebleu_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu.metrics.chrf", None)
    with pytest.raises(ModelError, match=r"pip install 'pytest-robust\[mt\]'"):
        Translator(*network(), holds="chrf>=0.1")
    Translator(*network(), holds="nll<=0.1")


def test_a_model_that_was_trained_on_is_held_against_its_own_translations():
    model, tokens = network()
    translator = Translator(model, tokens, holds="consistency>=0.7", max_new_tokens=12)
    first = translator.encode(translator.read(SOURCES))
    batch = translator.batch(first.take([0]))
    assert float(translator.logits(batch.x, batch.context)[0, 0]) == pytest.approx(0.3)
    before = greedy(model, tokens, SOURCES[0])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.flip(0))
    assert greedy(model, tokens, SOURCES[0]) != before
    again = translator.encode(translator.read(SOURCES))
    batch = translator.batch(again.take([0]))
    assert float(translator.logits(batch.x, batch.context)[0, 0]) == pytest.approx(0.3)


def test_fluctuation_measures_translations_of_random_edits():
    model, tokens = network()
    translator = Translator(model, tokens, max_new_tokens=12)
    pairs = [*((source, "great plot was fine") for source in SOURCES[:3]), (SOURCES[3], greedy(model, tokens, SOURCES[3]))]
    found = fluctuation(translator, pairs, CharacterEdits(1), samples=4, seed=1)
    assert list(found.metrics) == ["chrf", "consistency"]
    score = chrf.CHRF().sentence_score
    own = [greedy(model, tokens, source) for source in SOURCES]
    wanted = [score(text, [reference]).score / 100 for text, (_, reference) in zip(own, pairs, strict=True)]
    np.testing.assert_allclose(found["chrf"].per_query, wanted)
    assert found["consistency"].clean == 1
    assert found["consistency"].worst < 1
    assert found["chrf"].per_query[3] == pytest.approx(1)
    assert 0 <= found.hallucinations <= found.true_successes <= 4
    assert f"hallucinations {found.hallucinations}" in str(found)
    alone = fluctuation(translator, SOURCES, CharacterEdits(1), samples=4, seed=1)
    assert list(alone.metrics) == ["consistency"]
    assert alone.hallucinations is None
    still = fluctuation(translator, pairs, CharacterEdits(0), samples=2)
    assert still["chrf"].worst == still["chrf"].clean
    assert (still.hallucinations, still.true_successes) == (0, 0)


def test_a_true_success_costs_more_than_it_changes():
    sources, references, clean = ["a source of some length"] * 2, ["a translation of it"] * 2, ["a translation of it"] * 2
    changed, after = [["a source of same length", "xyz"]], [["zzz", "zzz"]]
    found = _of_translations(sources, references, clean, changed, after)
    assert (found["true_successes"], found["hallucinations"]) == (1, 2), "what is nothing like the source proves nothing"


def test_models_that_write_nothing_do_not_fluctuate():
    with pytest.raises(ModelError, match="fluctuation is for a Retriever, a Translator, or a function as .* got a function"):
        fluctuation(lambda texts: texts, SOURCES, CharacterEdits(1))


@pytest.mark.parametrize("holds", ["consistency>=0.7", "chrf>=0.2"])
def test_a_function_of_texts_is_broken_by_what_breaks_the_translator(holds):
    model, tokens = network()
    known = Translator(model, tokens, holds=holds, max_new_tokens=12)
    black_box = TranslatorFunction(
        lambda texts: [greedy(model, tokens, text) for text in texts], holds=holds, name="service"
    )
    data = [(source, "great plot was fine") for source in SOURCES]
    threat = CharacterEdits(1)
    result = evaluate(black_box, data, threat, waive={"chance": "few"})
    references = [pair[1] for pair in data]
    for i, source in enumerate(SOURCES):
        wanted = references[i] if holds.startswith("chrf") else greedy(model, tokens, source)
        measure = (lambda a, b: chrf.CHRF().sentence_score(a, [b]).score / 100) if holds.startswith("chrf") else both_ways
        limit = 0.2 if holds.startswith("chrf") else 0.7
        texts = [source] + [edited(source, [option]) for site in threat.sites(source) for option in site.options]
        written = [greedy(model, tokens, text) for text in texts]
        values = [1.0 if one == wanted else measure(one, wanted) for one in written]
        assert bool(result.correct[i]) == (values[0] >= limit)
        assert bool(result.robust[i]) == (min(values) >= limit)
    one, other = (fluctuation(each, data, threat, samples=2) for each in (known, black_box))
    np.testing.assert_allclose(one["chrf"].samples, other["chrf"].samples)


@pytest.mark.parametrize(
    ("answer", "words"),
    [("one text", "returned 'one text' for"), ([], "for 1 texts; return a list"), ([3], "return a list of as many texts")],
)
def test_functions_that_return_no_texts_are_refused(answer, words):
    with pytest.raises(ModelError, match=words):
        evaluate(TranslatorFunction(lambda texts: answer), ["a source"], CharacterEdits(1))
    with pytest.raises(ModelError, match="a function has no likelihood"):
        TranslatorFunction(lambda texts: texts, holds="nll<=0.5")
