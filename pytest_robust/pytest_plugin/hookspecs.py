"""The hooks that other plugins and conftest files may implement.

Mark them ``@pytest.hookimpl(optionalhook=True)`` where pytest-robust may not be installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_robust.attacks import Attack
    from pytest_robust.evaluation import Evaluation


def pytest_robust_attacks(config: pytest.Config) -> Mapping[str, Callable[[], Attack]] | None:
    """Attacks by name, each with a function that makes one; the names can then be used wherever attacks are named.

    Called once, after collection, when robust tests were collected, in every process that runs tests::

        def pytest_robust_attacks(config):
            return {"my-attack": MyAttack}
    """


def pytest_robust_result(config: pytest.Config, item: pytest.Item, result: Evaluation) -> None:
    """A check was evaluated: send it to a tracker, say.

    Called before the verdict fails the test, in the process of the test. A rerun reuses its evaluation and does not call
    this again::

        def pytest_robust_result(config, item, result):
            mlflow.log_metric(item.name, result.accuracy)
    """
