"""max: the searches for an adversarial point, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_robust.attacks.apgd import APGD
from pytest_robust.attacks.cw import CW
from pytest_robust.attacks.deepfool import DeepFool
from pytest_robust.attacks.ead import EAD
from pytest_robust.attacks.gcg import GCG
from pytest_robust.attacks.hopskipjump import HopSkipJump
from pytest_robust.attacks.hotflip import EditSearch, HotFlip
from pytest_robust.attacks.jsma import JSMA
from pytest_robust.attacks.lbfgs import LBFGS
from pytest_robust.attacks.live import Live
from pytest_robust.attacks.noise import Noise
from pytest_robust.attacks.pgd import FGSM, PGD
from pytest_robust.attacks.protocol import Attack, BaseAttack, asked_for
from pytest_robust.attacks.relaxed import RelaxedPGD
from pytest_robust.attacks.simplex import SimplexPGD
from pytest_robust.attacks.spsa import SPSA
from pytest_robust.attacks.square import Square
from pytest_robust.attacks.sweep import Sweep
from pytest_robust.attacks.vat import VAT


def _annealed(loss: str, n_steps: int, **more: Any) -> Attack:
    return PGD(loss, n_steps=n_steps, step_size=1.0, schedule="cosine", momentum=0.75, random_start=False, **more)


_MAKERS: dict[str, Callable[[], Attack]] = {
    "fgsm": FGSM,
    "fgsm-t": lambda: FGSM("margin-t", n_targets=9),
    "pgd": PGD,
    "pgd-margin": lambda: _annealed("margin", 20),
    "pgd-t": lambda: _annealed("margin-t", 40, n_targets=9),
    "max-confidence": lambda: _annealed("margin-t", 40, n_targets=100, label="max-confidence"),
    "bim": lambda: PGD(random_start=False, label="bim"),
    "mim": lambda: PGD(momentum=1.0, random_start=False, label="mim"),
    "apgd-ce": APGD,
    "apgd-margin": lambda: APGD("margin"),
    "apgd-dlr": lambda: APGD("dlr"),
    "apgd-t": lambda: APGD("margin-t", n_targets=9),
    "deepfool": DeepFool,
    "cw": CW,
    "ead": EAD,
    "lbfgs": LBFGS,
    "jsma": JSMA,
    "vat": VAT,
    "square": Square,
    "spsa": SPSA,
    "hopskipjump": HopSkipJump,
    "noise": Noise,
    "sweep": Sweep,
    "hotflip": HotFlip,
    "edit-search": EditSearch,
    "relaxed-pgd": RelaxedPGD,
    "simplex-pgd": SimplexPGD,
    "gcg": GCG,
}
NAMES = tuple(_MAKERS)

__all__ = [
    "APGD", "CW", "EAD", "FGSM", "GCG", "JSMA", "LBFGS", "NAMES", "PGD", "SPSA", "VAT", "Attack", "BaseAttack", "DeepFool",
    "EditSearch", "HopSkipJump", "HotFlip", "Live", "Noise", "RelaxedPGD", "SimplexPGD", "Square", "Sweep",
    "asked_for", "make",
]  # fmt: skip


def make(name: str) -> Attack:
    """The attack of a name, for options and ini files.

    Raises:
        ValueError: no such attack.
    """
    if name not in _MAKERS:
        raise ValueError(f"no attack is called {name!r}; known: {', '.join(NAMES)}")
    return _MAKERS[name]()
