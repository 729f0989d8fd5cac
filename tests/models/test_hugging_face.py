from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from toy_texts import GPT2, SMALL, TEXTS, network, tokenizer, tokenizers, transformers

from pytest_robust.data import Examples, load
from pytest_robust.errors import ModelError, PreflightError
from pytest_robust.models import adapt


def test_texts_become_padded_rows_that_keep_their_ids() -> None:
    examples = load(TEXTS)
    model = adapt((network(), tokenizer()))
    assert model.read(TEXTS).ids == examples.ids
    encoded = model.encode(examples)
    assert (model.name, model.space) == ("BertForSequenceClassification", "embedding")
    assert encoded.ids == examples.ids
    assert torch.equal(encoded.labels, examples.labels)
    assert isinstance(encoded.inputs, dict)
    assert [len(row) for row in encoded.inputs["input_ids"]] == [16, 16, 48, 32]
    assert encoded.groups(range(4)) == [[0, 1], [2], [3]]
    assert model.notes == ()


def test_the_point_is_the_embeddings_and_only_words_are_free() -> None:
    net = network()
    model = adapt((net, tokenizer(types=True)))
    batch = model.batch(model.encode(load(TEXTS)).take([0, 1]))
    assert batch.x.shape == (2, 16, 16)
    assert not batch.x.requires_grad
    assert sorted(batch.context) == ["attention_mask", "input_ids", "token_type_ids"]
    assert batch.free is not None
    assert batch.free.dtype == torch.bool
    assert batch.free.squeeze(-1).tolist() == [
        [False] + [True] * 4 + [False] * 11,
        [False] + [True] * 6 + [False] * 9,
    ]
    ids = torch.tensor([2, 11, 6, 14, 8, 3])
    assert torch.equal(batch.x[0, :6], net.get_input_embeddings()(ids))


def test_half_precision_keeps_a_fine_point() -> None:
    model = adapt((network().bfloat16(), tokenizer()))
    batch = model.batch(model.encode(load(TEXTS)).take([0]))
    assert batch.x.dtype == torch.float32
    x = batch.x.requires_grad_()
    (grad,) = torch.autograd.grad(model.logits(x, batch.context).sum(), x)
    assert grad.dtype == torch.float32
    assert grad.abs().sum() > 0


def test_pairs_have_their_token_types() -> None:
    model = adapt((network(), tokenizer(types=True)))
    batch = model.batch(model.encode(load([(("the film", "good film"), 1)])).take([0]))
    assert batch.context["token_type_ids"][0].tolist() == [0, 0, 0, 0, 1, 1, 1] + [0] * 9
    assert batch.free is not None
    assert batch.free[0, :8, 0].tolist() == [False, True, True, False, True, True, False, False]


def test_token_ids_give_what_their_texts_give() -> None:
    tokens = tokenizer(types=True)
    encoded = dict(tokens([text for text, _ in TEXTS], padding=True, return_tensors="pt"))
    labels = [label for _, label in TEXTS]
    model = adapt((network(), tokens))
    of_texts = model.encode(load(TEXTS)).inputs
    of_ids = model.encode(load((encoded, labels))).inputs
    assert isinstance(of_texts, dict)
    assert isinstance(of_ids, dict)
    assert sorted(of_texts) == sorted(of_ids)
    for key in of_texts:
        assert all(torch.equal(a, b) for a, b in zip(of_texts[key], of_ids[key], strict=True)), key


def test_long_texts_are_cut_and_it_is_said() -> None:
    model = adapt((network(), tokenizer()))
    encoded = model.encode(load([("good", 1), ("bad " * 100, 0)]))
    assert isinstance(encoded.inputs, dict)
    assert [int(mask.sum()) for mask in encoded.inputs["attention_mask"]] == [3, 64]
    assert model.notes == ("1 of 2 texts were cut to the model's 64 tokens",)


@pytest.mark.parametrize(("kind", "limit"), [("Bert", 20), ("Roberta", 19)])
def test_the_limit_is_also_that_of_the_position_table(kind: str, limit: int) -> None:
    model = adapt((network(kind, max_position_embeddings=20), tokenizer()))
    encoded = model.encode(load([("bad " * 100, 0), ("bad " * 15, 0)]))
    assert isinstance(encoded.inputs, dict)
    assert [len(row) for row in encoded.inputs["input_ids"]] == [limit, limit]


def test_the_users_tokenizer_is_left_alone() -> None:
    tokens = tokenizer()
    before = tokens.backend_tokenizer.to_str()
    adapt((network(), tokens)).encode(load([("bad " * 100, 0)]))
    assert tokens.backend_tokenizer.to_str() == before
    assert json.loads(before)["truncation"] is None


def test_the_model_is_left_alone_by_encoding() -> None:
    net = network().train()
    state = torch.get_rng_state()
    model = adapt((net, tokenizer()))
    assert model.training_parts()[0] == "bert.embeddings.dropout (Dropout)"
    model.encode(load(TEXTS))
    assert all(part.training for part in net.modules())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_tokenizer_without_padding_token_is_padded_by_mask() -> None:
    tokens = tokenizer(eos_token="[SEP]")
    assert tokens.pad_token_id is None
    model = adapt((network(), tokens))
    encoded = model.encode(load(TEXTS))
    assert isinstance(encoded.inputs, dict)
    assert encoded.inputs["input_ids"][0].tolist()[6:] == [3] * 10
    assert encoded.inputs["attention_mask"][0].tolist() == [1] * 6 + [0] * 10
    assert tokens.pad_token_id is None


def test_a_pipeline_is_its_model_and_tokenizer() -> None:
    net = network(id2label={0: "bad", 1: "good", 2: "other"})
    pipe = transformers.TextClassificationPipeline(model=net, tokenizer=tokenizer())
    model = adapt(pipe)
    assert model.module is net
    assert model.classes == ("bad", "good", "other")
    batch = model.batch(model.encode(load(TEXTS)).take([0]))
    assert torch.allclose(
        model.logits(batch.x, batch.context), net(**tokenizer()(TEXTS[0][0], return_tensors="pt")).logits, atol=1e-5
    )


def test_other_pipelines_are_refused() -> None:
    pipe = type(
        "FillMaskPipeline", (transformers.Pipeline,), {"__init__": lambda self: None, "__module__": "transformers.x"}
    )
    for name in ("_sanitize_parameters", "preprocess", "_forward", "postprocess"):
        setattr(pipe, name, None)
    pipe.__abstractmethods__ = frozenset()
    with pytest.raises(ModelError, match=r"FillMaskPipeline.*text-classification"):
        adapt(pipe())


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: (network(num_labels=1), tokenizer()), ["regression", "single_label_classification"]),
        (lambda: (network(problem_type="regression"), tokenizer()), ["regression"]),
        (lambda: (network(problem_type="multi_label_classification"), tokenizer()), ["several labels"]),
        (lambda: (network(), None), ["NoneType", "AutoTokenizer"]),
        (lambda: (network(), "bert-base-uncased"), ["str", "AutoTokenizer"]),
        (lambda: (network(), lambda text: text), ["function", "AutoTokenizer"]),
    ],
)
def test_models_of_another_kind_are_refused(build: Any, words: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        adapt(build())
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_normalisation_is_for_images() -> None:
    with pytest.raises(ModelError, match="normalize"):
        adapt((network(), tokenizer()), normalize=(0.5, 0.5))


def test_a_model_that_refuses_batches_says_why() -> None:
    net = network("GPT2", **GPT2, pad_token_id=None)
    with pytest.raises(ModelError, match="no padding token is defined"):
        adapt((net, tokenizer())).encode(load(TEXTS))


def test_one_logit_that_decides_between_two_classes() -> None:
    net = network(num_labels=1)
    net.config.problem_type = "single_label_classification"
    model = adapt((net, tokenizer()))
    batch = model.batch(model.encode(load(TEXTS)).take([0, 1]))
    logits = model.logits(batch.x, batch.context)
    assert logits.shape == (2, 2)
    assert logits[:, 0].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((torch.zeros(2, 3), [0, 1]), "was given tensors"),
        (({"x": torch.zeros(2, 3)}, [0, 1]), "was given tensors"),
        ([(("a", "b", "c"), 0)], "3 texts"),
    ],
)
def test_data_that_is_no_text_is_refused(data: Any, words: str) -> None:
    with pytest.raises(PreflightError, match=words):
        adapt((network(), tokenizer())).encode(load(data))


@pytest.mark.parametrize("text", ["", "  "])
def test_a_text_without_words_is_refused_by_its_number(text: str) -> None:
    examples = load([("good", 1), ("bad", 0), (text, 0)])
    with pytest.raises(PreflightError, match=rf"example 2 \(id {examples.ids[2]}\) has no words to move.*drop such texts"):
        adapt((network(), tokenizer())).encode(examples)


def test_texts_without_tokens_are_refused() -> None:
    tokens = tokenizer()
    tokens.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single="$A", special_tokens=[])
    with pytest.raises(PreflightError, match="example 1 .* has no words to move"):
        adapt((network(), tokens)).encode(load([("good", 1), ("", 0)]))


def test_batches_are_of_encoded_texts() -> None:
    with pytest.raises(PreflightError, match="encode"):
        adapt((network(), tokenizer())).batch(["good"])


def test_an_image_model_takes_a_tensor_or_its_named_input() -> None:
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=8, patch_size=4,
        num_labels=2, id2label={0: "cat", 1: "dog"},
    )  # fmt: skip
    net = transformers.ViTForImageClassification(config).eval()
    pixels = torch.rand(2, 3, 8, 8)
    model = adapt(net)
    assert model.classes == ("cat", "dog")
    for inputs in (pixels, {"pixel_values": pixels}):
        examples: Examples = model.encode(load((inputs, [0, 1])))
        batch = model.batch(examples.take([0, 1]))
        assert torch.equal(model.logits(batch.x, batch.context), net(pixels).logits)


def test_an_adapted_text_model_has_a_digest_that_its_words_and_weights_change():
    from pytest_robust.evaluation.identity import digest

    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**SMALL)).eval()
    same, other = tokenizer(), tokenizer()
    other.add_tokens(["film2"])
    assert digest(adapt((model, tokenizer()))) == digest(adapt((model, same))) != digest(adapt((model, other)))
    before = digest(adapt((model, same)))
    with torch.no_grad():
        model.classifier.bias.add_(1)
    assert digest(adapt((model, same))) != before
