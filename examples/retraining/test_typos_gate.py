"""The gate: whatever letter of a review is mistyped, the bag of words in ``model.safetensors`` must be right on 65 %."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from reviews import Reviews
from safetensors.torch import load_file
from train_bag import Bag, load, tokenizer
from transformers import PreTrainedTokenizerFast

from pytest_robust import Robust


@pytest.fixture
def robust_trainer() -> dict[str, Any]:
    return {"train_data": load()[0], "epochs": 6, "lr": 0.1}


@pytest.fixture
def classifier() -> tuple[Bag, PreTrainedTokenizerFast]:
    pieces = tokenizer()
    bag = Bag(len(pieces))
    bag.load_state_dict(load_file(Path(__file__).with_name("model.safetensors")))
    return bag.eval(), pieces


@pytest.fixture
def test_set() -> Reviews:
    return load()[1]


@pytest.mark.robust(norm="characters", eps=1, min_accuracy=0.65)
def test_typos_gate(robust: Robust, classifier: tuple[Bag, PreTrainedTokenizerFast], test_set: Reviews) -> None:
    robust(classifier, test_set)
