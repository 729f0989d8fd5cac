"""Catastrophic overfitting, noticed while there is still something to go back to.

Training against one fast step may learn to hide from that step alone: within a few hundred updates the accuracy under it
rises, and under a real attack falls to nothing (Wong et al., "Fast is better than free", ICLR 2020).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

_FALL = 0.10
"""A fall of robust accuracy below its running mean that no noise explains, where it is also three standard errors."""
_GAP = 0.30
"""How much wider than at its narrowest the gap between the accuracies under a fast and a strong attack may become."""
_MEMORY = 0.7
_CHANCE = 1.2


@dataclass(frozen=True)
class Probe:
    """What the model in training is on a few fixed examples.

    Attributes:
        clean, fast, strong: of ``n`` examples, those right without attack, under a single step, and under PGD.
        loss: mean training loss since the last probe. n_classes: among the labels of these examples.
    """

    clean: int
    fast: int
    strong: int
    n: int
    loss: float
    n_classes: int


@dataclass
class Guard:
    """Judges probes in turn.

    Attributes:
        usual: running mean of the strong accuracy, None at first. best_clean: the highest clean accuracy seen. gap: the
            narrowest between the two attacks.
    """

    usual: float | None = None
    best_clean: float = 0.0
    gap: float = 1.0

    def judge(self, probe: Probe) -> str | None:
        """Why training has collapsed, in words; None where it has not. A probe that is judged so leaves no trace."""
        chance = _CHANCE / probe.n_classes if probe.n_classes > 1 else 0.0
        clean, fast, strong = (k / probe.n for k in (probe.clean, probe.fast, probe.strong))
        if not math.isfinite(probe.loss):
            return f"the loss is {probe.loss}"
        if self.best_clean - clean > _FALL and clean <= chance:
            return f"clean accuracy is {_percent(clean)}, that of a guess, after {_percent(self.best_clean)}"
        if self.usual is not None:
            # A standard model begins with a gap; one that grows while PGD still gains is learning, not hiding.
            if fast - strong > self.gap + _GAP and strong <= self.usual:
                step = f"{_percent(fast)} are right under a single step"
                return f"{step} and {_percent(strong)} under PGD, no more than before: the step has gone blind"
            error = math.sqrt(self.usual * (1 - self.usual) / probe.n)
            if self.usual - strong > max(_FALL, 3 * error):
                return f"accuracy under PGD fell to {_percent(strong)} from {_percent(self.usual)}"
        self.usual = strong if self.usual is None else _MEMORY * self.usual + (1 - _MEMORY) * strong
        self.best_clean, self.gap = max(self.best_clean, clean), min(self.gap, fast - strong)
        return None

    def forget(self) -> None:
        """After a return to earlier weights, what was usual is no measure any more."""
        self.usual = None

    def state(self) -> dict[str, Any]:
        return asdict(self)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
