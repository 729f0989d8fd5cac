"""The findings that a user may set aside with a reason. No torch here: the marker is read when tests are collected."""

from __future__ import annotations

from collections.abc import Mapping

WAIVABLE = (
    "mode", "probabilities", "chance", "one-class", "constant", "gradient", "unit",
    "gradients", "finite", "verified", "votes", "room", "references", "determinism", "batch-independence",
    "slope", "cut-off", "convergence", "black-box", "planted", "huge-budget",
)  # fmt: skip
"""Not ``inputs``: it leaves nothing that could be evaluated. Not ``bounds``: the attack would stay in the wrong box, and
there is always a right one to give. Not ``strength``: there is always a longer attack to add."""


def checked_waivers(waive: Mapping[str, str] | None) -> dict[str, str]:
    """Reasons by the names of findings.

    Raises:
        ValueError: no mapping, a finding that is unknown or cannot be waived, or a reason that is missing.
    """
    if waive is not None and not isinstance(waive, Mapping):
        raise ValueError(f"waive: it takes findings with reasons, waive={{'chance': 'the reason'}}, got {waive!r}")
    for name, reason in (waive or {}).items():
        if name not in WAIVABLE:
            raise ValueError(f"waive: {name!r} is not a finding that can be waived; use {', '.join(WAIVABLE)}")
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError(f"waive: {name!r} has no reason; say why: waive={{{name!r}: 'the reason'}}")
    return dict(waive or {})
