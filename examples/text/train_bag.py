"""A bag of words that knows letters, for film reviews without "not": the mean of what their words say decides.

A word that it knows is one token, and any other is its letters. Trained on what is spelt right, it has never met a letter.
"""

from __future__ import annotations

import string
from types import SimpleNamespace

import torch
from reviews import Reviews, reviews
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast


def load() -> tuple[Reviews, Reviews]:
    """Training and test set, without overlap."""
    train, test = ([review for review in reviews(n, seed=n) if "not" not in review[0].split()] for n in (600, 60))
    return train, [review for review in test if review not in train]


def tokenizer() -> PreTrainedTokenizerFast:
    """The words of the training set, and letters."""
    words = sorted({word for text, _ in load()[0] for word in text.split()})
    letters = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(("[PAD]", "[UNK]", *letters, *words)))}
    core = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=64, pad_token="[PAD]", unk_token="[UNK]")


class Bag(nn.Module):
    """What a text model needs to be attacked: embeddings by ids or given, and a configuration."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(num_labels=2, id2label={0: "blame", 1: "praise"})
        self.embeddings = nn.Embedding(tokens, 16)
        self.head = nn.Linear(16, 2)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings

    def forward(
        self, attention_mask: Tensor, input_ids: Tensor | None = None, inputs_embeds: Tensor | None = None
    ) -> Tensor:
        embedded = self.embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        there = attention_mask.to(embedded.dtype).unsqueeze(2)
        logits: Tensor = self.head((embedded * there).sum(1) / there.sum(1))
        return logits


def train(epochs: int = 8) -> Bag:
    """Trained on the training set as it is, in eval mode."""
    torch.manual_seed(0)
    pieces, examples = tokenizer(), load()[0]
    model = Bag(len(pieces))
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-2)
    for _ in range(epochs):
        for batch in torch.randperm(len(examples)).split(64):
            texts, labels = zip(*(examples[i] for i in batch.tolist()), strict=True)
            columns = pieces(list(texts), padding=True, return_tensors="pt")
            logits = model(columns["attention_mask"], columns["input_ids"])
            optimiser.zero_grad()
            nn.functional.cross_entropy(logits, torch.tensor(labels)).backward()
            optimiser.step()
    return model.eval()
