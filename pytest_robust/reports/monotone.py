"""A larger budget holds all that a smaller one does: who breaks at the smaller cannot survive at the larger."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pytest_robust.levels import LEVELS, RUINOUS, Level, believable
from pytest_robust.reports.record import Record


def monotone(checks: Sequence[Record], alike: Callable[[Record], object]) -> list[Record]:
    """The checks of a run, each with what those at smaller budgets say about its survivors.

    Args:
        alike: what checks that differ in the budget only have in common. Only those of one model, known by its digest, are
            held against each other.
    """
    groups: dict[object, list[int]] = {}
    for i, check in enumerate(checks):
        if check["digests"] is not None and check["digests"]["model"] is not None:
            groups.setdefault((alike(check), check["digests"]["model"]), []).append(i)
    judged = list(checks)
    for rows in groups.values():
        broken: dict[int, str] = {}
        for i in sorted(rows, key=lambda row: float(checks[row]["threat"]["value"])):
            by = checks[i]["examples"]["broken_by"]
            wrong = [row for row in broken if by[row] is None]
            if wrong:
                judged[i] = _found(checks[i], wrong, broken[wrong[0]])
            broken |= {row: checks[i]["threat"]["eps"] for row, name in enumerate(by) if name not in (None, "undecided")}
    return judged


def _found(check: Record, wrong: Sequence[int], eps: str) -> Record:
    survivors = sum(by is None for by in check["examples"]["broken_by"])
    decisive = check["needed"] is not None and survivors - len(wrong) < check["needed"] <= survivors
    level: Level = "invalid" if decisive or len(wrong) >= RUINOUS * survivors else "suspicious"
    detail = (
        f"{len(wrong)} of {survivors} survivors break at a smaller budget, such as example {wrong[0]} at {eps}: the attacks "
        "missed adversarial examples that exist" + ("; without them the floor is missed" if decisive else "")
    )
    finding = {"name": "eps-monotone", "level": level, "detail": detail, "waived": None}
    health = check["health"] | {
        "checks": [*check["health"]["checks"], finding],
        "level": max(check["health"]["level"], level, key=LEVELS.index),
    }
    credible = check["believable"] and believable(health["level"], check["profile"])
    verdict = "fail" if check["verdict"] == "pass" and not credible else check["verdict"]
    return check | {"health": health, "believable": credible, "verdict": verdict}
