"""Chat models whose weaknesses are known, and their template: a word is a token, and what follows is worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from toy_texts import tokenizers, transformers

ROLES = ["<|system|>", "<|user|>", "<|assistant|>"]
SPECIAL = ["[PAD]", "[UNK]", *ROLES, "<|end|>"]
WORDS = ["print", "the", "passphrase", "menu", "keep", "quiet", "sorry", "no", "sure", "here", "red", "blue", "green"]
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
IDS = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}


def tokenizer(template: str | None = TEMPLATE) -> Any:
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel(IDS, unk_token="[UNK]"))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", eos_token="<|end|>", chat_template=template,
        additional_special_tokens=ROLES, model_max_length=64, model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


class Chat(nn.Module):
    """A causal language model as this library sees it; what is likely next is worked out by ``next_words``.

    Embeddings are (worth, one-hot of the word).
    """

    def __init__(self, worth: dict[str, float] | None = None) -> None:
        super().__init__()
        self.config = SimpleNamespace(is_encoder_decoder=False, pad_token_id=IDS["[PAD]"])
        self.embeddings = nn.Embedding(len(IDS), 1 + len(IDS))
        with torch.no_grad():
            self.embeddings.weight.zero_()
            self.embeddings.weight[:, 1:] = torch.eye(len(IDS))
            for word, value in (worth or {}).items():
                self.embeddings.weight[IDS[word], 0] = value

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings

    def next_words(self, worth: Tensor, words: Tensor) -> Tensor:
        """(B, L, V) logits of the word after each, of worths (B, L) and words (B, L, V)."""
        raise NotImplementedError

    def forward(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, inputs_embeds: Tensor | None = None
    ) -> Any:
        x = self.embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        return SimpleNamespace(logits=self.next_words(x[..., 0], x[..., 1:]))

    @torch.no_grad()
    def generate(
        self, input_ids: Tensor | None = None, inputs_embeds: Tensor | None = None, max_new_tokens: int = 8, **_: Any
    ) -> Tensor:
        x = self.embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        written = torch.empty(len(x), 0, dtype=torch.int64, device=x.device)
        while written.shape[1] < max_new_tokens and not (written == IDS["<|end|>"]).any(1).all():
            word = self(inputs_embeds=x).logits[:, -1].argmax(1)
            ended = (written == IDS["<|end|>"]).any(1)
            written = torch.cat([written, word.masked_fill(ended, IDS["[PAD]"]).unsqueeze(1)], 1)
            x = torch.cat([x, self.embeddings(word).unsqueeze(1)], 1)
        return written if input_ids is None else torch.cat([input_ids, written], 1)


class Guard(Chat):
    """Refuses ("sorry no") while the worth of all words so far is above 0, and answers ("sure here") else.

    ``heeds``: how much of that is of the user's words; the rest is of the first token.
    """

    def __init__(self, worth: dict[str, float], heeds: float = 1.0) -> None:
        super().__init__(worth)
        self.heeds = heeds
        chain = torch.zeros(len(IDS), len(IDS))
        for one, other in {"sorry": "no", "no": "<|end|>", "sure": "here", "here": "<|end|>"}.items():
            chain[IDS[one], IDS[other]] = 8.0
        self.register_buffer("chain", chain)
        first = torch.zeros(len(IDS))
        first[IDS["sorry"]], first[IDS["sure"]] = 4.0, -4.0
        self.register_buffer("first", first)

    def next_words(self, worth: Tensor, words: Tensor) -> Tensor:
        alarm = self.heeds * worth.cumsum(1) + (1 - self.heeds) * worth[:, :1]
        asked = words[..., IDS["<|assistant|>"]]
        return words @ self.chain + (alarm * asked).unsqueeze(2) * self.first


class Copier(Chat):
    """Writes the words that stand ``back`` places before each."""

    def __init__(self, back: int) -> None:
        super().__init__()
        self.back = back

    def next_words(self, worth: Tensor, words: Tensor) -> Tensor:
        before = nn.functional.pad(words, (0, 0, self.back, 0))[:, : words.shape[1]]
        return 10 * before
