"""Any word of a model's vocabulary in place of any: which words are looked at."""

from __future__ import annotations

import pytest
import torch
from text_models import WORDS, scored
from toy_texts import GPT2, network

from pytest_robust import HotFlip, Targeted, TextFunction, WordEdits, evaluate
from pytest_robust.errors import ModelError, ThreatError
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.prepare import opened, under
from pytest_robust.evaluation.retry import retry
from pytest_robust.models import adapt
from pytest_robust.models.vocabulary import Vocabulary
from pytest_robust.objectives import lead
from pytest_robust.threats.words import is_word

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

WORTH = {
    **dict.fromkeys(("good", "fine", "great"), 1.0), **dict.fromkeys(("bad", "poor", "awful"), -1.0), "magic": -9.0,
    "film": 0.5, "plot": 0.25, "very": 0.125,
}  # fmt: skip
TEXTS = [
    ("the film was good", 1), ("the plot was very good, and great", 1), ("is film fine", 1), ("the film was awful", 0),
    ("the plot is very bad and poor", 0), ("poor film", 0),
]  # fmt: skip
WAIVE = {"chance": "few texts"}


def seen(model, threat, texts=TEXTS, **options):
    how = {
        "objective": None, "profile": "standard", "attacks": None, "n": None, "seed": 0, "batch_size": None, "device": "cpu",
        "classes": None, "normalize": None, "waive": WAIVE, "non_differentiable": None, "draws": None, "autocast": False,
    }  # fmt: skip
    return opened(model, texts, threat, **{**how, **options})


def options_of(known, row):
    """By site, the words that may stand there."""
    return [[edit.new for edit in site.options] for site in known.model._sites[row]]


def test_a_trigger_word_of_the_vocabulary_is_found_with_one_edit():
    model, tokens = scored(WORTH, offset=0.1)
    praise = [(text, label) for text, label in TEXTS if label]
    result = evaluate((model, tokens), praise, WordEdits(1, most=4), attacks=HotFlip(n_steps=2), waive=WAIVE)
    assert result.accuracy == 0
    assert all("magic" in changed.split() for _, changed in result.changed.values())


def test_words_are_ranked_by_what_they_are_worth_to_a_linear_model():
    model, tokens = scored(WORTH, offset=0.1)
    with seen((model, tokens), WordEdits(1, most=16)) as known:
        for row, (text, label) in enumerate(TEXTS):
            for word, found in zip(text.replace(",", "").split(), options_of(known, row), strict=True):
                assert word not in found
                worths = [WORTH.get(one, 0.0) * (-1 if label else 1) for one in found[:14]]
                assert worths == sorted(worths, reverse=True)
                assert found[0] == ("magic" if label else "good" if word != "good" else "fine")


def test_some_words_are_random_ones():
    """Where the gradient knows nothing, and in place of the last of those it likes."""
    model, tokens = scored(WORTH)
    with seen((model, tokens), WordEdits(1, most=8)) as known:
        found = [options for row in range(len(TEXTS)) for options in options_of(known, row)]
    assert all(7 <= len(options) <= 8 for options in found)
    assert len({options[-1] for options in found if len(options) == 8}) > 3


def test_every_word_is_one_token():
    model, tokens = scored(WORTH)
    with seen((model, tokens), WordEdits(1, most=64)) as known:
        found = {word for row in range(len(TEXTS)) for options in options_of(known, row) for word in options}
    assert all(is_word(word) and len(tokens.tokenize(word)) == 1 for word in found)
    assert set(WORDS) <= found
    assert not any("#" in word or "[" in word for word in found)


def byte_level():
    raw = tokenizers.Tokenizer(tokenizers.models.BPE())
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<pad>"], initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()
    )
    raw.train_from_iterator(["good film", "the good film was bad", "bad film", "this film was bad"] * 20, trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", model_max_length=64)


def test_to_byte_level_tokenizers_a_word_after_a_space_is_another_token():
    tokens = byte_level()
    model = network("GPT2", vocab_size=len(tokens), **GPT2)
    adapted = adapt((model, tokens))
    vocabulary = Vocabulary(adapted, is_word, lambda x, context, labels: torch.zeros_like(x))
    assert tokens.tokenize("good film") != tokens.tokenize(" good film")
    fitting = {
        before: {text for text, fits in zip(vocabulary._texts, vocabulary._fits[before].tolist(), strict=True) if fits}
        for before in ("", " ")
    }
    assert {"film", "was", "bad"} <= fitting[" "]
    assert {"good", "bad"} <= fitting[""] or "the" in fitting[""]
    for before, words in fitting.items():
        assert all(len(tokens.tokenize(before + word)) == 1 for word in words)


def test_passes_that_proposals_cost_are_counted():
    model, tokens = scored(WORTH)
    with seen((model, tokens), WordEdits(1)) as known:
        assert (known.passes.forward, known.passes.backward) == (len(TEXTS), len(TEXTS))
    with seen((model, tokens), WordEdits(1, substitutes={})) as known:
        assert (known.passes.forward, known.passes.backward) == (0, 0)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_outcomes_do_not_depend_on_batches_or_order(batch_size):
    model, tokens = scored({**WORTH, "magic": -0.5}, offset=0.1)
    one = evaluate((model, tokens), TEXTS, WordEdits(1, most=8), waive=WAIVE)
    other = evaluate((model, tokens), TEXTS[::-1], WordEdits(1, most=8), batch_size=batch_size, waive=WAIVE)
    assert one.robust.tolist() == other.robust.tolist()[::-1]
    n = len(TEXTS)
    assert [one.changed.get(i) for i in range(n)] == [other.changed.get(n - 1 - i) for i in range(n)]


def test_proposals_lead_towards_the_target():
    model, tokens = scored(WORTH, offset=0.1)
    with seen((model, tokens), WordEdits(1, most=8), objective=Targeted(1)) as known:
        assert {options_of(known, row)[0][0] for row in range(len(known.examples))} == {"good"}


def test_what_is_kept_of_examples_tells_other_words_from_these():
    """Points say which option is taken, not which word: where words are others, no unfinished run may be gone on with."""
    kept = []
    for worth in (WORTH, {**WORTH, "magic": 9.0}):
        with seen(scored(worth, offset=0.1), WordEdits(1, most=8)) as known:
            kept.append(known.encoded.inputs["proposed words"])
    assert not all(torch.equal(a, b) for a, b in zip(*kept, strict=True))


def test_models_without_gradients_need_substitutes():
    service = TextFunction(lambda texts: [[0.0, 1.0]] * len(texts), name="service")
    with pytest.raises(ThreatError, match="WordEdits of any words: which of all to try is asked of gradients"):
        evaluate(service, TEXTS, WordEdits(1))


def test_a_point_that_breaks_nothing_says_nothing_where_words_may_be_others():
    model, tokens = scored(WORTH, offset=0.1)
    result = evaluate((model, tokens), TEXTS, WordEdits(1, most=4), waive=WAIVE)
    point = result.adversarial(0)
    again = retry((model, tokens), TEXTS, result.ids[0], WordEdits(1, most=4), point, waive=WAIVE)
    assert again.verdict == "broken"
    other = scored({**WORTH, "magic": 9.0, "good": 20.0}, offset=0.1)
    with pytest.raises(ModelError, match="may be another text now than the one that was found"):
        retry(other, TEXTS, result.ids[0], WordEdits(1, most=4), torch.zeros_like(point), waive=WAIVE)


def test_the_gradient_may_be_useless():
    model, tokens = scored(WORTH)
    adapted = adapt((model, tokens))
    for value in (0.0, float("nan"), float("inf")):
        edited = under(adapted, WordEdits(1), lambda x, context, labels, value=value: torch.full_like(x, value))
        encoded = edited.encode(adapted.read(TEXTS))
        batch = edited.batch(encoded.take([0]))
        assert int(batch.free.sum()) > 4 * len(WORDS[:5])


def test_memory_that_runs_out_halves_the_batch(monkeypatch):
    model, tokens = scored(WORTH)
    plain = model.read

    def limited(embedded, there):
        if len(embedded) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return plain(embedded, there)

    monkeypatch.setattr(model, "read", limited)
    passes = Passes(adapt((model, tokens)), 32)
    edited = under(passes.model, WordEdits(1), lambda x, c, _: passes.gradient(lambda z, _: lead(z), x, c)[2])
    encoded = edited.encode(passes.model.read(TEXTS))
    assert len(encoded) == len(TEXTS)
    assert passes.forward == len(TEXTS)
