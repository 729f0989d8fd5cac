"""A small network that has learnt something, and its data."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

from pytest_robust.conformance import networks


@pytest.fixture(scope="session")
def trained() -> nn.Module:
    return networks.trained()


@pytest.fixture(scope="session")
def data() -> tuple[Tensor, Tensor]:
    return networks.blobs(150, seed=2)
