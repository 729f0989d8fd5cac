"""A small network that has learnt something, and its data."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn


def blobs(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points of five classes in [0, 1]^12 around fixed centres."""
    centres = torch.rand(5, 12, generator=torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(5, (n,), generator=generator)
    x = centres[labels] + 0.18 * torch.randn(n, 12, generator=generator)
    return x.clamp(0, 1), labels


@pytest.fixture(scope="session")
def trained() -> nn.Module:
    x, y = blobs(600, seed=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.zero_grad(set_to_none=True)
    return model.eval()


@pytest.fixture(scope="session")
def data() -> tuple[Tensor, Tensor]:
    return blobs(150, seed=2)
