"""A tiny Hugging Face sentence classifier, with a tokenizer and a corpus that are both made on the spot: no network access.

The corpus is made of film reviews from a small grammar. Words of praise or blame decide the label, "not" turns them round.
"""

from __future__ import annotations

import random

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

Reviews = list[tuple[str, int]]

SUBJECTS = (
    "the film",
    "this movie",
    "the plot",
    "the acting",
    "the ending",
    "the music",
    "the script",
    "every scene",
    "the cast",
)
VERBS = ("was", "is", "seemed", "felt", "looked")
DEGREES = ("", "really", "very", "rather", "quite", "simply", "truly")
PRAISE = ("good", "great", "wonderful", "moving", "funny", "clever", "charming", "superb", "gripping", "fresh")
BLAME = ("bad", "awful", "boring", "dull", "clumsy", "silly", "tedious", "shallow", "stale", "weak")
ENDINGS = ("", "to me", "from start to finish", "for a change", "as my friends said", "on the whole", "in the second half")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def reviews(n: int, seed: int) -> Reviews:
    """``n`` sentences with label 1 for praise, 0 for blame; about a third contain "not"."""
    draw = random.Random(seed)
    return [_review(draw, label=i % 2) for i in range(n)]


def _review(draw: random.Random, label: int) -> tuple[str, int]:
    negated = draw.random() < 1 / 3
    verdict = draw.choice(PRAISE if bool(label) != negated else BLAME)
    words = [draw.choice(SUBJECTS), draw.choice(VERBS), "not" * negated, draw.choice(DEGREES), verdict, draw.choice(ENDINGS)]
    return " ".join(filter(None, words)), label


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
