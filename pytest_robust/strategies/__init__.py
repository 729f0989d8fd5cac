"""For users of Hypothesis: what to draw, and what to assert about it. Imported by nothing else of the package.

Hypothesis is no attack: among pixels it finds nothing that a gradient would not find sooner. It is good at what has no
gradient (which attack, which typo, which transform) and at shrinking what it found to the simplest case.
"""

from __future__ import annotations

from pytest_robust.strategies.configurations import AttackConfig, assert_robust, attacks, breaks, indices
from pytest_robust.strategies.images import ImageTransform, image_transforms
from pytest_robust.strategies.properties import check_attack
from pytest_robust.strategies.relations import assert_invariant, assert_monotone
from pytest_robust.strategies.text import typos

__all__ = [
    "AttackConfig", "ImageTransform", "assert_invariant", "assert_monotone", "assert_robust", "attacks", "breaks",
    "check_attack", "image_transforms", "indices", "typos",
]  # fmt: skip
