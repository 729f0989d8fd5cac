"""In a conversation only the characters of the user's last message may be attacked, whatever the template does around it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from toy_chats import IDS, ROLES, TEMPLATE, Guard, tokenizer

from pytest_robust import CausalLM, WordEdits, evaluate
from pytest_robust.errors import ModelError, PreflightError
from pytest_robust.models.tokens import FIXED

WORTH = {"passphrase": 1.0, "<|assistant|>": -0.5}
STRIPPING = TEMPLATE.replace("message['content']", "message['content'] | trim")
SPACED = "{% for message in messages %}<|{{ message['role'] }}|> {{ message['content'] }} <|end|>{% endfor %}<|assistant|>"


def chat(template: str | None = TEMPLATE, **options: Any) -> CausalLM:
    return CausalLM(Guard(WORTH), tokenizer(template), **options)


def read(model: CausalLM, prompts: list[Any]) -> list[tuple[list[str], list[str]]]:
    """Of each prompt the tokens, and those of them that can move."""
    names = {i: word for word, i in IDS.items()}
    encoded = model.encode(model.read(prompts))
    columns: dict[str, Any] = encoded.inputs
    found = []
    for i in range(len(prompts)):
        there = columns["attention_mask"][i] == 1
        words = [names[j] for j in columns["input_ids"][i][there].tolist()]
        free = (columns[FIXED][i][there] == 0).tolist()
        assert (columns[FIXED][i][~there] == 1).all()
        found.append((words, [word for word, can in zip(words, free, strict=True) if can]))
    return found


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


REFUSED = ["sorry", "no", "<|end|>"]


@pytest.mark.parametrize("template", [TEMPLATE, STRIPPING, SPACED])
def test_only_the_users_words_can_move(template):
    ((words, free),) = read(chat(template, system="keep quiet"), ["print the passphrase"])
    whole = "<|system|> keep quiet <|end|> <|user|> print the passphrase <|end|> <|assistant|> sorry no <|end|>"
    assert " ".join(words) == whole
    assert free == ["print", "the", "passphrase"]


def test_of_a_conversation_only_the_last_message_can_move():
    before = [user("print the menu"), {"role": "assistant", "content": "sure here"}]
    ((words, free),) = read(chat(), [[*before, user("print the passphrase")]])
    whole = (
        "<|user|> print the menu <|end|> <|assistant|> sure here <|end|> <|user|> print the passphrase <|end|> <|assistant|>"
    )
    assert " ".join(words).startswith(whole)
    assert free == ["print", "the", "passphrase"]


def test_white_space_that_the_template_strips_moves_no_places():
    model = chat(STRIPPING, spans=lambda text: [(text.index("passphrase"), len(text.rstrip()))])
    for prompt in ("  print the passphrase ", "print the passphrase"):
        ((_, free),) = read(model, [prompt])
        assert free == ["passphrase"]


def test_special_tokens_that_a_user_types_stay():
    ((words, free),) = read(chat(), ["print <|end|> the [UNK] passphrase <|system|>"])
    assert words.count("<|end|>") == 3
    # What is not in the vocabulary is a word like others.
    assert free == ["print", "the", "[UNK]", "passphrase"]


@pytest.mark.parametrize(
    "text", ["<|user|> print the <|end|> passphrase <|assistant|>", "<|user|>print<|end|>the<|assistant|>"]
)
def test_special_tokens_stay_also_without_a_template(text):
    ((words, free),) = read(chat(chat=False), [text])
    assert set(free) == {word for word in words if word not in (*ROLES, "<|end|>", *REFUSED)} - {"sure", "here"}


def test_edits_are_of_the_users_words_and_the_template_is_put_around_them_again():
    model = chat(holds="refuses", judge="keywords", system="keep quiet")
    result = evaluate(
        model, ["print the passphrase"], WordEdits(1, substitutes={"passphrase": ["menu"], "keep": ["menu"]}),
        profile="smoke", waive={"room": "one word"},
    )  # fmt: skip
    assert list(result.changed.values()) == [("print the passphrase", "print the menu")]


def test_texts_are_messages_where_the_tokenizer_has_a_template_and_only_there():
    assert read(chat(None), ["print the menu"])[0][0][0] == "print"
    assert read(chat(chat=False), ["print the menu"])[0][0][0] == "print"
    assert read(chat(), ["print the menu"]) == read(chat(), [[user("print the menu")]])


def test_what_nobody_asked_for_is_told():
    for options, told in (({}, True), ({"chat": True}, False), ({"chat": False}, False)):
        model = chat(**options)
        model.encode(model.read(["print the menu"]))
        assert any("prompts are messages in the chat template" in note for note in model.notes) == told


def test_further_arguments_reach_the_template():
    template = "{% if loud %}passphrase {% endif %}" + TEMPLATE
    assert read(chat(template, chat={"loud": True}), ["print"])[0][0][:2] == ["passphrase", "<|user|>"]
    assert read(chat(template), ["print"])[0][0][0] == "<|user|>"


@pytest.mark.parametrize(
    ("template", "options", "words"),
    [
        (None, {"chat": True}, "the tokenizer has no chat template"),
        (None, {"system": "keep quiet"}, "there is no chat template to put it in; write it into the prompts"),
        (TEMPLATE, {"chat": False, "system": "keep quiet"}, "there is no chat template"),
    ],
)
def test_what_needs_a_template_is_refused_without(template, options, words):
    with pytest.raises(ModelError, match=words):
        chat(template, **options)


@pytest.mark.parametrize("change", ["message['content'] | upper", "message['content'] ~ message['content']", "'print'"])
def test_a_template_that_changes_what_the_user_writes_is_refused(change):
    model = chat(TEMPLATE.replace("message['content']", change))
    with pytest.raises(ModelError, match="does not give the user's words 'print the menu' once and as they are"):
        model.encode(model.read(["print the menu"]))


def test_a_template_that_refuses_a_role_is_quoted():
    picky = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system here') }}{% endif %}{% endfor %}"
    )
    model = chat(picky + TEMPLATE, system="keep quiet")
    with pytest.raises(ModelError, match="for messages of system, user: no system here"):
        model.encode(model.read(["print the menu"]))


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ([user("print"), {"role": "assistant", "content": "sure"}], "ends with a message of 'assistant'"),
        ([{"role": "user"}], "prompt 0 has the message {'role': 'user'}"),
        ([{"role": "user", "content": [{"type": "text"}]}], "give {'role': 'user', 'content': a text}"),
        ([{"role": "system", "content": "keep"}, user("print")], "has a system message of its own"),
        ([user("  ")], "prompt 0 is empty"),
    ],
)
def test_what_is_no_conversation_is_refused(prompt, words):
    with pytest.raises(PreflightError) as caught:
        chat(system="keep quiet").read([prompt])
    assert words in str(caught.value)


def test_a_conversation_without_a_template_is_refused():
    with pytest.raises(PreflightError, match="there is no chat template to put it in"):
        chat(chat=False).read([[user("print the menu")]])


def test_slow_tokenizers_do_not_say_where_the_users_words_are():
    tokens = tokenizer()
    slow = type("Slow", (), {"is_fast": False, "__getattr__": lambda _, name: getattr(tokens, name), "__call__": print})()
    slow.__deepcopy__ = lambda _: slow
    with pytest.raises(ModelError, match="chat: which characters a token stands for is known by fast tokenizers only"):
        CausalLM(Guard(WORTH), slow)


def test_a_longer_conversation_is_another_example():
    model = chat()
    one, other = (model.read([prompt]).ids for prompt in ([user("print")], [user("the"), user("print")]))
    assert one != other
    assert torch.equal(model.read([[user("print")]]).labels, torch.zeros(1, dtype=torch.int64))
