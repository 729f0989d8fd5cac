from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from toy_texts import GPT2, TEXTS, network, tokenizer, tokenizers, transformers

from pytest_robust import EmbeddingBall, evaluate
from pytest_robust.data import load
from pytest_robust.errors import ModelError, PreflightError
from pytest_robust.models import adapt
from pytest_robust.models.spans import attackable


def adjectives(text: Any) -> list[tuple[int, int]]:
    return [(text.index(word), text.index(word) + len(word)) for word in ("bad", "good", "great") if word in text]


def free(model: Any, data: Any, i: int = 0) -> list[bool]:
    return model.batch(model.encode(load(data)).take([i])).free[0, :, 0].tolist()


def test_only_tokens_inside_a_span_move() -> None:
    model = adapt((network(), tokenizer()), spans=adjectives)
    assert model.attackable("the film was great") == [(13, 18)]
    assert free(model, TEXTS[:2]) == [False] * 4 + [True] + [False] * 11
    assert free(model, TEXTS[:2], 1) == [False] * 5 + [True] + [False] * 10


def test_without_spans_all_of_the_text_may_be_attacked() -> None:
    model = adapt((network(), tokenizer()))
    assert model.attackable("the film") == [(0, 8)]
    assert model.attackable(("the film", "good")) == [(0, 8), (8, 12)]
    assert model.attackable(("", "good")) == [(0, 4)]


def test_a_token_partly_outside_stays() -> None:
    model = adapt((network(), tokenizer()), spans=lambda text: [(0, 6)])
    assert free(model, [("the film was great", 1)])[:6] == [False, True, False, False, False, False]


def test_neighbouring_spans_are_two() -> None:
    model = adapt((network(), tokenizer()), spans=lambda text: [(0, 3), (4, 6), (6, 8)])
    assert free(model, [("the film was great", 1)])[:4] == [False, True, False, False]


def test_of_a_pair_characters_are_counted_through_both() -> None:
    seen = []

    def second(pair: Any) -> list[tuple[int, int]]:
        seen.append(pair)
        return [(len(pair[0]), len(pair[0]) + len(pair[1]))]

    model = adapt((network(), tokenizer(types=True)), spans=second)
    assert free(model, [(("the film", "good film"), 1)]) == [False] * 4 + [True] * 2 + [False] * 10
    assert seen == [("the film", "good film")]


def test_nothing_outside_moves_in_an_evaluation() -> None:
    model = adapt((network(initializer_range=0.5), tokenizer()), spans=adjectives)
    data = [("the film was great", 1), ("this is a very bad film", 0)]
    encoded = model.encode(load(data))
    labels = [int(model.logits(*point(model, encoded, i)).argmax()) for i in range(2)]
    result = evaluate(
        model,
        [(text, label) for (text, _), label in zip(data, labels, strict=True)],
        EmbeddingBall(3),
        attacks="pgd",
        profile="smoke",
        waive={"chance": "two texts"},
    )
    assert result.accuracy.k == 0
    for i, found in result.witnesses.items():
        moved = (found != point(model, encoded, i)[0][0]).any(-1).nonzero().flatten().tolist()
        assert moved == [(4, 5)[i]]


def point(model: Any, encoded: Any, i: int) -> tuple[Any, Any]:
    batch = model.batch(encoded.take([i]))
    return batch.x, batch.context


def byte_level() -> Any:
    raw = tokenizers.Tokenizer(tokenizers.models.BPE())
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
    raw.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<pad>"], initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator([text for text, _ in TEXTS] * 4, trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", model_max_length=64)


def test_the_blank_before_a_byte_level_token_is_no_part_of_it() -> None:
    tokens, net = byte_level(), network("GPT2", **{**GPT2, "vocab_size": 300})
    text = "the film was great"
    encoded = tokens(text, return_offsets_mapping=True)
    assert (12, 18) in encoded["offset_mapping"]
    model = adapt((net, tokens), spans=adjectives)
    assert free(model, [(text, 1)]) == [place == (12, 18) for place in encoded["offset_mapping"]]


def test_characters_are_those_of_the_text_not_bytes() -> None:
    tokens, net = byte_level(), network("GPT2", **{**GPT2, "vocab_size": 300})
    model = adapt((net, tokens), spans=lambda text: [(3, 4)])
    text = "\u00e9\u00e9 \U0001f600 great"
    encoded = tokens(text)
    moving = [i for i, is_free in enumerate(free(model, [(text, 1)])) if is_free]
    assert len(moving) > 1
    assert tokens.decode([encoded["input_ids"][i] for i in moving]).strip() == "\U0001f600"


@pytest.mark.parametrize(
    ("spans", "words"),
    [
        ([(0, 19)], r"\(0, 19\) is no part of 'the film was great', which has 18 characters"),
        ([(-1, 4)], r"\(-1, 4\) is no part"),
        ([(4, 4)], r"\(4, 4\) is no part"),
        ([(4, 3)], r"\(4, 3\) is no part"),
        ([3, 4], r"returned \[3, 4\]; return a list of \(start, end\)"),
        (None, r"returned None"),
        ([], "example 0 .* has no words to move: none of its 4 tokens"),
        ([(0, 2), (3, 5)], "example 0 .* none of its 4 tokens .* widen them to whole words"),
    ],
)
def test_unusable_spans_are_refused(spans: Any, words: str) -> None:
    with pytest.raises(PreflightError, match=words):
        adapt((network(), tokenizer()), spans=lambda text: spans).encode(load([("the film was great", 1)]))


def test_a_span_across_a_pair_is_refused() -> None:
    with pytest.raises(PreflightError, match=r"\(2, 10\) reaches from the first text of the pair .* begins at 8"):
        attackable(lambda pair: [(2, 10)], ("the film", "good film"))


def test_spans_of_token_ids_are_refused() -> None:
    tokens = tokenizer()
    ids = dict(tokens([text for text, _ in TEXTS], padding=True, return_tensors="pt"))
    with pytest.raises(PreflightError, match="example 0 .* is token ids, in which spans have no meaning"):
        adapt((network(), tokens), spans=adjectives).encode(load((ids, [0, 1, 2, 1])))


def test_a_slow_tokenizer_is_refused() -> None:
    class Slow:
        pad_token_id, eos_token_id, model_max_length = 0, 3, 64
        is_fast = False

        def __call__(self, *texts: str) -> None: ...

        def get_special_tokens_mask(self, ids: list[int], already_has_special_tokens: bool) -> None: ...

    adapt((network(), Slow()))
    with pytest.raises(ModelError, match=r"spans: which characters .* this one is slow; use AutoTokenizer"):
        adapt((network(), Slow()), spans=adjectives)


def test_spans_are_a_function_and_for_texts() -> None:
    with pytest.raises(ModelError, match=r"spans=\[\(0, 3\)\] is no function"):
        adapt((network(), tokenizer()), spans=[(0, 3)])
    with pytest.raises(ModelError, match="spans are characters of texts, and Linear takes tensors"):
        adapt(nn.Linear(2, 2), spans=adjectives)
    with pytest.raises(ModelError, match="spans was given for BertForSequenceClassification, which is adapted already"):
        adapt(adapt((network(), tokenizer())), spans=adjectives)


def test_a_model_with_other_spans_has_another_digest() -> None:
    from pytest_robust.evaluation.identity import digest

    net, tokens = network(), tokenizer()
    assert digest(adapt((net, tokens), spans=adjectives)) == digest(adapt((net, tokens), spans=adjectives))
    assert digest(adapt((net, tokens), spans=adjectives)) != digest(adapt((net, tokens)))
    assert torch.is_grad_enabled()
