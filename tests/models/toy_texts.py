"""A tokenizer of fifteen words, and tiny random models of any architecture, made on the spot."""

from __future__ import annotations

from typing import Any

import pytest
import torch

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

WORDS = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "bad", "film", "good", "great", "is", "not", "the", "this", "very", "was",
]  # fmt: skip
SMALL = {
    "vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "num_labels": 3, "max_position_embeddings": 80, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
}  # fmt: skip
TEXTS = [("the film was great", 1), ("this is a very bad film", 0), ("this " * 40, 2), ("good " * 16, 1)]


def tokenizer(*, types: bool = False, **special: str) -> Any:
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    raw.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = special or {"pad_token": "[PAD]"}
    inputs = ["input_ids", *(["token_type_ids"] if types else []), "attention_mask"]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", model_max_length=64,
        model_input_names=inputs, **special,
    )  # fmt: skip


GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 80}
KEYS = {"head_dim": 8, "num_key_value_heads": 2}
DECODERS: dict[str, dict[str, Any]] = {
    "GPT2": GPT2,
    "GPTNeoX": {},
    "OPT": {"ffn_dim": 32, "word_embed_proj_dim": 16},
    "Llama": KEYS,
    "Mistral": KEYS,
    "Qwen2": KEYS,
    "Qwen3": KEYS,
    "Gemma": KEYS,
    "Gemma2": KEYS,
    "Phi3": KEYS,
    "Bloom": {"n_layer": 2, "n_head": 2},
    "Falcon": {},
}
"""Causal architectures that transformers has both in 4.57 and 5, and what their configurations need besides."""


def network(kind: str = "Bert", head: str = "ForSequenceClassification", **config: Any) -> Any:
    """A model of random weights, in eval mode: ``transformers.<kind><head>``."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        config_class = getattr(transformers, f"{kind}Config")
        return getattr(transformers, f"{kind}{head}")(config_class(**{**SMALL, **config})).eval()
