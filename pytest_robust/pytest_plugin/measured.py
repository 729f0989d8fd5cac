"""What ``robust.fluctuation`` says of its figures."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

from pytest_robust.pytest_plugin.call import CallError
from pytest_robust.pytest_plugin.outcome import TEST_FRAME, RobustWarning, verdict_error

if TYPE_CHECKING:
    from pytest_robust.evaluation.fluctuation import Fluctuation


def refuse_lacking(found: Fluctuation, floors: Mapping[str, Fraction | None]) -> None:
    """Raises CallError for a floor of a metric that there is not: it would be met by nothing."""
    lacking = [metric for metric, floor in floors.items() if floor is not None and metric not in found.metrics]
    if lacking:
        has = ", ".join(found.metrics)
        raise CallError(f"robust.fluctuation(...): there is no {lacking[0]} of this model and data; there is: {has}")


def judge(found: Fluctuation, floors: Mapping[str, Fraction | None], confidence: float | None, advisory: str | None) -> None:
    """Fail the test when a floor is missed; warn with the words ``advisory`` where these are given.

    Raises:
        AssertionError: with the whole verdict as its first line.
    """
    __tracebackhide__ = True
    for metric, floor in floors.items():
        sentence = None if floor is None else missed(found, metric, float(floor), confidence)
        if sentence is not None and advisory is None:
            raise verdict_error(sentence)
        if sentence is not None:
            warnings.warn(RobustWarning(f"{advisory}: {sentence.removeprefix('assert ')}"), stacklevel=TEST_FRAME)


def told(found: Fluctuation, floors: Mapping[str, Fraction | None]) -> str:
    """A line for the summary: the metrics that have floors, or all of them."""
    named = [name for name, floor in floors.items() if floor is not None] or list(found.metrics)
    parts = []
    for name in named:
        metric, floor = found[name], floors.get(name)
        (low, high), asked = metric.interval(), "" if floor is None else f", floor {float(floor):.3f}"
        parts.append(f"{name} {metric.clean:.3f} -> {metric.worst:.3f} (95% CI {low:.3f} - {high:.3f}{asked})")
    n = len(found[named[0]].per_query)
    how = f"mean over {n} texts of the worst of {found.k} random edits, seed {found.seed}, {found.threat}"
    return f"{'; '.join(parts)}: {how}; a measure, no search"


def missed(found: Fluctuation, name: str, floor: float, confidence: float | None) -> str | None:
    """The sentence of a floor that the mean, or with a confidence its lower limit, does not reach; None where it does."""
    metric = found[name]
    low, high = metric.interval(confidence=confidence or 0.95)
    if (metric.worst if confidence is None else low) >= floor:
        return None
    figure = f"{metric.worst:.3f}" if confidence is None else f"{low:.3f} (the lower limit of {metric.worst:.3f})"
    sure = f"{100 * (confidence or 0.95):g}% CI {low:.3f}-{high:.3f}"
    return (
        f"assert {name}, worst of {found.k} random edits, {figure} >= {floor:.3f} "
        f"({found.threat}, n={len(metric.per_query)}, {sure}, without edits {metric.clean:.3f})"
    )
