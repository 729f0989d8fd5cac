"""What a shard says of itself: how much it has attacked, and that this is no verdict."""

from __future__ import annotations

from tabulate import tabulate

from pytest_robust.reports.run import Run
from pytest_robust.shard import Shard

_HEADER = ("check", "examples", "attacked", "broken", "verdict")


def table(outcome: Run) -> list[str]:
    """A row per check. Plain ASCII."""
    shard = f"shard {Shard(**outcome['shard'])}"
    rows = [(id, *(one[key] for key in ("n", "attacked", "broken")), shard) for id, one in outcome["checks"].items()]
    rows += [(id, "-", "-", "-", f"ERROR: {message}") for id, message in outcome["errors"].items()]
    if not rows:
        return []
    text = tabulate(rows, _HEADER, tablefmt="simple", disable_numparse=True, colalign=("left", *["right"] * 3, "left"))
    return text.encode("ascii", "backslashreplace").decode().splitlines()


def summary(outcome: Run) -> str:
    """``shard 3/16: complete, 5 checks, 312 examples attacked; no verdict: merge the shards``."""
    shard, checks, errors = Shard(**outcome["shard"]), outcome["checks"].values(), len(outcome["errors"])
    state = "complete" if outcome["complete"] else "INCOMPLETE"
    parts = [state, f"{len(checks)} check{'' if len(checks) == 1 else 's'}"]
    parts += [f"{errors} error{'' if errors == 1 else 's'}"] if errors else []
    parts.append(f"{sum(one['attacked'] for one in checks)} examples attacked")
    then = "pytest-robust merge robust-shards/*" if outcome["complete"] else "mend it and run this shard again"
    return f"robust shard {shard}: {', '.join(parts)}; no verdict: merge the shards ({then})"
