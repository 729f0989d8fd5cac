"""L: what "broken" means and the loss that drives towards it."""

from __future__ import annotations

from pytest_robust.objectives.classification import LOSSES, Targeted, Untargeted, lead
from pytest_robust.objectives.protocol import Objective

__all__ = ["LOSSES", "Objective", "Targeted", "Untargeted", "lead"]
