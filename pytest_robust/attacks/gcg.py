"""Greedy coordinate gradient: of many random swaps that gradients like, the best."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.attacks.checks import checked_counts, checked_loss
from pytest_robust.attacks.live import Live
from pytest_robust.attacks.neighbours import STEP, checked_edits, neighbour, remembered, replaced, steady, stuck, untried
from pytest_robust.attacks.protocol import BaseAttack
from pytest_robust.threats import Threat


@dataclass(frozen=True)
class GCG(BaseAttack):
    """Greedy coordinate gradient (Zou et al., "Universal and transferable adversarial attacks on aligned language models",
    2023, algorithm 1), for a suffix or any other edits.

    From random edits on, as many as there may be: at each site the ``top`` options by the gradient are candidates, of all
    these a random batch of ``width`` is tried, each in place of one edit, and the best of the batch is where the next
    gradient is asked for, be it worse than the text before. That leads out of places where ``HotFlip`` stays.

    Attributes:
        loss: ``"margin"``, ``"ce"`` or ``"dlr"``. n_steps: texts tried per run; of ``width + 1`` one costs a backward pass.
        n_restarts: runs, each from other edits. width: texts tried for each gradient. top: options of a site that may be.
    """

    loss: str = "margin"
    n_steps: int = 200
    n_restarts: int = 1
    width: int = 24
    top: int = 64
    label: str = "gcg"

    def __post_init__(self) -> None:
        checked_counts(n_steps=self.n_steps, n_restarts=self.n_restarts, width=self.width, top=self.top)
        checked_loss(self.loss, targeted=False)

    @property
    def name(self) -> str:
        return self.label

    def wants_gradient(self, live: Live) -> Tensor:
        """Before each batch."""
        return live.state["rank"] == 0

    def begin(self, threat: Threat, live: Live) -> None:
        """Raises ThreatError for a threat that is not edits of texts."""
        checked_edits(self.name, threat)
        live.x = threat.start(live.region, live.key)
        nothing, lowest = torch.zeros_like(live.x), torch.full((len(live),), -torch.inf, device=live.x.device)
        live.state = {
            "base": live.x, "worth": nothing[:, :, 0], "likely": nothing, "best": live.x, "best_loss": lowest,
            "rank": torch.zeros_like(live.step), "tried": untried(live, self.n_steps),
        }  # fmt: skip

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        state, based = live.state, live.state["rank"] == 0
        state["tried"] = remembered(live)
        score = torch.where(live.region.upper > 0, steady(grad), -torch.inf)
        least = score.topk(min(self.top, score.shape[2]), dim=2).values[:, :, -1:]
        lowest = torch.full_like(state["best_loss"], -torch.inf)
        worth = torch.where(live.x != 0, score, 0.0).sum(2)
        replaced(state, based, live, base=live.x, likely=(score >= least).to(live.x.dtype), best_loss=lowest)
        state["worth"] = torch.where(based.unsqueeze(1), worth, state["worth"])
        better = ~based & (loss > state["best_loss"] + STEP)
        replaced(state, better, live, best=live.x, best_loss=loss.float())
        moving = state["rank"] == self.width
        state["rank"] = torch.where(moving, 0, state["rank"] + 1)
        luck = keyed.uniform(keyed.child(live.key, live.step), tuple(live.x.shape[1:])).to(live.x.dtype)
        other = neighbour(state["base"], luck + state["likely"], state["worth"], state["tried"], live.region)
        live.x = torch.where(live.rows(moving), state["best"], other)
        lost = ~moving & stuck(live, state["base"], other)
        live.x = torch.where(live.rows(lost), threat.start(live.region, keyed.child(live.key, live.step)), live.x)
        state["rank"] = torch.where(lost, 0, state["rank"])
