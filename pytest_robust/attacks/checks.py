"""Checks that all attacks' parameters share."""

from __future__ import annotations

from pytest_robust.objectives import LOSSES


def checked_counts(**counts: int) -> None:
    """Raises ValueError unless every count is a whole number above 0."""
    for name, count in counts.items():
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"{name} must be a whole number above 0, got {count!r}")


def checked_loss(loss: str, *, targeted: bool) -> None:
    """Raises ValueError unless the loss exists and has a target exactly when the attack gives it one."""
    fitting = [name for name in LOSSES if name.endswith("-t") == targeted] + ["divergence"] * (not targeted)
    if loss not in fitting:
        where = "with n_targets" if targeted else "without n_targets"
        raise ValueError(f"no loss {loss!r} {where}; there is: {', '.join(fitting)}")
