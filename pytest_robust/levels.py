"""How far an evaluation can be trusted, and when a PASS may rest on it. No torch here: reports judge by it as well."""

from __future__ import annotations

from typing import Literal

Level = Literal["trusted", "suspicious", "invalid"]
LEVELS: tuple[Level, ...] = ("trusted", "suspicious", "invalid")
"""From best to worst."""

RUINOUS = 0.05
"""Share of the survivors from which on a finding about them is invalid."""


def believable(level: Level, profile: str) -> bool:
    """Whether a PASS may rest on it: health is not invalid, and in the profile ``release`` not suspicious either."""
    return level in (("trusted",) if profile == "release" else ("trusted", "suspicious"))
