from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from toy_texts import GPT2, TEXTS, network, tokenizer, tokenizers, transformers

from pytest_robust import EmbeddingBall, evaluate
from pytest_robust.data import Examples, load
from pytest_robust.errors import ModelError, PreflightError
from pytest_robust.models import adapt

TAGS = {0: "O", 1: "B-ART", 2: "I-ART"}
DATA = [
    (["the", "film", "was", "great"], ["B-ART", "I-ART", "O", "O"]),
    ("this is not-good", ["O", "O", "O"]),
]


def tagger(kind: str = "Bert", **config: Any) -> Any:
    return network(kind, "ForTokenClassification", **{"id2label": TAGS, "initializer_range": 0.5, **config})


def own_tags(net: Any, text: str, firsts: list[int]) -> list[str]:
    """What the model itself says of the tokens at ``firsts``."""
    predicted = net(**tokenizer()(text, return_tensors="pt")).logits[0].argmax(1)
    return [TAGS[int(predicted[token])] for token in firsts]


SENTENCES = ["the film was great", "this is a very bad film", "a great film is not bad", "the very good film", "bad bad bad"]


def rightly_tagged(net: Any) -> list[tuple[str, list[str]]]:
    return [(text, own_tags(net, text, list(range(1, 1 + len(text.split()))))) for text in SENTENCES]


def test_tags_travel_as_references_that_count_as_content() -> None:
    model = adapt((tagger(), tokenizer()))
    examples = model.read(DATA)
    assert examples.inputs == ["the film was great", "this is not-good"]
    assert examples.references == ('["B-ART", "I-ART", "O", "O"]', '["O", "O", "O"]')
    assert examples.labels.tolist() == [0, 0]
    assert examples.classes == model.classes == ("tags right", "a tag is wrong")
    other = model.read([DATA[0], ("this is not-good", ["O", "O", "B-ART"])])
    assert [a == b for a, b in zip(examples.ids, other.ids, strict=True)] == [True, False]
    assert examples.subset([1]).references == ('["O", "O", "O"]',)
    assert load(examples) is examples
    assert model.read(examples) is examples


@pytest.mark.parametrize(
    "data",
    [
        [("the film was great", [1, 2, 0, -100]), ("this is bad", [0, 0, None])],
        (["the film was great", ["this", "is", "bad"]], [[1, 2, 0, -100], (0, 0, None)]),
        [("the film was great", torch.tensor([1, 2, 0, -100])), (np.array(["this", "is", "bad"]), np.array([0, 0, -1]))],
        [
            {"tokens": ["the", "film", "was", "great"], "labels": [1, 2, 0, -100]},
            {"tokens": ["this", "is", "bad"], "labels": ["O", "O", None]},
        ],
    ],
    ids=["pairs", "columns", "arrays", "mappings"],
)
def test_forms_of_data(data: Any) -> None:
    examples = adapt((tagger(), tokenizer())).read(data)
    assert examples.inputs == ["the film was great", "this is bad"]
    assert [json.loads(tags) for tags in examples.references] == [["B-ART", "I-ART", "O", None], ["O", "O", None]]


def test_tags_without_names_are_numbers() -> None:
    net = network("Bert", "ForTokenClassification")
    examples = adapt((net, tokenizer())).read([("the film", [1, 2])])
    assert examples.references == ("[1, 2]",)
    with pytest.raises(PreflightError, match=r"example 0 has the tag 'O', .* 0 to 2 \(not known by name: use numbers\)"):
        adapt((net, tokenizer())).read([("the film", ["O", "O"])])
    assert adapt((net, tokenizer()), classes=["O", "B", "I"]).read([("the film", ["I", 1])]).references == ('["I", "B"]',)


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "DistilBert", "DebertaV2", "GPT2", "Llama"])
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_the_logits_are_the_smallest_lead_of_a_right_tag(kind: str) -> None:
    small = {"DistilBert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}, "GPT2": GPT2}
    net = tagger(kind, **small.get(kind, {}))
    model = adapt((net, tokenizer()))
    encoded = model.encode(model.read([*DATA, ("this " * 40, [0] * 20 + [None] * 20)]))
    # Tokens of a text do not see padding behind them, so that all heads stand it.
    assert [len(row) for row in encoded.inputs["input_ids"]] == [16, 16, 48]
    for i, (text, tags) in enumerate([("the film was great", [1, 2, 0, 0]), ("this is not-good", [0, 0, 0])]):
        own = net(**tokenizer()(text, return_tensors="pt")).logits[0].detach()
        leads = [
            float(own[token, tag] - max(own[token, other] for other in range(3) if other != tag))
            for token, tag in enumerate(tags, start=1)
        ]
        batch = model.batch(encoded.take([i]))
        logits = model.logits(batch.x, batch.context)
        assert logits.shape == (1, 2)
        assert logits.dtype == torch.float32
        assert logits[0].tolist() == pytest.approx([min(leads), 0], abs=1e-5)


def test_equal_logits_are_decided_as_by_argmax() -> None:
    net = tagger()
    with torch.no_grad():
        net.classifier.weight.zero_()
        net.classifier.bias.copy_(torch.tensor([-1.0, 1.0, 1.0]))
    model = adapt((net, tokenizer()))
    encoded = model.encode(model.read([("the film", [1, 1]), ("the film", [1, 2])]))
    batch = model.batch(encoded.take([0, 1]))
    logits = model.logits(batch.x, batch.context)
    assert logits.argmax(1).tolist() == [0, 1]
    assert logits.abs().max() < 1e-30


def test_the_first_token_of_a_word_stands_for_it() -> None:
    model = adapt((tagger(), tokenizer()))
    encoded = model.encode(model.read([("this is not-good", [1, 2, 0])]))
    assert encoded.inputs["input_ids"][0].tolist()[:7] == [2, 12, 9, 10, 1, 7, 3]
    assert encoded.inputs["gold tag"][0].tolist() == [-100, 1, 2, 0] + [-100] * 12


def test_an_evaluation_breaks_exactly_the_texts_with_a_wrong_tag() -> None:
    net = tagger()
    model = adapt((net, tokenizer()))
    examples = model.read([*rightly_tagged(net)[:4], ("bad bad bad", ["O", "B-ART", "I-ART"])])
    result = evaluate(model, examples, EmbeddingBall(0.6), attacks="pgd", profile="smoke")
    assert result.correct.tolist() == [True] * 4 + [False]
    assert result.classes == ("tags right", "a tag is wrong")
    broken = [by not in (None, "clean") for by in result.broken_by]
    assert any(broken)
    for i, x in result.witnesses.items():
        words = len(SENTENCES[i].split())
        mask = (torch.arange(len(x)) < words + 2).long()
        found = net(inputs_embeds=x.unsqueeze(0), attention_mask=mask.unsqueeze(0)).logits[0].argmax(1)
        assert [TAGS[int(tag)] for tag in found[1 : 1 + words]] != json.loads(examples.references[i])
    assert sorted(result.witnesses) == [i for i, is_broken in enumerate(broken) if is_broken]


def test_chance_is_no_measure_of_texts_with_a_wrong_tag() -> None:
    net = tagger()
    wrong = [(text, [TAGS[(list(TAGS.values()).index(tag) + 1) % 3] for tag in tags]) for text, tags in rightly_tagged(net)]
    model = adapt((net, tokenizer()))
    many = model.read([*rightly_tagged(net), *wrong * 3])
    result = evaluate(model, many, EmbeddingBall(0.01), attacks="pgd", profile="smoke")
    assert int(result.correct.sum()) == 5


def test_a_pipeline_is_its_model_and_tokenizer() -> None:
    net = tagger()
    model = adapt(transformers.TokenClassificationPipeline(model=net, tokenizer=tokenizer()))
    assert model.module is net
    assert model.classes == ("tags right", "a tag is wrong")


def test_spans_limit_what_moves_not_what_is_judged() -> None:
    model = adapt((tagger(), tokenizer()), spans=lambda text: [(0, 3)])
    batch = model.batch(model.encode(model.read(DATA[:1])).take([0]))
    assert batch.free[0, :, 0].nonzero().flatten().tolist() == [1]
    assert (batch.context["gold tag"] >= 0).sum() == 4


def test_words_that_were_cut_off_are_not_judged() -> None:
    model = adapt((tagger(), tokenizer()))
    encoded = model.encode(model.read([("bad " * 100, [0] * 100)]))
    assert int((encoded.inputs["gold tag"][0] >= 0).sum()) == 62
    assert model.notes == ("1 of 1 texts were cut to the model's 64 tokens",)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([("the film", ["O"])], "labels: example 0 .* has 2 words and 1 tags"),
        ([("the film", ["O", "B-PER"])], r"example 0 has the tag 'B-PER', .* 0 to 2 \(O, B-ART, I-ART\)"),
        ([("the film", [0, 3])], "the tag 3"),
        ([("the film", [0, True])], "the tag True"),
        ([("the film", 1)], "example 0 has 1, where a list with one tag per word is needed"),
        ([("the film", [None, None])], "example 0 .* has no word whose tag is judged"),
        ([(["the film"], ["O"])], "the word 'the film'"),
        ([(["the", ""], ["O", "O"])], "the word ''"),
        ([([1, 2], ["O", "O"])], "example 0 is a list; give a text"),
        (torch.zeros(2, 2), "Tensor is not a form of data known here"),
        ((torch.zeros(2, 2), [0, 1]), "inputs: a Tensor; for a token classifier"),
        (Examples.of(["the film"], torch.tensor([0])), "have no tags"),
        (Examples.of(["the film"], torch.tensor([0]), references=["le film"]), "the reference 'le film', where a JSON list"),
        (Examples.of(["the film"], torch.tensor([0]), references=["3"]), "the reference '3', where a JSON list"),
    ],
)
def test_unusable_data_is_refused(data: Any, words: str) -> None:
    model = adapt((tagger(), tokenizer()))
    with pytest.raises(PreflightError, match=words):
        model.encode(model.read(data))


def test_texts_without_tags_are_refused() -> None:
    with pytest.raises(PreflightError, match=r"example 0 .* has no text with tags"):
        adapt((tagger(), tokenizer())).encode(load(TEXTS))
    pair = Examples.of([("the film", "good")], torch.tensor([0]), references=["[0, 0]"])
    with pytest.raises(PreflightError, match="is a pair of texts"):
        adapt((tagger(), tokenizer())).encode(pair)


def test_a_word_without_a_token_is_named() -> None:
    tokens = tokenizer()
    tokens.backend_tokenizer.normalizer = tokenizers.normalizers.Replace("\u200b", "")
    model = adapt((tagger(), tokens))
    with pytest.raises(PreflightError, match=r"no token that begins in the word '\\u200b'"):
        model.encode(model.read([("the \u200b film", [0, 0, 0])]))
    model.encode(model.read([("the \u200b film", [0, None, 0])]))


def test_models_that_cannot_be_judged_are_refused() -> None:
    with pytest.raises(ModelError, match="tells 1 tags apart"):
        adapt((network("Bert", "ForTokenClassification", num_labels=1), tokenizer()))

    class Slow:
        pad_token_id, eos_token_id, model_max_length, is_fast = 0, 3, 64, False

        def __call__(self, *texts: str) -> None: ...

        def get_special_tokens_mask(self) -> None: ...

    with pytest.raises(ModelError, match="token classification: .* this one is slow"):
        adapt((tagger(), Slow()))


def test_a_model_that_returns_no_logits_per_token_is_refused() -> None:
    class BertForTokenClassification(transformers.BertForSequenceClassification):
        pass

    net = BertForTokenClassification(network().config).eval()
    model = adapt((net, tokenizer()))
    with pytest.raises(ModelError, match=r"returned \(1, 3\) for a batch of 1, where \(batch, tokens, tags\) is needed"):
        model.encode(model.read([("the film", [0, 0])]))
