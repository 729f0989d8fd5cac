"""How much attack, and how much data: the profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from pytest_robust.attacks import FGSM, PGD, Attack, EditSearch, HotFlip, Sweep, make


@dataclass(frozen=True)
class Step:
    """One attack of a schedule, and whom it is worth its passes on.

    Attributes:
        near: attack only examples whose margin the attacks before have worn down by at least this share. 0: all.
        exact: also where the steps before were computed roughly.
    """

    attack: Attack
    near: float = 0.0
    exact: bool = False

    def __str__(self) -> str:
        """The attack's name, and in brackets all parameters that are not its defaults."""
        own = _parameters(self.attack) if is_dataclass(self.attack) else [type(self.attack).__qualname__]
        own += _parameters(self, but="attack")
        return f"{self.attack.name}({', '.join(own)})" if own else self.attack.name


def _parameters(of: Any, but: str = "label") -> list[str]:
    """``n_steps=20``, ... of a dataclass, where they are not the defaults."""
    values = [(f.name, getattr(of, f.name), f.default) for f in fields(of) if f.name != but]
    return [f"{name}={value}" for name, value, default in values if value != default]


@dataclass(frozen=True)
class Profile:
    """One answer to "how sure".

    Attributes:
        steps: by terrain, cheapest first; each next one sees only the survivors.
        most: examples at most, None: all.
        early: stop as soon as the verdict is certain. evidence: whether a PASS says anything about robustness.
        controls: whether the search is also tried on tasks that have a solution.
    """

    steps: Mapping[str, tuple[Step, ...]]
    most: int | None
    early: bool
    evidence: bool
    controls: bool = False


def _annealed(label: str, loss: str, n_steps: int, **more: Any) -> Attack:
    """PGD whose steps fall from eps to eps / 100."""
    return PGD(loss, n_steps=n_steps, step_size=1.0, schedule="cosine", label=label, **more)


# Which attacks, in which order and with which momentum, was decided by what they break for what they cost:
# docs/how-it-works.md has the table.
_SCAN = Step(FGSM("margin-t", n_targets=9))
_FIRST = Step(_annealed("pgd-t1", "margin-t", 20, momentum=0.25, random_start=False, n_targets=1))
_STANDARD = (
    _SCAN,
    _FIRST,
    Step(_annealed("pgd-random", "margin", 20)),
    Step(_annealed("pgd-t2", "margin-t", 5, random_start=False, n_targets=1, first_target=1)),
)
_NEAR, _CLOSE = 0.3, 0.95
"""Whom restarts are worth. Of what a long search still breaks, hardly one example had kept more than 70 % of its margin
after the standard attacks, and hardly one more than 5 % after a few restarts."""
_RELEASE = (
    *_STANDARD,
    Step(_annealed("pgd-t-random", "margin-t", 20, n_targets=4), _NEAR),
    Step(_annealed("pgd-restarts", "margin", 20, n_restarts=2), _NEAR),
    Step(_annealed("pgd-momentum", "margin", 20, momentum=0.5, n_restarts=2), _NEAR),
    Step(_annealed("pgd-close", "margin", 20, momentum=0.25, n_restarts=6), _CLOSE),
    Step(_annealed("pgd-t-close", "margin-t", 20, n_targets=2, n_restarts=3), _CLOSE),
)

# Gradients lead nowhere good there, and the numbers can be searched outright.
_FEW = (Step(Sweep()),)
_FEW_RELEASE = (*_FEW, Step(Sweep(n_steps=1000, n_restarts=2, label="sweep-restarts")))
_SINGLE = (Step(Sweep(n_steps=1)),)
"""Where a threat is a change or none, the first two queries are all there is to try."""

_EDITS = (Step(HotFlip(n_steps=80)), Step(EditSearch(n_steps=150)))
_EDITS_RELEASE = (
    *_EDITS,
    Step(HotFlip(n_steps=100, n_restarts=3, label="hotflip-restarts")),
    Step(EditSearch(n_steps=400, label="edit-search-long")),
)
_QUERIES = (Step(EditSearch(n_steps=200)),)
_QUERIES_RELEASE = (*_QUERIES, Step(EditSearch(n_steps=400, n_restarts=2, label="edit-search-restarts")))
_QUICK = EditSearch(n_steps=40)

Terrains = Mapping[str, tuple[Step, ...]]
_STEPS: dict[str, Terrains] = {
    "smoke": {
        "smooth": (_SCAN, _FIRST), "few": (Step(Sweep(n_steps=100)),), "single": _SINGLE,
        "edits": (Step(HotFlip(n_steps=10)),), "queries": (Step(_QUICK),),
    },
    "standard": {"smooth": _STANDARD, "few": _FEW, "single": _SINGLE, "edits": _EDITS, "queries": _QUERIES},
    "release": {
        "smooth": _RELEASE, "few": _FEW_RELEASE, "single": _SINGLE, "edits": _EDITS_RELEASE, "queries": _QUERIES_RELEASE,
    },
}  # fmt: skip
"""By the terrain of the threat; ``"queries"``: edits of texts for a model without gradients."""

PROFILES: dict[str, Profile] = {
    "smoke": Profile(_STEPS["smoke"], most=100, early=True, evidence=False),
    "standard": Profile(_STEPS["standard"], most=None, early=True, evidence=True),
    "release": Profile(_STEPS["release"], most=None, early=False, evidence=True, controls=True),
}


_EXACT = Step(_annealed("pgd-exact", "margin-t", 20, momentum=0.25, random_start=False, n_targets=1), near=0.8, exact=True)
_FEW_EXACT = Step(Sweep(label="sweep-exact"), near=0.8, exact=True)
_EDITS_EXACT = Step(EditSearch(label="edit-search-exact"), near=0.8, exact=True)


def exact_step(terrain: str) -> Step:
    """After a rough search: whoever came near is attacked once more, exactly. Rounding can only have decided there.

    Args:
        terrain: of the threat.
    """
    return {"smooth": _EXACT, "edits": _EDITS_EXACT, "queries": _EDITS_EXACT}.get(terrain, _FEW_EXACT)


def profile_named(name: str) -> Profile:
    """Raises ValueError when there is no such profile."""
    if name not in PROFILES:
        raise ValueError(f"no profile is called {name!r}; there is: {', '.join(PROFILES)}")
    return PROFILES[name]


def schedule(
    profile: Profile, attacks: Sequence[str | Attack] | str | Attack | None, terrain: str = "smooth"
) -> tuple[Step, ...]:
    """The profile's attacks, or those given instead, by name or as objects; these see every survivor.

    Args:
        terrain: of the threat, or ``"queries"``.

    Raises:
        ValueError: an unknown name, none at all, or two of one name (their results could not be told apart).
    """
    if attacks is None:
        return profile.steps[terrain]
    if isinstance(attacks, str):
        attacks = [name.strip() for name in attacks.split(",")]
    elif not isinstance(attacks, Sequence):
        attacks = [attacks]
    steps = tuple(Step(make(attack) if isinstance(attack, str) else attack) for attack in attacks)
    names = [step.attack.name for step in steps]
    if not names:
        raise ValueError("attacks is empty: name at least one attack, or leave it out for those of the profile")
    if len(set(names)) < len(names):
        raise ValueError(f"two attacks have the same name in {', '.join(names)}; give each once")
    return steps
