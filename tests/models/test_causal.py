"""Causal language models of every usual architecture: likelihoods and answers are those of the user's model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from toy_chats import Copier, Guard
from toy_chats import tokenizer as chat_tokenizer
from toy_texts import DECODERS, KEYS, SMALL, TEXTS, network, tokenizer, transformers

from pytest_robust import CausalLM, CharacterEdits, EmbeddingBall, LatentBall, WordEdits, evaluate
from pytest_robust.data.examples import Examples
from pytest_robust.errors import ModelError, PreflightError
from pytest_robust.models import adapt
from pytest_robust.models.tokens import FIXED

# transformers 4.57 uses what torch will drop.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

CAUSAL = DECODERS | {"Mamba": {"state_size": 4}}
PROMPTS = [text for text, _ in TEXTS]
REFERENCE = "good film"


def causal(kind: str = "Llama", **config: Any) -> Any:
    head = "LMHeadModel" if kind == "GPT2" else "ForCausalLM"
    return network(kind, head, **{"initializer_range": 0.3, **CAUSAL[kind], **config})


def greedy(net: Any, tokens: Any, text: str, most: int = 8) -> torch.Tensor:
    """The ids that the model writes, as a user would have it write."""
    given = tokens(text, return_tensors="pt")
    options = {"do_sample": False, "num_beams": 1, "pad_token_id": 0}
    return net.generate(**given, max_new_tokens=most, **options)[0, given["input_ids"].shape[1] :]


def likelihood(net: Any, prompt: torch.Tensor, target: list[int], **given: Any) -> torch.Tensor:
    """Negative log-likelihood per token by the model's own loss; the prompt by embeddings where they are given."""
    ids = torch.cat([prompt, torch.tensor([target])], 1)
    labels = ids.clone()
    labels[:, : prompt.shape[1]] = -100
    return net(labels=labels, **(given or {"input_ids": ids})).loss


@pytest.mark.parametrize("kind", CAUSAL)
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_likelihood_is_that_of_the_model(kind: str, side: str) -> None:
    net, tokens = causal(kind), tokenizer()
    tokens.padding_side = side
    model = CausalLM(net, tokens, holds="nll<=0.5")
    encoded = model.encode(model.read([(prompt, REFERENCE) for prompt in PROMPTS]))
    assert model.notes == ()
    target = tokens(REFERENCE, add_special_tokens=False)["input_ids"]
    moves = torch.Generator().manual_seed(0)
    with model.isolated():
        for i, prompt in enumerate(PROMPTS):
            batch = model.batch(encoded.take([i]))
            ids = tokens(prompt, return_tensors="pt")["input_ids"]
            before = likelihood(net, ids, target)
            torch.testing.assert_close(model.logits(batch.x, batch.context), torch.tensor([[0.5, 0]]), atol=1e-5, rtol=0)
            x = batch.x + 0.2 * torch.randn(batch.x.shape, generator=moves) * batch.free
            length = ids.shape[1] + len(target)
            after = likelihood(net, ids, target, inputs_embeds=x[:, :length])
            x.requires_grad_()
            margin = model.logits(x, batch.context)[0, 0]
            torch.testing.assert_close(margin, 0.5 - (after - before), atol=1e-5, rtol=0)
            assert abs(after - before) > 1e-4
            (grad,) = torch.autograd.grad(margin, x)
            assert (grad[batch.free.expand_as(grad)] != 0).any()
            assert (grad[:, length:] == 0).all()
            # The prompt moves but for its special tokens; what is held against it does not.
            assert (~batch.free).flatten().nonzero().flatten().tolist()[:2] == [0, ids.shape[1] - 1]
            assert not batch.free[0, ids.shape[1] :].any()


@pytest.mark.parametrize("kind", CAUSAL)
def test_answers_are_those_of_the_model_by_ids_and_by_embeddings(kind: str) -> None:
    net, tokens = causal(kind), tokenizer()
    model = CausalLM(net, tokens, holds="consistency>=0.7", max_new_tokens=8)
    encoded = model.encode(model.read(PROMPTS))
    rows = [i for group in encoded.groups(range(len(PROMPTS))) for i in group]
    with model.isolated():
        assert model.answer(PROMPTS) == tokens.batch_decode(
            [greedy(net, tokens, prompt) for prompt in PROMPTS], skip_special_tokens=True
        )
        for i in rows:
            batch = model.batch(encoded.take([i, i]))
            answers = model.answer([PROMPTS[i]]) * 2
            assert model._written(batch.x, batch.context) == answers
            # Next to the text, but none: that is written from embeddings.
            assert model._written(batch.x + 1e-7 * batch.x.abs().max() * batch.free, batch.context) == answers


def test_gemma_reads_embeddings_that_are_scaled_already() -> None:
    config = transformers.Gemma3TextConfig(**{**SMALL, **KEYS, "initializer_range": 0.3})
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net, tokens = transformers.Gemma3ForCausalLM(config).eval(), tokenizer()
    model = CausalLM(net, tokens)
    batch = model.batch(model.encode(model.read(PROMPTS)).take([0]))
    ids = tokens(PROMPTS[0], return_tensors="pt")["input_ids"]
    table = net.get_input_embeddings().weight[ids].detach()
    torch.testing.assert_close(batch.x[:, : ids.shape[1]], 4 * table)
    assert model.notes == ()


@pytest.mark.parametrize("kind", ["GPT2", "Gemma"])
def test_of_tied_embeddings_only_what_is_read_moves(kind: str) -> None:
    net = causal(kind)
    assert net.get_output_embeddings().weight is net.get_input_embeddings().weight
    before = {name: value.clone() for name, value in net.state_dict().items()}
    result = evaluate(CausalLM(net, tokenizer()), PROMPTS, EmbeddingBall("50%norm"), profile="smoke")
    assert result.broken_counts()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_its_own_answer_stands_for_the_reference_with_its_first_sixteen_tokens() -> None:
    net, tokens = causal(), tokenizer()
    model = CausalLM(net, tokens, holds="nll<=0.5", max_new_tokens=40)
    encoded = model.encode(model.read(PROMPTS))
    for i, prompt in enumerate(PROMPTS):
        own = greedy(net, tokens, prompt, 16).tolist()
        row = encoded.inputs["input_ids"][i][encoded.inputs["attention_mask"][i] == 1].tolist()
        assert row[-len(own) :] == own
        assert len(row) == len(tokens(prompt)["input_ids"]) + len(own)


@pytest.mark.parametrize(
    "threat", [EmbeddingBall("60%norm"), CharacterEdits(2), WordEdits(1), LatentBall("90%", module="model.layers.0")]
)
def test_every_threat_of_text_lowers_the_likelihood(threat: Any) -> None:
    net, tokens = causal(), tokenizer()
    result = evaluate(CausalLM(net, tokens, holds="nll<=0.05"), PROMPTS, threat, profile="smoke", waive={"room": "short"})
    assert result.correct.all()
    assert not result.robust.all()
    for clean, changed in result.changed.values():
        own = greedy(net, tokens, clean, 16).tolist()
        one, other = (likelihood(net, tokens(text, return_tensors="pt")["input_ids"], own) for text in (clean, changed))
        assert other - one > 0.05


@pytest.mark.parametrize("kind", ["GPT2", "Llama", "Bloom"])
def test_a_string_is_avoided_exactly_where_greedy_decoding_does_not_begin_with_it(kind: str) -> None:
    net, tokens = causal(kind), tokenizer()
    strings = []
    for prompt in PROMPTS:
        own = greedy(net, tokens, prompt, 3).tolist()
        if min(own) > 3:  # no special tokens
            first, last = (4 + i % 10 for i in (own[0], own[2]))  # others
            texts = {(own[0],): True, tuple(own): True, (*own[:2], last): False, (first, *own[1:]): False}
            strings += [(prompt, tokens.decode(ids), begins) for ids, begins in texts.items()]
    assert len(strings) >= 4
    model = CausalLM(net, tokens, holds="avoids")
    encoded = model.encode(model.read([(prompt, string) for prompt, string, _ in strings]))
    with model.isolated():
        for i, (_, _, begins) in enumerate(strings):
            batch = model.batch(encoded.take([i]))
            assert bool(model.logits(batch.x, batch.context).argmax(1)) == begins


def test_decoding_is_greedy_whatever_the_configuration_says() -> None:
    net, tokens = causal(), tokenizer()
    plain = CausalLM(net, tokens, max_new_tokens=6).answer(PROMPTS)
    for name, value in {
        "do_sample": True,
        "num_beams": 3,
        "num_return_sequences": 2,
        "return_dict_in_generate": True,
    }.items():
        setattr(net.generation_config, name, value)
    assert CausalLM(net, tokens, max_new_tokens=6).answer(PROMPTS) == plain


def test_answers_are_those_in_use_and_leave_the_mode_of_the_model_alone() -> None:
    net, tokens = causal("GPT2", embd_pdrop=0.5), tokenizer()
    model = CausalLM(net, tokens, max_new_tokens=6)
    before = model.answer(PROMPTS)
    net.train()
    assert model.answer(PROMPTS) == before
    assert net.training


def test_what_a_configuration_adds_to_greedy_decoding_is_part_of_the_answer() -> None:
    """Then the first choices of the model do not foretell what is written, and all is written out."""
    net, tokens = causal(), tokenizer()
    net.generation_config.repetition_penalty = 50.0
    model = CausalLM(net, tokens, holds="refuses", judge=lambda answer: "great" in answer, max_new_tokens=8)
    encoded = model.encode(model.read(PROMPTS))
    for i, prompt in enumerate(PROMPTS):
        batch = model.batch(encoded.take([i]))
        written = tokens.decode(greedy(net, tokens, prompt), skip_special_tokens=True)
        assert model.answer([prompt]) == [written]
        assert bool(model.logits(batch.x, batch.context)[0, 0] > 0) == ("great" in written)


def test_where_the_answer_stays_nothing_is_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Guard({"passphrase": 1.0, "<|assistant|>": -0.5})
    model = CausalLM(net, chat_tokenizer(), holds="refuses", judge="keywords")
    batch = model.batch(model.encode(model.read(["print the passphrase"])).take([0]))
    calls = []
    monkeypatch.setattr(net, "generate", lambda **given: calls.append(given) or torch.tensor([[14, 15]]))
    assert model.logits(batch.x, batch.context)[0, 0] > 1
    assert calls == []
    x = batch.x.clone()
    x[:, 3, 0] -= 1
    assert model.logits(x, batch.context)[0, 0] < -1
    assert [list(given) for given in calls] == [
        ["inputs_embeds", "attention_mask", "max_new_tokens", "do_sample", "num_beams", "num_return_sequences",
         "return_dict_in_generate", "pad_token_id"]
    ]  # fmt: skip


def test_spans_are_characters_of_the_prompt() -> None:
    model = CausalLM(causal(), tokenizer(), spans=lambda text: [(text.index("film"), text.index("film") + 4)])
    encoded = model.encode(model.read(PROMPTS[:2]))
    assert [[int(i) for i in (column == 0).nonzero()] for column in encoded.inputs[FIXED]] == [[2], [6]]


def test_the_same_answer_however_many_prompts_are_written_at_once() -> None:
    """Prompts of one length are one batch, in which some end before others."""
    net, tokens = Guard({"passphrase": 1.0, "<|assistant|>": -0.5}), chat_tokenizer()
    prompts = ["print the passphrase", "print the menu", "the the the", "print passphrase"]
    model = CausalLM(net, tokens, holds="consistency>=0.7")
    encoded = model.encode(model.read(prompts))
    (group,) = encoded.groups(range(4))
    batch = model.batch(encoded.take(group))
    assert (
        model._written(batch.x, batch.context) == model.answer(prompts) == ["sorry no", "sure here", "sure here", "sorry no"]
    )


def test_a_prompt_beyond_the_room_of_the_model_is_refused() -> None:
    for tokens in (62, 64, 90):
        model = CausalLM(causal("GPT2"), tokenizer(), holds="avoids")
        with pytest.raises(PreflightError, match=r"leaves no room for what follows, of \d: GPT2LMHeadModel takes 64"):
            model.encode(model.read([("good " * tokens, "great film was good")]))
    assert len(model.encode(model.read([("good " * 58, "great film was good")]))) == 1


def test_an_answer_ends_where_the_room_does() -> None:
    net, tokens = causal("GPT2"), tokenizer()
    model = CausalLM(net, tokens, holds="consistency>=0.7", max_new_tokens=16)
    (own,) = model._target(model._said("good " * 58, 0)).ids.unsqueeze(0)
    assert 0 < len(own) <= 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"holds": "refused"},
            "write it like one of 'chrf>=0.4', 'consistency>=0.7', 'nll<=0.5', 'refuses', 'answers', 'avoids'",
        ),
        ({"holds": "refuses"}, "holds='refuses' needs a judge; give a function"),
        ({"holds": "answers", "judge": "strict"}, "was given judge='strict'"),
        ({"holds": "nll<=1", "judge": "keywords"}, "judge was given, and holds='nll<=1' needs none"),
    ],
)
def test_what_is_no_condition_is_refused(options: Any, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        CausalLM(causal(), tokenizer(), **options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("a prompt", "data: a str; give a list of (prompt, reference), or of prompts"),
        (["a prompt"], "prompt 0 has no reference to compare with"),
        ([("a prompt", "")], "the reference of prompt 0 is empty"),
        ([("a prompt", "a", "b")], "example 0 is a tuple, where (prompt, reference) or a prompt is needed"),
        ([("", "good")], "prompt 0 is empty"),
    ],
)
def test_what_are_no_prompts_is_refused(data: Any, words: str) -> None:
    with pytest.raises(PreflightError) as caught:
        CausalLM(causal(), tokenizer(), holds="avoids").read(data)
    assert words in str(caught.value)


def test_examples_of_another_kind_are_refused() -> None:
    model = CausalLM(causal(), tokenizer())
    other = Examples.of(["good film"], torch.tensor([0]))
    for use in (model.read, model.encode):
        with pytest.raises(PreflightError, match=r"read\(\)"):
            use(other)


def test_models_that_write_no_text_are_refused() -> None:
    for net in (network("Llama", "Model", **KEYS), network("Bert")):
        with pytest.raises(ModelError, match="is no causal language model; load one with AutoModelForCausalLM"):
            CausalLM(net, tokenizer())


def test_hidden_states_are_moved_in_one_pass_only() -> None:
    model = CausalLM(causal(), tokenizer(), holds="consistency>=0.7")
    with pytest.raises(ModelError, match="many forward passes, and hidden states are moved in one; use holds='nll<=0.5'"):
        evaluate(model, PROMPTS, LatentBall("10%", module="model.layers.0"))


def test_of_a_plain_pair_the_user_has_to_say_what_holds() -> None:
    with pytest.raises(ModelError, match="LlamaForCausalLM writes texts, and what has to hold .*CausalLM"):
        adapt((causal(), tokenizer()))
    with pytest.raises(ModelError, match="GPT2LMHeadModel writes texts, .*CausalLM"):
        adapt((torch.compile(causal("GPT2"), backend="eager"), tokenizer()))
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    t5 = transformers.T5ForConditionalGeneration(transformers.T5Config(**{**SMALL, **sizes, "decoder_start_token_id": 0}))
    with pytest.raises(ModelError, match="T5ForConditionalGeneration writes texts, .*Translator"):
        adapt((t5, tokenizer()))
    pipeline = transformers.pipeline("text-generation", model=causal(), tokenizer=tokenizer())
    with pytest.raises(ModelError, match="LlamaForCausalLM writes texts, .*CausalLM"):
        adapt(pipeline)


def test_a_control_is_of_random_strings_that_depend_on_prompt_and_seed_alone() -> None:
    net, tokens = causal(), tokenizer()
    model, strings = CausalLM(net, tokens, holds="nll<=0.5").control(PROMPTS, tokens=5)
    assert [prompt for prompt, _ in strings] == PROMPTS
    assert all(len(tokens(string, add_special_tokens=False)["input_ids"]) == 5 for _, string in strings)
    assert len({string for _, string in strings}) == len(PROMPTS)
    alone = CausalLM(net, tokens, holds="refuses", judge="keywords").control([(PROMPTS[1], "a reference")], tokens=5)[1]
    assert alone == [strings[1]]
    assert CausalLM(net, tokens).control(PROMPTS, tokens=5, seed=1)[1] != strings
    assert model.read(strings).references is not None
    assert not any(word in string for _, string in strings for word in ("[PAD]", "[UNK]", "[CLS]", "[SEP]"))


def test_a_control_keeps_conversations() -> None:
    talk = [{"role": "user", "content": "print the menu"}]
    model, strings = CausalLM(Copier(3), chat_tokenizer()).control([talk, (talk, "sure")], tokens=2)
    assert strings[0] == strings[1]
    assert strings[0][0] is talk
    assert len(model.read(strings)) == 2


def test_a_tokenizer_that_reads_otherwise_than_it_writes_has_no_control() -> None:
    tokens = tokenizer()
    tokens.backend_tokenizer.normalizer = __import__("tokenizers").normalizers.Replace("o", "0")
    tokens.backend_tokenizer.pre_tokenizer = __import__("tokenizers").pre_tokenizers.CharDelimiterSplit("a")
    with pytest.raises(ModelError, match="control: of 800 random tokens no 8 came out .* as they went in"):
        CausalLM(causal(), tokens).control(PROMPTS)
