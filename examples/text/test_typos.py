"""The same classifier, attacked through the text itself: typing errors, words in place of words, and a black box."""

from __future__ import annotations

import pytest
import torch
from reviews import Reviews, reviews
from train_reviews import train
from transformers import BertForSequenceClassification, PreTrainedTokenizerFast

from pytest_robust import CharacterEdits, EmbeddingBall, Noise, Robust, TextFunction, WordEdits

Classifier = tuple[BertForSequenceClassification, PreTrainedTokenizerFast]
VERBS = ["was", "is", "seemed", "felt", "looked"]
SAME = dict.fromkeys(VERBS, VERBS) | {"really": ["truly", "very"], "very": ["really", "truly"]}


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return train(reviews(1500, seed=1))


@pytest.fixture(scope="module")
def test_set() -> Reviews:
    return reviews(100, seed=2)


def test_words_that_say_the_same(robust: Robust, classifier: Classifier, test_set: Reviews) -> None:
    robust(classifier, test_set, WordEdits(2, substitutes=SAME), min_accuracy=0.90)


def test_one_typo_searched_finds_more_than_ten_at_random(robust: Robust, classifier: Classifier, test_set: Reviews) -> None:
    """Each word of this model is one token, and a word with a typo none that it knows."""
    searched = robust(classifier, test_set, CharacterEdits(1))
    chance = robust(classifier, test_set, CharacterEdits(1), attacks=[Noise(10)])
    assert searched.robust.sum() <= chance.robust.sum()
    clean, changed = next(iter(searched.changed.values()))
    assert CharacterEdits(1).measure(clean, changed, most=5) == 1


def test_a_share_of_the_length_of_word_vectors(robust: Robust, classifier: Classifier, test_set: Reviews) -> None:
    robust(classifier, test_set, EmbeddingBall("5%norm"), min_accuracy=0.90)


def test_a_function_of_texts(robust: Robust, classifier: Classifier, test_set: Reviews) -> None:
    """Whatever it is, as long as it takes texts: here the same model behind a function, without its gradients."""
    model, tokenizer = classifier

    def sentiment(texts: list[str]) -> torch.Tensor:
        with torch.no_grad():
            logits: torch.Tensor = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
        return logits

    robust(TextFunction(sentiment, ["blame", "praise"]), test_set, WordEdits(2, substitutes=SAME), min_accuracy=0.90)
