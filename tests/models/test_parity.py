"""The attack is on the user's model: logits for embeddings are those for token ids, whatever the architecture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy_texts import DECODERS, GPT2, KEYS, TEXTS, network, tokenizer, tokenizers, transformers

from pytest_robust import EmbeddingBall, evaluate
from pytest_robust.data import load
from pytest_robust.errors import ModelError
from pytest_robust.models import adapt
from pytest_robust.models.embedded_text import EmbeddedText
from pytest_robust.models.parity import AS_ARGUMENT, IN_PLACE, difference

# transformers 4.57 uses what torch will drop.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

TWO_SIDED = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "decoder_start_token_id": 2, "init_std": 0.3,
}  # fmt: skip
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "Bert": {},
    "DistilBert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "Roberta": {},
    "XLMRoberta": {},
    "Camembert": {},
    "Electra": {"embedding_size": 8},
    "Albert": {"embedding_size": 8},
    "DebertaV2": {},
    "MPNet": {},
    "ModernBert": {},
    **DECODERS,
    "T5": T5,
    "MT5": T5,
    "Bart": TWO_SIDED,
    "MBart": TWO_SIDED,
}
"""Sequence classifiers that transformers has both in 4.57 and 5."""
ENCODERS = (
    "Bert",
    "DistilBert",
    "Roberta",
    "XLMRoberta",
    "Camembert",
    "Electra",
    "Albert",
    "DebertaV2",
    "MPNet",
    "ModernBert",
)
NO_EMBEDDINGS = ("T5", "MT5", "Bart", "MBart")
"""Their heads look for the end of the text in the ids, and refuse embeddings."""
BASES: dict[str, dict[str, Any]] = {
    "Roberta": {},
    "XLMRoberta": {},
    "MPNet": {},
    "Mamba": {"state_size": 4, "num_hidden_layers": 1},
    "T5": T5,
    "Bart": TWO_SIDED,
    "M2M100": TWO_SIDED,
    "Marian": TWO_SIDED | {"scale_embedding": True},
}


class Hidden(EmbeddedText):
    """A base model, whose logits are the first hidden state: as little as a kind of head needs."""

    @staticmethod
    def _check_head(module: Any) -> None:
        pass

    def _class_names(self, given: Sequence[str] | None) -> None:
        return None

    def _observed(self, output: Any, batch_size: int) -> Tensor:
        return output.last_hidden_state

    def _judged(self, observed: Tensor, context: dict[str, Tensor]) -> Tensor:
        return observed[:, 0]

    def _arguments(self, context: dict[str, Tensor]) -> dict[str, Tensor]:
        start = torch.full_like(context["input_ids"][:, :1], 2)
        return super()._arguments(context) | ({"decoder_input_ids": start} if self.module.config.is_encoder_decoder else {})


def classifier(kind: str, **config: Any) -> Any:
    return network(kind, **{"initializer_range": 0.3, **CLASSIFIERS[kind], **config})


def base(kind: str) -> Any:
    return network(kind, "Model", **{"initializer_range": 0.3, **BASES[kind]})


def noise(x: Tensor) -> Tensor:
    return 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


def gap(found: Tensor, wanted: Tensor) -> float:
    return difference(found.detach(), wanted.detach(), torch.float32)


@pytest.mark.parametrize("kind", CLASSIFIERS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_are_those_of_the_token_ids(kind: str, side: str) -> None:
    net, tokens = classifier(kind), tokenizer()
    tokens.padding_side = side
    model = adapt((net, tokens))
    encoded = model.encode(load(TEXTS))
    assert isinstance(encoded.inputs, dict)
    # Decoders read the last position, which padding would change.
    lengths = [16, 16, 48, 32] if kind in (*ENCODERS, *NO_EMBEDDINGS) else [6, 8, 42, 18]
    assert [len(row) for row in encoded.inputs["input_ids"]] == lengths
    assert [IN_PLACE.name in note for note in model.notes] == [True] * (kind in NO_EMBEDDINGS)
    with model.isolated():
        for i, (text, _) in enumerate(TEXTS):
            batch = model.batch(encoded.take([i]))
            x = batch.x.requires_grad_()
            logits = model.logits(x, batch.context)
            assert gap(logits, net(**tokens(text, return_tensors="pt")).logits) < 1e-4
            (grad,) = torch.autograd.grad(logits.sum(), x)
            assert grad[batch.free.expand_as(grad)].abs().sum() > 0


@pytest.mark.parametrize("kind", [kind for kind in CLASSIFIERS if kind not in NO_EMBEDDINGS])
def test_both_ways_in_are_the_same_function(kind: str) -> None:
    net = classifier(kind)
    ids = torch.tensor([[2, 11, 6, 14, 8, 3]])
    with torch.no_grad():
        x = net.get_input_embeddings()(ids)
        x = x + noise(x)
        ways = [way.call(net, x, {"input_ids": ids}).logits for way in (AS_ARGUMENT, IN_PLACE)]
        assert gap(*ways) < 1e-5
        assert gap(ways[0], net(input_ids=ids).logits) > 1e-3
    assert not net.get_input_embeddings()._forward_hooks


def test_in_place_only_the_encoder_is_given_other_embeddings() -> None:
    """Encoder and decoder of Bart look up in the same table."""
    net = classifier("Bart").model
    ids = torch.tensor([[2, 11, 6, 14, 8, 3]])
    with torch.no_grad():
        x = net.get_input_embeddings()(ids)
        x = x + noise(x)
        found = IN_PLACE.call(net, x, {"input_ids": ids, "decoder_input_ids": ids.clone()}).last_hidden_state
        wanted = net(inputs_embeds=x, decoder_input_ids=ids).last_hidden_state
        assert gap(found, wanted) < 1e-5
        assert gap(net(input_ids=ids, decoder_input_ids=ids).last_hidden_state, wanted) > 1e-3


def test_what_is_broken_through_the_repair_is_broken_by_hand() -> None:
    net, tokens = classifier("Bart"), tokenizer()
    model = adapt((net, tokens))
    texts = ["the film was great", "this is a very bad film", "not good", "a good film"]
    inputs = [tokens(text, return_tensors="pt") for text in texts]
    labels = [int(net(**one).logits.argmax()) for one in inputs]
    result = evaluate(
        model,
        list(zip(texts, labels, strict=True)),
        EmbeddingBall(1),
        attacks="pgd",
        profile="smoke",
        waive={"chance": "few texts"},
    )
    assert result.witnesses
    assert any(IN_PLACE.name in note for note in result.notes)
    for i, x in result.witnesses.items():
        ids = inputs[i]["input_ids"]
        x = x[: ids.shape[1]].unsqueeze(0)
        shifted = torch.cat([torch.tensor([[2]]), ids[:, :-1]], 1)
        last = net.model(inputs_embeds=x, decoder_input_ids=shifted).last_hidden_state[:, -1]
        assert int(net.classification_head(last).argmax()) != labels[i]


@pytest.mark.parametrize("kind", BASES)
def test_models_without_such_a_head_share_the_check(kind: str) -> None:
    net, tokens = base(kind), tokenizer()
    model = Hidden(net, tokens)
    encoded = model.encode(load(TEXTS))
    assert [IN_PLACE.name in note for note in model.notes] == [True] * (kind == "Marian")
    with model.isolated():
        for i, (text, _) in enumerate(TEXTS):
            batch = model.batch(encoded.take([i]))
            ids = {"decoder_input_ids": torch.tensor([[2]])} if net.config.is_encoder_decoder else {}
            wanted = net(**tokens(text, return_tensors="pt"), **ids).last_hidden_state[:, 0]
            assert gap(model.logits(batch.x, batch.context), wanted) < 1e-4


# The traps, by name.


def test_marian_scales_embeddings_on_the_way_from_ids_only() -> None:
    net = base("Marian")
    ids, start = torch.tensor([[2, 11, 6, 14, 8, 3]]), torch.tensor([[2]])
    with torch.no_grad():
        wanted = net(input_ids=ids, decoder_input_ids=start).last_hidden_state
        embedded = net.get_input_embeddings()(ids)
        assert gap(net(inputs_embeds=embedded, decoder_input_ids=start).last_hidden_state, wanted) > 0.01
        assert gap(net(inputs_embeds=4 * embedded, decoder_input_ids=start).last_hidden_state, wanted) < 1e-5
    model = Hidden(net, tokenizer())
    model.encode(load(TEXTS))
    (note,) = model.notes
    assert "MarianModel are put in place of" in note
    assert "(not as inputs_embeds: they differ by " in note


def test_gemma_scales_what_it_looks_up() -> None:
    net, tokens = network("Gemma3Text", **KEYS, initializer_range=0.3), tokenizer()
    encoded = tokens(TEXTS[0][0], return_tensors="pt")
    with torch.no_grad():
        wanted = net(**encoded).logits
        rows = net.get_input_embeddings().weight[encoded["input_ids"]]
        assert gap(net(inputs_embeds=rows).logits, wanted) > 0.01
    model = adapt((net, tokens))
    batch = model.batch(model.encode(load(TEXTS)).take([0]))
    assert torch.allclose(batch.x, 4 * rows, rtol=1e-2)
    assert gap(model.logits(batch.x, batch.context), wanted) < 1e-5


COUNT_BY_IDS = pytest.mark.parametrize(
    # MPNet takes number 1 for its padding, whatever its configuration says.
    ("kind", "pad"),
    [("Roberta", "[PAD]"), ("XLMRoberta", "[PAD]"), ("MPNet", "[UNK]"), ("M2M100", "[PAD]")],
)


def first_hidden(net: Any, inputs: Any) -> Tensor:
    """(B, D) of the decoder, else at the first token that is no padding."""
    with torch.no_grad():
        if net.config.is_encoder_decoder:
            start = torch.full_like(inputs["attention_mask"][:, :1], 2)
            return net(**inputs, decoder_input_ids=start).last_hidden_state[:, 0]
        first = inputs["attention_mask"].argmax(1)
        return net(**inputs).last_hidden_state[torch.arange(len(first)), first]


def embedded(net: Any, inputs: Any) -> dict[str, Tensor]:
    return {
        "inputs_embeds": net.get_input_embeddings()(inputs["input_ids"]).detach(),
        "attention_mask": inputs["attention_mask"],
    }


@COUNT_BY_IDS
def test_roberta_counts_positions_by_ids_that_are_no_padding(kind: str, pad: str) -> None:
    net, tokens = base(kind), tokenizer(pad_token=pad)
    tokens.padding_side = "left"
    inputs = tokens([text for text, _ in TEXTS[:2]], padding=True, return_tensors="pt")
    assert inputs["attention_mask"][0, 0] == 0
    wanted = first_hidden(net, inputs)
    assert gap(first_hidden(net, embedded(net, inputs))[:1], wanted[:1]) > 1e-3
    model = Hidden(net, tokens)
    for data in (TEXTS[:2], (dict(inputs), [1, 0])):
        rows = model.encode(load(data))
        for i in range(2):
            batch = model.batch(rows.take([i]))
            assert gap(model.logits(batch.x, batch.context), wanted[i : i + 1]) < 1e-5
    assert model.notes == ()


@COUNT_BY_IDS
def test_roberta_with_the_padding_token_within_a_text(kind: str, pad: str) -> None:
    net, tokens = base(kind), tokenizer(pad_token=pad)
    odd = f"good {pad} film"
    inputs = tokens(odd, return_tensors="pt")
    wanted = first_hidden(net, inputs)
    assert gap(first_hidden(net, embedded(net, inputs)), wanted) > 1e-3
    model = Hidden(net, tokens)
    rows = model.encode(load([*TEXTS, (odd, 0)]))
    assert IN_PLACE.name in model.notes[0]
    model.encode(load(TEXTS))
    assert model.notes == ()
    # What was encoded before is still run as it has to be.
    batch = model.batch(rows.take([len(TEXTS)]))
    assert gap(model.logits(batch.x, batch.context), wanted) < 1e-5


class Scaled(nn.Module):
    """Scales embeddings only on the way from token ids."""

    def __init__(self, *, by_layer: bool) -> None:
        super().__init__()
        self.inner = network(initializer_range=0.3)
        self.config, self.by_layer = self.inner.config, by_layer

    def get_input_embeddings(self) -> nn.Module:
        return self.inner.get_input_embeddings()

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, attention_mask: Any = None) -> Tensor:
        if inputs_embeds is None:
            layer = self.get_input_embeddings()
            inputs_embeds = 4 * (layer(input_ids) if self.by_layer else layer.weight[input_ids])
        return self.inner(inputs_embeds=inputs_embeds, attention_mask=attention_mask).logits


def test_an_unscaled_embedding_is_repaired_where_the_layer_is_called() -> None:
    model = adapt((Scaled(by_layer=True), tokenizer()))
    model.encode(load(TEXTS))
    assert "the embeddings of Scaled are put in place of what the embedding layer returns" in model.notes[0]


def test_a_compiled_model_is_repaired_and_left_as_it_was() -> None:
    net, tokens = Scaled(by_layer=True), tokenizer()
    compiled = torch.compile(net, backend="eager")
    inputs = dict(tokens([text for text, _ in TEXTS[:1]] * 2, padding="max_length", max_length=16, return_tensors="pt"))
    wanted = compiled(**inputs)
    model = adapt((compiled, tokens))
    batch = model.batch(model.encode(load(TEXTS)).take([0, 0]))
    assert IN_PLACE.name in model.notes[0]
    assert gap(model.logits(batch.x, batch.context), wanted) < 1e-5
    assert gap(model.logits(batch.x + noise(batch.x), batch.context), wanted) > 1e-3
    assert torch.equal(compiled(**inputs), wanted)


class PassingOn(nn.Module):
    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.config = inner, inner.config
        self.get_input_embeddings = inner.get_input_embeddings

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)


@pytest.mark.parametrize("wrap", [PassingOn, lambda net: torch.compile(net, backend="eager")])
def test_a_wrapper_is_given_all_that_the_model_takes(wrap: Any) -> None:
    net, tokens = network(initializer_range=0.3), tokenizer(types=True)
    model = adapt((wrap(net), tokens))
    pair = ("the film", "good film")
    rows = model.encode(load([(pair, 1), (("this is", "very bad " * 8), 0)]))
    batch = model.batch(rows.take([0]))
    assert batch.x.shape[1] == 16
    assert model.notes == ()
    assert gap(model.logits(batch.x, batch.context), net(**tokens(*pair, return_tensors="pt")).logits) < 1e-5


def test_a_compiled_token_classifier_is_one() -> None:
    net = network("Bert", "ForTokenClassification")
    model = adapt((torch.compile(net, backend="eager"), tokenizer()))
    assert (model.name, model.classes) == ("BertForTokenClassification", ("tags right", "a tag is wrong"))


def test_what_no_repair_mends_is_refused_with_all_that_was_measured() -> None:
    with pytest.raises(ModelError) as caught:
        adapt((Scaled(by_layer=False), tokenizer())).encode(load(TEXTS))
    words = str(caught.value)
    assert "Scaled gives other outputs for embeddings" in words
    assert "allowed is 0.0001" in words
    assert words.count("as inputs_embeds: they differ by ") == 1
    assert words.count("as inputs_embeds, without padding: they differ by ") == 1
    assert words.count("does not look up its token ids by its get_input_embeddings()") == 2


def test_a_model_without_inputs_embeds_is_entered_in_place() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network(initializer_range=0.3)
            self.config = self.inner.config

        def get_input_embeddings(self) -> nn.Module:
            return self.inner.get_input_embeddings()

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            return self.inner(input_ids=input_ids, attention_mask=attention_mask).logits

    net, tokens = Plain(), tokenizer()
    model = adapt((net, tokens))
    batch = model.batch(model.encode(load(TEXTS)).take([0]))
    assert model.notes == (f"the embeddings of Plain are put {IN_PLACE.name}",)
    assert gap(model.logits(batch.x, batch.context), net(**tokens(TEXTS[0][0], return_tensors="pt"))) < 1e-5


def test_in_place_keeps_the_users_hooks() -> None:
    net = classifier("T5")
    layer = net.get_input_embeddings()
    calls = []
    layer.register_forward_hook(lambda *_: calls.append(1))
    before = list(layer._forward_hooks)
    model = adapt((net, tokenizer()))
    model.encode(load(TEXTS))
    assert list(layer._forward_hooks) == before
    assert calls


def test_a_model_that_returns_nan_is_left_to_the_preflight() -> None:
    assert gap(torch.tensor([[1.0]]), torch.tensor([[float("nan")]])) == 0
    assert gap(torch.tensor([[float("nan")]]), torch.tensor([[1.0]])) == float("inf")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["Roberta", "GPT2", "Bart"])
def test_half_precision_is_compared_by_its_own_measure(kind: str, dtype: torch.dtype) -> None:
    model = adapt((classifier(kind).to(dtype), tokenizer()))
    batch = model.batch(model.encode(load(TEXTS)).take([0]))
    assert batch.x.dtype == torch.float32
    assert model.logits(batch.x, batch.context).isfinite().all()


def test_pairs_are_the_models_own_pairs() -> None:
    pairs = [(("the film", "good film"), 1), (("this is a very bad film", "not good"), 0)]
    tokens = tokenizer(types=True)
    net = network(initializer_range=0.3)
    model = adapt((net, tokens))
    encoded = model.encode(load(pairs))
    for i, (pair, _) in enumerate(pairs):
        batch = model.batch(encoded.take([i]))
        own = tokens(*pair, return_tensors="pt")
        wanted = net(**own).logits
        assert gap(model.logits(batch.x, batch.context), wanted) < 1e-5
        assert gap(net(**{**own, "token_type_ids": torch.zeros_like(own["token_type_ids"])}).logits, wanted) > 1e-3


def test_byte_level_tokens_are_cut_where_the_users_are() -> None:
    raw = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=None))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([text for text, _ in TEXTS] * 4, trainer)
    tokens = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", model_max_length=64)
    net = network("GPT2", **{**GPT2, "vocab_size": 300, "initializer_range": 0.3})
    model = adapt((net, tokens))
    encoded = model.encode(load(TEXTS))
    batch = model.batch(encoded.take([0]))
    assert gap(model.logits(batch.x, batch.context), net(**tokens(TEXTS[0][0], return_tensors="pt")).logits) < 1e-5
