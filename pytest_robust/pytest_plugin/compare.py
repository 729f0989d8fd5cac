"""How a native ``assert result.accuracy >= 0.4`` reads when it fails."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from pytest_robust.evaluation.rate import Rate

OPERATORS = ("<", "<=", "==", "!=", ">=", ">")
DIGITS = (1, 2, 4)


def explain(op: str, left: object, right: object) -> list[str] | None:
    """``robust accuracy 31.2% >= 40.0% (linf 8/255, n=1000, 95% CI 28.3-34.2)``; None unless a side is a ``Rate``."""
    if op not in OPERATORS or not _is_number(left) or not _is_number(right) or not (_is_rate(left) or _is_rate(right)):
        return None
    # 39.96% >= 40.0% must not read as 40.0% >= 40.0%.
    texts = [(_percent(left, digits), _percent(right, digits)) for digits in DIGITS]
    shown = next((pair for pair in texts if pair[0] != pair[1] or left == right), texts[-1])
    sides = [_labelled(side, text) for side, text in zip((left, right), shown, strict=True)]
    about = [side.describe() for side in (left, right) if _is_rate(side)]
    return [f"{sides[0]} {op} {sides[1]} {' and '.join(about)}"]


def _is_rate(value: object) -> TypeGuard[Rate]:
    # Where the module was never imported no rate can exist, and this must not be what imports it.
    module = sys.modules.get("pytest_robust.evaluation.rate")
    return module is not None and isinstance(value, module.Rate)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _percent(value: float, digits: int) -> str:
    return f"{100 * float(value):.{digits}f}%"


def _labelled(value: float, text: str) -> str:
    return f"{value.label} {text}" if _is_rate(value) else text
