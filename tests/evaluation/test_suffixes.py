"""Words after the end of a text through the whole engine, on models whose weaknesses are known."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch
from text_models import WORDS, Classifier, scored, tokenizer

from pytest_robust import (
    GCG,
    EditSearch,
    HotFlip,
    RelaxedPGD,
    Suffix,
    Targeted,
    TextFunction,
    Translator,
    WordEdits,
    adapt,
    evaluate,
)
from pytest_robust.errors import ModelError, ThreatError
from pytest_robust.evaluation.prepare import under
from pytest_robust.evaluation.retry import retry

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

PRAISE = [("the film was good", 1), ("the plot was very fine", 1), ("a great film", 1), ("good plot", 1)]
BLAME = [("the film was awful", 0), ("poor plot", 0)]
WORTH = {**dict.fromkeys(("good", "fine", "great"), 1.0), **dict.fromkeys(("bad", "poor", "awful"), -1.0), "film": 0.25}
WAIVE = dict.fromkeys(("chance", "one-class"), "few texts")
attacked = partial(evaluate, waive=WAIVE)
SEARCHES = [HotFlip(n_steps=10), GCG(n_steps=60), EditSearch(n_steps=80), RelaxedPGD(n_steps=30)]


def answer(model, tokens, text):
    with torch.no_grad():
        return int(model(**tokens([text], return_tensors="pt")).argmax())


@pytest.mark.parametrize("attack", SEARCHES, ids=lambda attack: attack.name)
def test_a_trigger_is_found_among_all_words(attack):
    """Of the whole vocabulary one word behind the text turns each of them."""
    model, tokens = scored({**WORTH, "magic": -9.0}, offset=0.1)
    threat = Suffix(1)
    result = attacked((model, tokens), PRAISE, threat, attacks=attack)
    assert [result.changed[i] for i in range(len(PRAISE))] == [(text, f"{text} magic") for text, _ in PRAISE]
    assert set(result.broken_by) == {attack.name}
    # Bad words are worth -1: one of them is too little, two are enough.
    assert attacked((model, tokens), PRAISE[:1], Suffix(1, words=["bad", "poor"]), attacks=attack).accuracy == 1
    assert attacked((model, tokens), PRAISE[:1], Suffix(2, words=["bad", "poor"]), attacks=attack).accuracy == 0


class FirstWord(Classifier):
    """Reads the first word alone."""

    def read(self, embedded, there):
        return torch.stack([torch.zeros_like(embedded[:, 1, 0]), embedded[:, 1, 0]], 1)


def test_a_model_that_reads_no_further_is_untouched():
    tokens = tokenizer()
    model = FirstWord(len(tokens), 2).eval()
    with torch.no_grad():
        for token, i in tokens.get_vocab().items():
            model.embeddings.weight[i, 0] = WORTH.get(token, -0.1)
    data = [("good film", 1), ("great plot", 1), ("bad film", 0), ("awful plot", 0)]
    for attacks in (None, "gcg"):
        result = attacked((model, tokens), data, Suffix(3), attacks=attacks)
        assert result.robust.all()
        assert result.believable


class Tangled(Classifier):
    """What a word is worth depends on the word before it."""

    def read(self, embedded, there):
        flat = (embedded * there)[:, :, 0]
        total = flat.sum(1) + 3 * (flat[:, 1:] * flat[:, :-1]).sum(1)
        return torch.stack([torch.zeros_like(total), total], 1)


def test_outcomes_are_those_of_all_suffixes_there_are():
    tokens = tokenizer()
    model = Tangled(len(tokens), 2).eval()
    with torch.no_grad():
        model.embeddings.weight.normal_(generator=torch.Generator().manual_seed(3))
        model.embeddings.weight[:4] = 0
    words = ["good", "bad", "film", "very", "not", "magic"]
    texts = [" ".join(chosen) for chosen in itertools.product(WORDS[:4], WORDS[4:7], WORDS[7:10])]
    data = [(text, answer(model, tokens, text)) for text in texts]
    for k in (1, 2):
        suffixes = [" ".join(chosen) for n in range(1, k + 1) for chosen in itertools.product(words, repeat=n)]
        truth = [all(answer(model, tokens, f"{text} {suffix}") == label for suffix in suffixes) for text, label in data]
        assert 0 < sum(truth) < len(truth)
        for attacks in (None, GCG(n_steps=150)):
            assert attacked((model, tokens), data, Suffix(k, words=words), attacks=attacks).robust.tolist() == truth


def test_special_tokens_are_no_words():
    """They alone would turn everything; so would a piece of a word that cannot begin one."""
    model, tokens = scored(WORTH, offset=0.1)
    with torch.no_grad():
        for token, i in tokens.get_vocab().items():
            if token.startswith(("[", "##")):
                model.embeddings.weight[i, 1] = 1e3
        model.head.weight[1, 1] = -1e-2
        model.head.bias[1] += 2 * 10  # the two that stand in every text
    assert answer(model, tokens, "the film was good [SEP]") == 0
    threat = Suffix(1, most=512)
    edited = under(adapt((model, tokens)), threat, lambda x, context, labels: torch.zeros_like(x))
    edited.encode(edited.read(PRAISE))
    proposed = {option.new for sites in edited._sites for site in sites for option in site.options}
    assert " magic" in proposed
    assert not any("[" in word or "#" in word for word in proposed)
    result = attacked((model, tokens), PRAISE, threat, attacks="gcg")
    assert all("[" not in changed for _, changed in result.changed.values())
    assert result.robust.tolist() == [True] * len(PRAISE)


def merging():
    """To this tokenizer two magic words in a row are one plain one."""
    model, tokens = scored({**WORTH, "magic": -1.5, "plot": 0.0}, offset=0.1)
    core = tokens.backend_tokenizer
    core.normalizer = tokenizers.normalizers.Sequence(
        [core.normalizer, tokenizers.normalizers.Replace("magic magic", "plot")]
    )
    return model, transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]",
        model_max_length=128, model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


@pytest.mark.parametrize("attack", SEARCHES, ids=lambda attack: attack.name)
def test_a_suffix_counts_only_as_it_is_tokenised(attack):
    """Its tokens one by one would turn the text, and no text has them one by one."""
    model, tokens = merging()
    data = [("good fine", 1), ("great good", 1), ("fine great", 1), ("bad", 0)]
    assert len(tokens.tokenize("good magic magic")) == 2
    held = attacked((model, tokens), data, Suffix(2, words=["magic"]), attacks=attack)
    assert held.robust[:3].all()
    broken = attacked((model, tokens), data, Suffix(3, words=["magic", "film"]), attacks=attack)
    assert {changed for _, changed in broken.changed.values()} >= {"good fine magic film magic"}


def test_what_is_cut_off_is_said():
    """Words that the model never reads are no evidence."""
    model, tokens = scored({**WORTH, "magic": -9.0}, offset=0.1)
    long = [(f"{text} {'very ' * 140}".strip(), label) for text, label in PRAISE]
    result = attacked((model, tokens), [*long, *PRAISE], Suffix(2))
    assert result.robust.tolist() == [True] * len(long) + [False] * len(PRAISE)
    assert {check.name: check.level for check in result.health.checks}["room"] == "invalid"
    # The last word that is read is one of the suffix.
    almost = [(f"{text} {'very ' * (125 - len(text.split()))}".strip(), label) for text, label in PRAISE]
    assert attacked((model, tokens), almost, Suffix(2)).accuracy == 0


def test_the_suffix_stands_before_what_must_stay():
    model, tokens = scored({**WORTH, "magic": -9.0}, offset=0.1)
    framed = [((f"is {text}", "the plot"), label) for text, label in PRAISE]
    held = adapt((model, tokens), spans=lambda pair: [(3, len(pair[0]))])
    result = attacked(held, framed, Suffix(1), attacks="gcg")
    assert [result.changed[i][1] for i in range(len(framed))] == [(f"is {text} magic", "the plot") for text, _ in PRAISE]


@pytest.mark.parametrize("attack", [*SEARCHES, None], ids=lambda attack: attack.name if attack else "standard")
def test_outcomes_do_not_depend_on_batches_or_order(attack):
    model, tokens = scored({**WORTH, "magic": -0.9, "plot": -0.4, "is": -0.6}, offset=0.3)
    data, n = [*PRAISE, *BLAME], len(PRAISE) + len(BLAME)
    one = attacked((model, tokens), data, Suffix(2, most=12), attacks=attack)
    other = attacked((model, tokens), data[::-1], Suffix(2, most=12), attacks=attack, batch_size=1)
    assert one.robust.tolist() == other.robust.tolist()[::-1]
    assert [one.changed.get(i) for i in range(n)] == [other.changed.get(n - 1 - i) for i in range(n)]
    assert one.passes.tolist() == other.passes.tolist()[::-1]


def test_gradients_lead_from_the_word_that_stands_there():
    """To a linear model each option of the suffix is worth what its word is."""
    edited = under(adapt(scored(WORTH)), Suffix(2, words=["good", "bad", "film"]))
    encoded = edited.encode(edited.read(PRAISE))
    batch = edited.batch(encoded.take([0]))
    x = batch.x.clone()
    x[0, 1, 2] = 1  # the first place stays empty: nothing is known of it
    x.requires_grad_()
    assert edited.texts(x.detach(), batch.context) == ["the film was good film"]
    edited.logits(x, batch.context)[0, 1].backward()
    known = torch.zeros_like(x)
    known[0, 1, :3] = torch.tensor([WORTH["good"], WORTH["bad"], WORTH["film"]])
    torch.testing.assert_close(x.grad, known)


def test_between_texts_the_words_are_mixed_behind_the_text():
    worth = {**WORTH, "!": 0.0}
    edited = under(adapt(scored(worth)), Suffix(2, words=["good", "bad", "film"]))
    encoded = edited.encode(edited.read(PRAISE))
    batch = edited.batch(encoded.take([0, 0]))
    x = batch.x.clone()
    x[0, 0, 0], x[0, 1, 1], x[0, 1, 2] = 0.5, 0.25, 0.5
    clean = float(edited.logits(batch.x, batch.context)[0, 1].detach())
    mixed = 0.5 * WORTH["good"] + 0.25 * WORTH["bad"] + 0.5 * WORTH["film"]
    torch.testing.assert_close(edited.logits(x, batch.context)[:, 1].detach(), torch.tensor([clean + mixed, clean]))


def test_functions_of_texts_are_given_words():
    service = TextFunction(lambda texts: [[0.5, 2.0 - 3 * text.endswith("not !")] for text in texts], name="service")
    with pytest.raises(ThreatError, match=r"say which words may be added: Suffix\(k, words=\[...\]\)"):
        evaluate(service, PRAISE, Suffix(2))
    result = attacked(service, PRAISE, Suffix(2, words=["so", "not", "!", "very"]), waive={**WAIVE, "constant": "by design"})
    assert [result.changed[i][1] for i in range(len(PRAISE))] == [f"{text} not !" for text, _ in PRAISE]


def test_the_likelihood_of_a_translation_falls():
    tokens = tokenizer()
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
             "encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 80}  # fmt: skip
    special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 3}
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        config = transformers.BartConfig(vocab_size=len(tokens), **sizes, **special)
        model = transformers.BartForConditionalGeneration(config)
        for parameter in model.parameters():
            parameter.data.mul_(6)
    sources = [text for text, _ in PRAISE]
    translator = Translator(model.eval(), tokens, holds="nll<=0.1", max_new_tokens=12)
    result = evaluate(translator, sources, Suffix(2), attacks=GCG(n_steps=60))
    assert result.correct.all()
    assert result.broken_counts()["gcg"] == len(sources)
    assert all(Suffix(2).measure(clean, changed, 3) <= 2 for clean, changed in result.changed.values())


def test_a_target_is_reached():
    model, tokens = scored({**WORTH, "magic": -9.0}, offset=0.1)
    result = attacked((model, tokens), [*PRAISE, *BLAME], Suffix(1), objective=Targeted(1), attacks="gcg")
    assert all(answer(model, tokens, changed) == 1 for _, changed in result.changed.values())
    assert result.accuracy == 0


def test_gcg_searches_other_edits():
    model, tokens = scored({**WORTH, "magic": -9.0}, offset=0.1)
    result = attacked((model, tokens), PRAISE, WordEdits(1, most=8), attacks="gcg")
    assert result.broken_counts()["gcg"] == len(PRAISE)


def test_a_stored_suffix_of_a_vocabulary_may_be_another_text_now():
    model, tokens = scored({**WORTH, "magic": -9.0}, offset=0.1)
    result = attacked((model, tokens), PRAISE, Suffix(1))
    other = scored({**WORTH, "magic": 9.0, "good": 20.0}, offset=0.1)
    with pytest.raises(ModelError, match="may be another text now than the one that was found"):
        retry(other, PRAISE, result.ids[0], Suffix(1), torch.zeros_like(result.adversarial(0)), waive=WAIVE)
