"""The gate of a release: under any change of 0.1 per pixel, the network in ``model.pt`` must be right on half of the digits.

The floor is the least that anyone may rely on. Whether the model is as robust as the one before is asked of the baseline.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from train_digits import load, network

from pytest_robust import Robust


@pytest.fixture
def model() -> nn.Module:
    net = network()
    net.load_state_dict(torch.load(Path(__file__).with_name("model.pt"), weights_only=True))
    return net.eval()


@pytest.fixture
def test_set() -> tuple[Tensor, Tensor]:
    return load()[1]


@pytest.mark.robust(norm="linf", eps="0.1", min_accuracy=0.50)
def test_release(robust: Robust, model: nn.Module, test_set: tuple[Tensor, Tensor]) -> None:
    robust(model, test_set)
