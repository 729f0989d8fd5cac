"""A Hugging Face classifier, attacked through its word embeddings: each word's vector may move by ``eps`` in L2 norm."""

from __future__ import annotations

import pytest
from reviews import Reviews, reviews
from train_reviews import train
from transformers import BertForSequenceClassification, PreTrainedTokenizerFast

from pytest_robust import EmbeddingBall, Robust

Classifier = tuple[BertForSequenceClassification, PreTrainedTokenizerFast]


@pytest.fixture(scope="session")
def training_set() -> Reviews:
    return reviews(1500, seed=1)


@pytest.fixture(scope="session")
def test_set(training_set: Reviews) -> Reviews:
    seen = set(training_set)
    return [review for review in reviews(200, seed=2) if review not in seen]


@pytest.fixture(scope="session")
def classifier(training_set: Reviews) -> Classifier:
    return train(training_set)


def test_small_moves_of_the_words(robust: Robust, classifier: Classifier, test_set: Reviews) -> None:
    robust(classifier, test_set, EmbeddingBall("0.05", norm="l2"), min_accuracy=0.90)


def test_praise_and_blame_are_equally_robust(robust: Robust, classifier: Classifier, test_set: Reviews) -> None:
    result = robust(classifier, test_set, EmbeddingBall("0.05", norm="l2"))
    assert result.accuracy_of("praise") >= 0.85
    assert result.accuracy_of("blame") >= 0.85
