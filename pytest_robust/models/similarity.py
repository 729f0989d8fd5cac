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


def proportion(alike: float, before: float, after: float) -> float:
    """Whether a translation loses no more than was changed of its source (Michel et al., NAACL 2019, section 3).

    An edit succeeds truly where s, chrF of the edited source against the source, and d, the share lost of the chrF of the
    translation against its reference, add up to more than 1. Of other losses the edit itself may be the reason.

    Args:
        alike: s, from 0 to 1. before, after: chrF of the translation against its reference, of the source as it is and of
            the edited one.

    Returns:
        (c - d) / (c + d), where c = 1 - s is what was changed: below 0 exactly where the edit succeeds truly, 1 where
        nothing is lost, as of the source as it is, and -1 where nothing was changed. Of all that holds the source as it is
        would have the least difference c - d, and a search for less could not leave it.
    """
    changed, lost = 1 - alike, max(0.0, (before - after) / before) if before > 0 else 0.0
    return (changed - lost) / (changed + lost) if lost > 0 else 1.0


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
