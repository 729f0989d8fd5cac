"""How much attack, and how much data: the profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_robust.attacks import Attack, make


@dataclass(frozen=True)
class Profile:
    """One answer to "how sure".

    Attributes:
        attacks: names, cheapest first; each next one sees only the survivors. most: examples at most, None: all.
        early: stop as soon as the verdict is certain. evidence: whether a PASS says anything about robustness.
    """

    attacks: tuple[str, ...]
    most: int | None
    early: bool
    evidence: bool


PROFILES: dict[str, Profile] = {
    "smoke": Profile(("pgd-margin",), most=100, early=True, evidence=False),
    "standard": Profile(("pgd-margin", "apgd-ce", "pgd-t"), most=None, early=True, evidence=True),
    "release": Profile(("pgd-margin", "apgd-ce", "pgd-t", "apgd-dlr", "apgd-t"), most=None, early=False, evidence=True),
}


def profile_named(name: str) -> Profile:
    """Raises ValueError when there is no such profile."""
    if name not in PROFILES:
        raise ValueError(f"no profile is called {name!r}; there is: {', '.join(PROFILES)}")
    return PROFILES[name]


def schedule(profile: Profile, attacks: Sequence[str | Attack] | str | Attack | None) -> list[Attack]:
    """The profile's attacks, or those given instead, by name or as objects.

    Raises:
        ValueError: an unknown name, none at all, or two of one name (their results could not be told apart).
    """
    wanted = profile.attacks if attacks is None else attacks
    if isinstance(wanted, str):
        wanted = [name.strip() for name in wanted.split(",")]
    elif not isinstance(wanted, Sequence):
        wanted = [wanted]
    made = [make(attack) if isinstance(attack, str) else attack for attack in wanted]
    names = [attack.name for attack in made]
    if not names:
        raise ValueError("attacks is empty: name at least one attack, or leave it out for those of the profile")
    if len(set(names)) < len(names):
        raise ValueError(f"two attacks have the same name in {', '.join(names)}; give each once")
    return made
