"""E: which attack on which examples next, when the verdict is certain, and whether it can be believed."""

from __future__ import annotations

from pytest_robust.evaluation.comparison import Outcomes, compare
from pytest_robust.evaluation.curves import Curve, curve
from pytest_robust.evaluation.engine import evaluate
from pytest_robust.evaluation.progress import Progress
from pytest_robust.evaluation.rate import Rate
from pytest_robust.evaluation.result import Evaluation

__all__ = ["Curve", "Evaluation", "Outcomes", "Progress", "Rate", "compare", "curve", "evaluate"]
