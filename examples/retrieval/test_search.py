"""A small change of the question must not make the results fluctuate."""

from __future__ import annotations

import pytest
from handbook import HANDBOOK, QUESTIONS, by_letters, by_words

from pytest_robust import CharacterEdits, RetrieverFunction, Robust


@pytest.fixture(scope="module")
def search() -> RetrieverFunction:
    return RetrieverFunction(by_letters, HANDBOOK, holds="hit@3")


@pytest.mark.robust(norm="characters", eps=1, min_ndcg=0.85, min_consistency=0.50)
def test_ten_typing_errors_at_random(robust: Robust, search: RetrieverFunction) -> None:
    """Of each question the worst of ten: nDCG by what is relevant, and by itself how much of the results stays."""
    robust.fluctuation(search, QUESTIONS)


def test_the_worst_typing_error_that_a_search_finds(robust: Robust, search: RetrieverFunction) -> None:
    robust(search, QUESTIONS, CharacterEdits(1), min_accuracy=0.90)


def test_whole_words_would_not_do(robust: Robust, search: RetrieverFunction) -> None:
    words = robust.fluctuation(RetrieverFunction(by_words, HANDBOOK), QUESTIONS, CharacterEdits(1), name="by words")
    letters = robust.fluctuation(search, QUESTIONS, CharacterEdits(1), name="by letters")
    assert words["ndcg@10"].worst < letters["ndcg@10"].worst - 0.1
