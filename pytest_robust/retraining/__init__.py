"""min over theta: adversarial training over the same threats, objectives and attacks as the evaluation's."""

from pytest_robust.retraining.adversary import Adversary
from pytest_robust.retraining.engine import retrain
from pytest_robust.retraining.history import Event, Look, TrainingProgress
from pytest_robust.retraining.recipe import METHODS, Recipe
from pytest_robust.retraining.result import Retrained

__all__ = ["METHODS", "Adversary", "Event", "Look", "Recipe", "Retrained", "TrainingProgress", "retrain"]
