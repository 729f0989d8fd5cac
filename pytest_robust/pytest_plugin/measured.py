"""Which metrics of ``robust.fluctuation`` a test gates, and by which floors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

from pytest_robust.pytest_plugin.call import CallError
from pytest_robust.pytest_plugin.marker import MEANS, Declared
from pytest_robust.reports.mean import mean_record
from pytest_robust.reports.record import Record

if TYPE_CHECKING:
    from pytest_robust.evaluation.means import Fluctuation


def most(profile: str) -> int | None:
    """Texts that a profile looks at, where nothing else says how many."""
    from pytest_robust.evaluation.schedule import profile_named

    return profile_named(profile).most


def gated(found: Fluctuation, chosen: Declared) -> dict[str, Fraction | None]:
    """The floors by metric; where none is set, the first metric that there is, without one.

    Raises:
        CallError: a floor is set for a metric that there is not: it would be met by nothing.
    """
    floors: dict[str, Fraction | None] = {}
    for argument, metrics in MEANS.items():
        floor = getattr(chosen, argument)
        if floor is None:
            continue
        name = next((metric for metric in metrics if metric in found.metrics), None)
        if name is None:
            has = ", ".join(found.metrics)
            raise CallError(
                f"robust.fluctuation(...): {argument} is for {' or '.join(metrics)}, and for this model and data there is "
                f"only: {has}"
            )
        floors[name] = floor
    return floors or {next(iter(found.metrics)): None}


def records(
    found: Fluctuation,
    floors: Mapping[str, Fraction | None],
    ids: Mapping[str, str],
    confidence: float | None,
    profile: str,
    waive: Mapping[str, str],
) -> Iterable[Record]:
    """A record for each metric that is gated; ``ids``: what each is called. The others are as in ``mean_record``."""
    for name, floor in floors.items():
        value, sure = (None, None) if floor is None else (float(floor), confidence)
        yield mean_record(found, name, ids[name], floor=value, confidence=sure, profile=profile, waive=waive)
