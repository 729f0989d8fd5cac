"""How alike two texts are."""

from __future__ import annotations

import functools
from typing import Any

from pytest_robust.errors import ModelError


def chrf(written: str, text: str) -> float:
    """chrF of one text against another, from 0 to 1 (Popovic, WMT 2015; by sacrebleu); 1 where they are equal.

    Raises:
        ModelError: sacrebleu is not installed.
    """
    if written == text:
        return 1.0  # of two empty texts chrF is 0
    return float(_metric().sentence_score(written, [text]).score) / 100


def consistency(one: str, other: str) -> float:
    """The mean of chrF in both directions: neither of the two is the reference."""
    return (chrf(one, other) + chrf(other, one)) / 2


def needed() -> Any:
    """The class of sacrebleu that computes chrF.

    Raises:
        ModelError: sacrebleu is not installed.
    """
    try:
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        raise ModelError(
            "chrF is computed by sacrebleu, which is not installed: pip install 'pytest-robust[mt]'; or use holds='nll<=0.5'"
        ) from None
    return CHRF


@functools.cache
def _metric() -> Any:
    return needed()()
