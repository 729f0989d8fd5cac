"""A small change of the source must not make the translation fluctuate."""

from __future__ import annotations

import pytest
from phrasebook import ANNOUNCEMENTS, TRANSLATED, closely, exactly, translated

from pytest_robust import CharacterEdits, Robust, TranslatorFunction


@pytest.fixture(scope="module")
def translator() -> TranslatorFunction:
    return TranslatorFunction(translated(closely), holds="consistency>=0.7")


@pytest.mark.robust(norm="characters", eps=1, min_consistency=0.80)
def test_ten_typing_errors_at_random(robust: Robust, translator: TranslatorFunction) -> None:
    found = robust.fluctuation(translator, TRANSLATED)
    assert found.hallucinations == 0
    assert found.true_successes == 0


def test_the_worst_typing_error_that_a_search_finds(robust: Robust, translator: TranslatorFunction) -> None:
    robust(translator, ANNOUNCEMENTS, CharacterEdits(1), min_accuracy=0.90)


def test_a_plain_dictionary_would_not_do(robust: Robust, translator: TranslatorFunction) -> None:
    plain = TranslatorFunction(translated(exactly))
    exact = robust.fluctuation(plain, ANNOUNCEMENTS, CharacterEdits(1), name="plain dictionary")
    close = robust.fluctuation(translator, ANNOUNCEMENTS, CharacterEdits(1), name="close words")
    assert exact["consistency"].worst < close["consistency"].worst - 0.05
