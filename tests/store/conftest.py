"""A check to be kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pytest_robust import Linf, evaluate


@pytest.fixture(scope="session")
def finished():
    """Half of the points are broken; some labels are wrong."""
    x = torch.linspace(0, 1, 40).unsqueeze(1)
    y = (x[:, 0] > 0.5).long()
    y[::9] = 1 - y[::9]
    evaluation = evaluate(
        lambda t: torch.cat([0.5 - t, t - 0.5], 1), (x, y), Linf("0.2"), min_accuracy="1/3", classes=("low", "high")
    )
    return replace(evaluation, seed=3, notes=("a note",))
