"""Metamorphic relations: what must hold between two outputs, whatever the right one is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pytest_robust.data import load
from pytest_robust.strategies.forward import logits_of

_ROUNDING = 1e-5
"""Share of the largest logit by which rounding alone may move one."""
_LONGEST = 200
"""Characters of a text that a message shows."""


def assert_invariant(model: object, x: object, transformed: object, **options: Any) -> None:
    """The assertion that the model says the same of an input and of a changed one.

    Args:
        x, transformed: one input each, without batch dimension; their shapes may differ. options: ``device``, ``normalize``
            and ``classes``, see ``evaluate``.

    Raises:
        AssertionError: the predictions differ; the message says which they are, and what was changed.
    """
    __tracebackhide__ = True
    logits = _logits(model, [x, transformed], options)
    before, after = (int(row.argmax()) for row in logits)
    if before == after:
        return
    names = options.get("classes")
    said = [names[c] if names else f"class {c}" for c in (before, after)]
    odds = [_log_odds(row, c) for row, c in zip(logits, (before, after), strict=True)]
    raise AssertionError(
        f"the prediction turns from {said[0]} (log-odds {odds[0]:.3g}) into {said[1]} (log-odds {odds[1]:.3g}) "
        f"where it must not change: {_difference(x, transformed)}"
    )


def assert_monotone(
    model: object,
    x: Tensor,
    feature: int | tuple[int, ...],
    direction: int,
    *,
    values: Sequence[float] | Tensor,
    output: int = 1,
    **options: Any,
) -> None:
    """The assertion that raising one feature, all others as in ``x``, makes a class more likely, or less likely.

    Likely by its log-odds, so that a probability that rounds to 1 hides nothing. Standing still is allowed.

    Args:
        x: one input, without batch dimension. feature: its index. direction: +1, or -1 for less likely.
        values: of the feature, those to try, at least two. output: the class. options: ``device``, ``normalize`` and
            ``classes``, see ``evaluate``.

    Raises:
        AssertionError: between two values the log-odds go the wrong way; the message names the pair that is worst.
        ValueError: fewer than two values, or another direction.
    """
    __tracebackhide__ = True
    if direction not in (1, -1):
        raise ValueError(f"direction is +1 (more likely) or -1 (less likely), got {direction!r}")
    x = torch.as_tensor(x)
    tried = torch.as_tensor(values, dtype=x.dtype).flatten().unique()  # sorted
    if len(tried) < 2:
        raise ValueError(f"monotone between which values? give at least two that differ, got {values!r}")
    points = x.unsqueeze(0).repeat(len(tried), *[1] * x.ndim)
    place = feature if isinstance(feature, tuple) else (feature,)
    if len(place) != x.ndim:
        raise ValueError(f"{feature!r} is not one feature of an input of shape {tuple(x.shape)}; give {x.ndim} indices")
    for point, value in zip(points, tried, strict=True):
        point[place] = value
    logits = _logits(model, list(points), options)
    odds = torch.tensor([_log_odds(row, output) for row in logits], dtype=torch.float64)
    rise = direction * odds.diff()
    worst = int(rise.argmin())
    if float(rise[worst]) >= -_ROUNDING * float(logits.abs().max()):
        return
    names = options.get("classes")
    wanted, went = ("rise", "fall") if direction == 1 else ("fall", "rise")
    raise AssertionError(
        f"from {tried[worst]:.6g} to {tried[worst + 1]:.6g} of feature {feature}, the log-odds of "
        f"{names[output] if names else f'class {output}'} {went} from {odds[worst]:.4g} to {odds[worst + 1]:.4g}, "
        f"where they may only {wanted}"
    )


def _logits(model: object, inputs: Sequence[object], options: dict[str, Any]) -> Tensor:
    """(n, C) float64. Labels are not asked for."""
    return logits_of(model, load((list(inputs), [0] * len(inputs))), **options).double()


def _log_odds(logits: Tensor, output: int) -> float:
    """log p / (1 - p) of one class."""
    others = torch.cat([logits[:output], logits[output + 1 :]])
    return float(logits[output] - others.logsumexp(0))


def _difference(x: object, transformed: object) -> str:
    if isinstance(x, (str, tuple)):
        return f"{_shortened(x)} became {_shortened(transformed)}"
    before, after = torch.as_tensor(x).double(), torch.as_tensor(transformed).double()
    if before.shape != after.shape:
        return f"shape {tuple(before.shape)} became {tuple(after.shape)}"
    moved = (after - before).abs()
    return (
        f"{int((moved != 0).sum())} of {moved.numel()} values changed, by at most {float(moved.max()):.3g} (l2 "
        f"{float(moved.square().sum().sqrt()):.3g})"
    )


def _shortened(text: object) -> str:
    shown = repr(text)
    return shown if len(shown) <= _LONGEST else shown[:_LONGEST] + " ..."
