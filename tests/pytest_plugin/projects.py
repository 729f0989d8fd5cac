"""What the projects of these tests begin with, and how pytest is run in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_robust.pytest_plugin import plugin

PLUGIN = plugin.__name__
HEADER = "import pytest\nfrom fake_engine import Fake\n\n"
# In processes of their own, the ones that import the tests replace their engine; the controller of xdist does not.
OWN_HEADER = (
    f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import fake_engine
fake_engine.install()
"""
    + HEADER
)

LINEAR = """
import torch
torch.manual_seed(0)
inputs = torch.rand(60, 6)
weight = torch.randn(2, 6)
net = torch.nn.Linear(6, 2, bias=False)
net.weight.data = weight - weight.mean(1, keepdim=True)
data = (inputs, net(inputs).argmax(1))
"""
"""A module for the real engine: ``net`` is always right on ``data``."""

# The warnings of a run inside a test are its own matter, whatever this suite makes of warnings.
ARGUMENTS = ("-p", PLUGIN, "-W", "default")

Run = Callable[..., pytest.RunResult]
