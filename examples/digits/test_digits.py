"""The same gate for both networks: at least 70 % of 200 test digits must survive any change of 0.1 per pixel.

The network trained as usual is meant to fail here, the one trained adversarially to pass.
"""

from __future__ import annotations

import pytest
from torch import Tensor, nn
from train_digits import load, train

from pytest_robust import Robust

Data = tuple[Tensor, Tensor]


@pytest.fixture(scope="session")
def digits() -> tuple[Data, Data]:
    return load()


@pytest.fixture(scope="session")
def test_set(digits: tuple[Data, Data]) -> Data:
    return digits[1]


@pytest.fixture(scope="session")
def standard_model(digits: tuple[Data, Data]) -> nn.Module:
    return train(*digits[0], adversarial=False)


@pytest.fixture(scope="session")
def hardened_model(digits: tuple[Data, Data]) -> nn.Module:
    return train(*digits[0], adversarial=True)


@pytest.mark.robust(norm="linf", eps="0.1", min_accuracy=0.70, n=200)
def test_standard_training(robust: Robust, standard_model: nn.Module, test_set: Data) -> None:
    robust(standard_model, test_set)


@pytest.mark.robust(norm="linf", eps="0.1", min_accuracy=0.70, n=200)
def test_adversarial_training(robust: Robust, hardened_model: nn.Module, test_set: Data) -> None:
    robust(hardened_model, test_set)
