"""max: the searches for an adversarial point, by name."""

from __future__ import annotations

from collections.abc import Callable

from pytest_robust.attacks.apgd import APGD
from pytest_robust.attacks.live import Live
from pytest_robust.attacks.pgd import FGSM, PGD
from pytest_robust.attacks.protocol import Attack
from pytest_robust.attacks.square import Square
from pytest_robust.attacks.sweep import Sweep

_MAKERS: dict[str, Callable[[], Attack]] = {
    "fgsm": FGSM,
    "fgsm-t": lambda: FGSM("margin-t", n_targets=9),
    "pgd": PGD,
    "pgd-margin": lambda: PGD("margin", n_steps=20, step_size=1.0, schedule="cosine", momentum=0.75, random_start=False),
    "pgd-t": lambda: PGD(
        "margin-t", n_steps=40, step_size=1.0, schedule="cosine", momentum=0.75, random_start=False, n_targets=9
    ),
    "apgd-ce": APGD,
    "apgd-margin": lambda: APGD("margin"),
    "apgd-dlr": lambda: APGD("dlr"),
    "apgd-t": lambda: APGD("margin-t", n_targets=9),
    "square": Square,
    "sweep": Sweep,
}
NAMES = tuple(_MAKERS)

__all__ = ["APGD", "FGSM", "NAMES", "PGD", "Attack", "Live", "Square", "Sweep", "make"]


def make(name: str) -> Attack:
    """The attack of a name, for options and ini files.

    Raises:
        ValueError: no such attack.
    """
    if name not in _MAKERS:
        raise ValueError(f"no attack is called {name!r}; known: {', '.join(NAMES)}")
    return _MAKERS[name]()
