"""For all tests: ``pytester``, which runs pytest inside a test, how Hypothesis tries examples, and what torch draws."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable

import pytest
import torch
from _pytest import pytester
from hypothesis import settings

pytest_plugins = ["pytester"]

# A deadline is an absolute time: on a machine that does other things as well it is missed by chance.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_FORGETFUL = pytester.SysModulesSnapshot


def _snapshot(preserve: Callable[[str], bool] | None = None) -> pytester.SysModulesSnapshot:
    """What ``pytester`` goes back to after a test and after each run inside it, with all that was imported since of others.

    By itself it forgets every module that was imported meanwhile. But torch registers its kernels once in a process, and
    what stays of torch or transformers remembers classes whose modules would be gone: imported again, they warn, or are
    other classes, and a test fails by what ran before it. What is installed and not of this project depends on no test.
    The package itself is forgotten as ever: what a test replaces in it could be bound in a module that is imported then.
    """

    def stays(name: str) -> bool:
        top = name.partition(".")[0]
        file = getattr(sys.modules.get(top), "__file__", None) or ""
        return (top != "pytest_robust" and file.startswith(_INSTALLED)) or (preserve is not None and preserve(name))

    return _FORGETFUL(stays)


pytester.SysModulesSnapshot = _snapshot


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """What a test draws of torch depends neither on the tests before it nor on the run."""
    torch.manual_seed(0)
