"""S(x): the sets of allowed perturbations."""

from __future__ import annotations

from pytest_robust.budget import Budget, Number
from pytest_robust.errors import ThreatError
from pytest_robust.threats.ball import Ball, Bounds
from pytest_robust.threats.characters import CharacterEdits
from pytest_robust.threats.edits import Edits
from pytest_robust.threats.embedding import EmbeddingBall
from pytest_robust.threats.l0 import L0
from pytest_robust.threats.l1 import L1
from pytest_robust.threats.l2 import L2
from pytest_robust.threats.latent import LatentBall
from pytest_robust.threats.linf import Linf
from pytest_robust.threats.photometric import Negation, Photometric
from pytest_robust.threats.protocol import Threat
from pytest_robust.threats.region import Region
from pytest_robust.threats.spatial import Spatial
from pytest_robust.threats.suffix import Suffix
from pytest_robust.threats.summary import ThreatSummary
from pytest_robust.threats.transform import Transform
from pytest_robust.threats.words import WordEdits

_BALLS: dict[str, type[Ball]] = {"linf": Linf, "l2": L2, "l1": L1, "l0": L0}
NORMS = tuple(_BALLS)

__all__ = [
    "L0", "L1", "L2", "NORMS", "Ball", "Bounds", "CharacterEdits", "Edits", "EmbeddingBall", "LatentBall", "Linf",
    "Negation", "Photometric", "Region", "Spatial", "Suffix", "Threat", "ThreatSummary", "Transform", "WordEdits", "make",
]  # fmt: skip


def make(norm: str, eps: Number | Budget, *, bounds: Bounds = (0, 1), space: str = "input") -> Threat:
    """The threat of a norm's name, for options and ini files: an lp ball; for a model of texts an embedding ball, or with
    ``"characters"`` so many typing errors.

    Raises:
        ThreatError: no such norm in this space, or a budget or bounds that cannot be used.
    """
    if norm == CharacterEdits.norm:
        if space == "input":
            raise ThreatError(
                f"norm 'characters' counts edits of texts, and this model takes tensors; use {', '.join(NORMS)}"
            )
        return CharacterEdits(eps)
    if space == "text":
        raise ThreatError(
            f"{norm} {Budget.parse(eps)} moves numbers, and here texts are edited; use norm 'characters' with a whole number"
        )
    if space == "embedding":
        return EmbeddingBall(eps, norm=norm)
    if norm not in _BALLS:
        raise ThreatError(f"no norm is called {norm!r}; known: {', '.join(NORMS)}")
    return _BALLS[norm](eps, bounds)
