"""How a native ``assert result.accuracy >= 0.4`` reads when it fails."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeGuard

from pytest_robust.reports.words import told_apart

if TYPE_CHECKING:
    from pytest_robust.evaluation.rate import Rate

OPERATORS = ("<", "<=", "==", "!=", ">=", ">")


def explain(op: str, left: object, right: object) -> list[str] | None:
    """``robust accuracy 31.2% >= 40.0% (linf 8/255, n=1000, 95% CI 28.3-34.2)``; None unless a side is a ``Rate``."""
    if op not in OPERATORS or not _is_number(left) or not _is_number(right) or not (_is_rate(left) or _is_rate(right)):
        return None
    shown = told_apart(float(left), float(right))
    sides = [_labelled(side, text) for side, text in zip((left, right), shown, strict=True)]
    about = [side.describe() for side in (left, right) if _is_rate(side)]
    return [f"{sides[0]} {op} {sides[1]} {' and '.join(about)}"]


def _is_rate(value: object) -> TypeGuard[Rate]:
    # Where the module was never imported no rate can exist, and this must not be what imports it.
    module = sys.modules.get("pytest_robust.evaluation.rate")
    return module is not None and isinstance(value, module.Rate)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _labelled(value: float, text: str) -> str:
    return f"{value.label} {text}" if _is_rate(value) else text
