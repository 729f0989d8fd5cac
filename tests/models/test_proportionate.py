"""Translations that lose no more than was changed of their source."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from text_models import tokenizer
from torch import Tensor, nn

from pytest_robust import (
    CausalLM,
    CharacterEdits,
    EmbeddingBall,
    LatentBall,
    Translator,
    TranslatorFunction,
    WordEdits,
    evaluate,
    fluctuation,
)
from pytest_robust.attacks import HotFlip
from pytest_robust.errors import ModelError, PreflightError, ThreatError
from pytest_robust.models.similarity import proportion
from pytest_robust.threats.edits import edited

pytest.importorskip("transformers")
CHRF = pytest.importorskip("sacrebleu.metrics.chrf").CHRF

GERMAN = {"the": "der", "film": "Film", "was": "war", "good": "gut", "bad": "schlecht", "great": "grossartig"}
PAIRS = [
    ("the film was good", "der Film war gut"),
    ("the film was great", "der Film war toll"),
    ("great film", "grossartiger Film"),
    ("was the film bad", "war der Film schlecht"),
    ("good film", "xyz"),
]


def chrf(one: str, other: str) -> float:
    return 1.0 if one == other else CHRF().sentence_score(one, [other]).score / 100


def by_words(texts: list[str]) -> list[str]:
    """A word that is not known costs all that comes after it."""
    found = []
    for text in texts:
        known = [GERMAN.get(word) for word in text.split()]
        found.append(" ".join(word for word in known[: (*known, None).index(None)] if word))
    return found


def true_success(pair: tuple[str, str], changed: str) -> bool:
    """As the paper has it."""
    source, reference = pair
    before, after = (chrf(by_words([text])[0], reference) for text in (source, changed))
    return chrf(changed, source) + (max(0, (before - after) / before) if before else 0) > 1


class Planted(nn.Module):
    """Writes one translation; each lost key word of the source costs a word of it, and the third all but one."""

    def __init__(self, tokens: Any, written: str, keys: list[str]) -> None:
        super().__init__()
        self.config = SimpleNamespace(is_encoder_decoder=True)
        vocabulary = tokens.get_vocab()
        self.embeddings = nn.Embedding(len(tokens), 2).requires_grad_(False)
        self.embeddings.weight.zero_()[[vocabulary[key] for key in keys], 0] = 1
        self.written = [vocabulary[word] for word in written.split()]
        self.lengths = [1, len(self.written) - 2, len(self.written) - 1, len(self.written)]

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        return labels

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
    ) -> SimpleNamespace:
        embedded = self.embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        assert attention_mask is not None
        assert decoder_input_ids is not None
        keys = (embedded[..., 0] * attention_mask).sum(1).view(-1, 1, 1)
        hot = torch.nn.functional.one_hot(decoder_input_ids.clamp_min(0), self.embeddings.num_embeddings)
        return SimpleNamespace(logits=hot * keys, keys=keys.flatten())

    def generate(self, attention_mask: Tensor, input_ids: Tensor, **_: Any) -> Tensor:
        there = self(input_ids, attention_mask, decoder_input_ids=input_ids).keys.round().int().tolist()
        rows = [torch.tensor(self.written[: self.lengths[keys]]) for keys in there]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def planted() -> tuple[Translator, list[tuple[str, str]]]:
    tokens = tokenizer()
    source = "the film was not very good the plot is great and the magic is fine the film was poor"
    reference = 3 * "the film was good the plot is bad the film was fine " + "a b c"
    model = Planted(tokens, reference, ["great", "magic", "poor"]).eval()
    return Translator(model, tokens, holds="proportionate", max_new_tokens=50), [(source, reference)]


@pytest.mark.parametrize(
    ("alike", "before", "after", "wanted"),
    [
        (1.0, 0.5, 0.5, 1.0),  # the source as it is
        (0.6, 0.5, 0.5, 1.0),  # changed, and nothing lost
        (0.6, 0.5, 0.9, 1.0),  # better than before
        (0.75, 0.5, 0.375, 0.0),  # a quarter changed, a quarter lost: no more than it may
        (0.75, 0.5, 0.125, -0.5),  # three quarters lost
        (0.25, 0.5, 0.375, 0.5),
        (1.0, 0.5, 0.375, -1.0),  # of what chrF does not see nothing is an excuse
        (0.6, 0.0, 0.0, 1.0),  # there was nothing to lose
    ],
)
def test_what_is_lost_is_held_against_what_was_changed(alike, before, after, wanted):
    assert proportion(alike, before, after) == wanted


def test_it_is_broken_exactly_at_true_successes():
    shares = [i / 16 for i in range(17)]
    for alike in shares:
        for after in shares:
            assert (proportion(alike, 1.0, after) < 0) == (alike + (1 - after) > 1), (alike, after)


def test_a_function_of_a_few_words_by_hand():
    model = TranslatorFunction(by_words, holds="proportionate")
    model.encode(model.read(PAIRS[:1]))
    # "goodd" and "GOOD" cost one word of four, "thee" all of them.
    for changed in ("the film was goodd", "thee film was good", "the film was GOOD"):
        lost, kept = 1 - chrf(by_words([changed])[0], PAIRS[0][1]), chrf(changed, PAIRS[0][0])
        wanted = ((1 - kept) - lost) / ((1 - kept) + lost)
        logits = model.judged([changed], [0])
        torch.testing.assert_close(logits, torch.tensor([[wanted, 0.0]], dtype=torch.float64))
        assert (wanted < 0) == true_success(PAIRS[0], changed)
    assert true_success(PAIRS[0], "thee film was good")
    assert model.judged([PAIRS[0][0]], [0]).tolist() == [[1, 0]], "the source as it is holds"


@pytest.mark.parametrize("threat", [CharacterEdits(1), WordEdits(1, substitutes={"good": ["fine"], "great": ["good"]})])
def test_every_edit_is_judged_as_the_paper_has_it(threat):
    result = evaluate(TranslatorFunction(by_words, holds="proportionate"), PAIRS, threat, waive={"room": "short words"})
    assert result.correct.all()
    for pair, robust in zip(PAIRS, result.robust, strict=True):
        texts = [edited(pair[0], [option]) for site in threat.sites(pair[0]) for option in site.options]
        assert robust == (not any(true_success(pair, text) for text in texts)), pair
    assert 0 < result.robust.sum() < len(PAIRS)
    for i, (clean, changed) in result.changed.items():
        assert clean == PAIRS[i][0]
        assert true_success(PAIRS[i], changed)


def test_it_is_broken_at_the_edits_that_fluctuation_counts():
    asked: list[list[str]] = []

    def recorded(texts: list[str]) -> list[str]:
        asked.append(texts)
        return by_words(texts)

    model = TranslatorFunction(recorded, holds="proportionate")
    found = fluctuation(model, PAIRS, CharacterEdits(2), samples=3, seed=1)
    rows = list(range(len(PAIRS)))
    margins = [model.judged(texts, rows)[:, 0].numpy() for texts in asked[-3:]]
    assert found.true_successes == (np.stack(margins) < 0).any(0).sum()
    assert 0 < found.true_successes < len(PAIRS)


def test_what_the_tokenizer_leaves_out_of_the_source_counts():
    """Of capitals, and of letters that only look the same, token ids know nothing; each time a key word is lost."""
    translator, pairs = planted()
    black_box = TranslatorFunction(translator.translate, holds="proportionate")
    black_box.encode(black_box.read(pairs))
    source, examples = pairs[0][0], translator.read(pairs)
    found = []
    for changed in (
        source.replace("magic", "mgic"),
        source.upper().replace("MAGIC", "MGIC"),
        source.replace("magic", "m\u0430gic"),
    ):
        ((_, batch),) = translator.batches(translator.rows(replace(examples, inputs=[changed])))
        logits = translator.logits(batch.x, batch.context)
        torch.testing.assert_close(logits, black_box.judged([changed], [0]), rtol=0, atol=0)
        found.append(float(logits[0, 0]))
    assert found[0] < found[1] < 1, "where more was changed, more may be lost"


def test_three_lost_words_are_found_where_one_and_two_are_in_proportion():
    translator, pairs = planted()
    assert evaluate(translator, pairs, CharacterEdits(2), attacks=[HotFlip(n_steps=30)]).robust.all()
    for seed in (5, 7, 9):  # with the difference in place of the share the search would not leave the source as it is
        result = evaluate(translator, pairs, CharacterEdits(3), attacks=[HotFlip(n_steps=30)], seed=seed)
        assert not result.robust.any()
        ((_, changed),) = result.changed.values()
        assert all(key not in changed.split() for key in ("great", "magic", "poor"))


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_moved_embeddings_are_no_source(norm):
    translator, pairs = planted()
    with pytest.raises(ThreatError, match=r"moves embeddings, which are no text .* use CharacterEdits\(k\) or WordEdits"):
        evaluate(translator, pairs, EmbeddingBall("1%norm", norm=norm))
    with pytest.raises(ModelError, match="use holds='nll<=0.5'"):
        evaluate(translator, pairs, LatentBall(0.1, module="embeddings"))


def test_wrong_use_says_what_is_needed():
    with pytest.raises(PreflightError, match="source 0 has no reference to compare with"):
        evaluate(TranslatorFunction(by_words, holds="proportionate"), ["great film"], CharacterEdits(1))
    with pytest.raises(ModelError, match="'nll<=0.5', 'proportionate'"):
        TranslatorFunction(by_words, holds="proportionate>=1")
    with pytest.raises(ModelError, match="cannot be read"):
        CausalLM(Planted(tokenizer(), "the film", ["great"]), tokenizer(), holds="proportionate")


def test_without_sacrebleu_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu.metrics.chrf", None)
    with pytest.raises(ModelError, match=r"pip install 'pytest-robust\[mt\]'"):
        planted()


def test_conditions_that_hold_with_nothing_to_spare_are_no_probabilities():
    model = TranslatorFunction(by_words, holds="consistency>=1")
    result = evaluate(model, [source for source, _ in PAIRS], CharacterEdits(0), waive={"unit": "the sources as they are"})
    assert result.robust.all()
