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

# The warnings of a run inside a test are its own matter, whatever this suite makes of warnings.
ARGUMENTS = ("-p", PLUGIN, "-W", "default")

Run = Callable[..., pytest.RunResult]
