"""The gate: under any change of 0.1 per pixel the network in ``model.safetensors`` must be right on 70 % of the digits.

``pytest --robust-retrain`` trains what fails on what ``robust_trainer`` names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor, nn
from train_digits import load, network

from pytest_robust import Robust


@pytest.fixture
def robust_trainer() -> dict[str, Any]:
    return {"train_data": load()[0], "epochs": 15}


@pytest.fixture
def model() -> nn.Module:
    net = network()
    net.load_state_dict(load_file(Path(__file__).with_name("model.safetensors")))
    return net.eval()


@pytest.fixture
def test_set() -> tuple[Tensor, Tensor]:
    return load()[1]


@pytest.mark.robust(norm="linf", eps="0.1", min_accuracy=0.70)
def test_gate(robust: Robust, model: nn.Module, test_set: tuple[Tensor, Tensor]) -> None:
    robust(model, test_set)
