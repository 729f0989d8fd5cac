"""A tiny Hugging Face sentence classifier of film reviews, with a tokenizer made on the spot: no network access."""

from __future__ import annotations

import torch
from reviews import BLAME, DEGREES, ENDINGS, PRAISE, SUBJECTS, VERBS, Reviews
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, in BERT's form: ``[CLS] words [SEP]``."""
    phrases = ("not", *SUBJECTS, *VERBS, *DEGREES, *PRAISE, *BLAME, *ENDINGS)
    words = sorted({word for phrase in phrases for word in phrase.split()})
    vocabulary = {word: i for i, word in enumerate((*SPECIAL, *words))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=32, **names)


def train(examples: Reviews, epochs: int = 8) -> tuple[BertForSequenceClassification, PreTrainedTokenizerFast]:
    """A two-layer BERT trained on the examples, in eval mode, with its tokenizer."""
    torch.manual_seed(0)
    words = tokenizer()
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        id2label={0: "blame", 1: "praise"},
        label2id={"blame": 0, "praise": 1},
    )
    model = BertForSequenceClassification(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(examples)).split(64):
            chosen = [examples[i] for i in batch.tolist()]
            columns = words([text for text, _ in chosen], padding=True, return_tensors="pt")
            optimiser.zero_grad()
            model(**columns, labels=torch.tensor([label for _, label in chosen])).loss.backward()
            optimiser.step()
    return model.eval(), words
