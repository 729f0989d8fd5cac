"""Small text models whose weaknesses are known, with a tokenizer of words and of letters."""

from __future__ import annotations

import string
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

WORDS = ["the", "film", "plot", "was", "is", "good", "fine", "great", "bad", "poor", "awful", "very", "not", "magic"]


def tokenizer(words: list[str] = WORDS) -> Any:
    """Known words are one token each, others one for every letter; ``[CLS]`` and ``[SEP]`` around them."""
    import tokenizers
    import transformers

    letters = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words, *letters])}
    raw = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    raw.normalizer = tokenizers.normalizers.BertNormalizer()
    raw.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    raw.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]",
        model_max_length=128, model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


class Classifier(nn.Module):
    """What the text models here share with those of transformers: embeddings by ids or given, and a configuration."""

    def __init__(self, tokens: int, dimensions: int, classes: int = 2) -> None:
        super().__init__()
        self.config = SimpleNamespace(num_labels=classes, problem_type=None)
        self.embeddings = nn.Embedding(tokens, dimensions)

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings

    def forward(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, inputs_embeds: Tensor | None = None
    ) -> Tensor:
        embedded = self.embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        assert attention_mask is not None
        return self.read(embedded, attention_mask.to(embedded.dtype).unsqueeze(2))

    def read(self, embedded: Tensor, there: Tensor) -> Tensor:
        """(B, C) logits of (B, L, D) embeddings; ``there``, (B, L, 1): 0 at padding."""
        raise NotImplementedError


class SummedLinear(Classifier):
    """Linear in the sum of the embeddings: what each token is worth is known."""

    def __init__(self, tokens: int, dimensions: int = 8, classes: int = 2) -> None:
        super().__init__(tokens, dimensions, classes)
        self.head = nn.Linear(dimensions, classes)

    def read(self, embedded: Tensor, there: Tensor) -> Tensor:
        logits: Tensor = self.head((embedded * there).sum(1))
        return logits


def scored(worth: dict[str, float], default: float = 0.0, offset: float = 0.0) -> tuple[SummedLinear, Any]:
    """A classifier and its tokenizer: class 1 when the worths of the tokens and ``offset`` sum up to more than 0."""
    tokens = tokenizer()
    model = SummedLinear(len(tokens), dimensions=2).eval()
    with torch.no_grad():
        model.embeddings.weight.fill_(0)
        for token, i in tokens.get_vocab().items():
            if token not in ("[PAD]", "[CLS]", "[SEP]"):
                model.embeddings.weight[i, 0] = worth.get(token, default)
        model.head.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
        model.head.bias.copy_(torch.tensor([0.0, offset]))
    return model, tokens
