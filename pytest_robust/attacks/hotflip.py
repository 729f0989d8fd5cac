"""Greedy edits of texts, led by gradients or by luck."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.attacks.checks import checked_counts, checked_loss
from pytest_robust.attacks.live import Live
from pytest_robust.attacks.neighbours import (
    STEP,
    checked_edits,
    neighbour,
    remembered,
    replaced,
    silent,
    site_by_site,
    steady,
    stuck,
    untried,
)
from pytest_robust.attacks.protocol import BaseAttack
from pytest_robust.attacks.queries import Queries
from pytest_robust.threats import Threat

_WIDTH = 15
"""Texts tried around one, at most, before others are tried around the best of them: those last in the order break less."""


@dataclass(frozen=True)
class HotFlip(BaseAttack):
    """Greedy edits in the order of what the gradient foretells (Ebrahimi et al., "HotFlip", ACL 2018).

    At the best text so far every option is scored by the gradient. The most promising are tried one by one, exactly, the
    best option of each site first; the best of them is kept, and from there the next edit is looked for, or, when all are
    used up, an exchange of the least worth for a better one. So every step is one edit away from the best text known, and
    only a text from which others are looked for costs a backward pass. Where all around it were tried, it begins anew.

    Attributes:
        loss: ``"margin"``, ``"ce"`` or ``"dlr"``. n_steps: texts tried per run.
        n_restarts: runs: the first from the text as it is; others, and where its gradient says nothing, from random edits.
        label: the name in reports.
    """

    loss: str = "margin"
    n_steps: int = 30
    n_restarts: int = 1
    label: str = "hotflip"

    def __post_init__(self) -> None:
        checked_counts(n_steps=self.n_steps, n_restarts=self.n_restarts)
        checked_loss(self.loss, targeted=False)

    @property
    def name(self) -> str:
        return self.label

    def wants_gradient(self, live: Live) -> Tensor:
        """Where others are looked for from."""
        return live.state["rank"] == 0

    def begin(self, threat: Threat, live: Live) -> None:
        """Raises ThreatError for a threat that is not edits of texts."""
        checked_edits(self.name, threat)
        random = threat.start(live.region, live.key)
        live.x = torch.where(live.rows(live.restart > 0), random, live.region.origin)
        lowest = torch.full((len(live),), -torch.inf, device=live.x.device)
        live.state = {
            "base": live.x, "base_loss": lowest, "score": torch.zeros_like(live.x), "best": live.x, "best_loss": lowest,
            "rank": torch.zeros_like(live.step), "tried": untried(live, self.n_steps),
        }  # fmt: skip

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        state, based = live.state, live.state["rank"] == 0
        state["tried"] = remembered(live)
        replaced(state, based, live, base=live.x, base_loss=loss.float(), score=steady(grad))
        replaced(state, loss > state["best_loss"] + STEP, live, best=live.x, best_loss=loss.float())
        # Each of k edits, and one round of exchanges, gets its share of the steps.
        width = (self.n_steps / (live.region.radius.squeeze(1) + 1)).floor().clamp(4, _WIDTH)
        moving = ~based & (state["rank"] % width == 0) & (state["best_loss"] > state["base_loss"])
        state["rank"] = torch.where(moving, 0, state["rank"] + 1)
        score, worth = site_by_site(state["score"], live.region), (state["base"] * state["score"]).sum(2)
        other = neighbour(state["base"], score, worth, state["tried"], live.region)
        live.x = torch.where(live.rows(moving), state["best"], other)
        lost = silent(grad, live) | (~moving & stuck(live, state["base"], other))
        random = threat.start(live.region, keyed.child(live.key, live.step))
        live.x = torch.where(live.rows(lost), random, live.x)
        state["rank"] = torch.where(lost, 0, state["rank"])
        state["best_loss"] = torch.where(lost, -torch.inf, state["best_loss"])


@dataclass(frozen=True)
class EditSearch(Queries):
    """Random search over edits: at the best text so far, the texts one edit away are tried in a random order, until the loss
    rises at one of them: a site without an edit gets one, or takes that of another where the number of edits is used up.
    Where all of them were tried, it begins anew.

    Attributes:
        n_steps: texts tried per run.
    """

    n_steps: int = 100
    label: str = "edit-search"

    def begin(self, threat: Threat, live: Live) -> None:
        """Raises ThreatError for a threat that is not edits of texts."""
        checked_edits(self.name, threat)
        live.x = threat.start(live.region, live.key)
        lowest = torch.full((len(live),), -torch.inf, device=live.x.device)
        live.state = {"best": live.x, "best_loss": lowest, "tried": untried(live, self.n_steps)}

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        state = live.state
        state["tried"] = remembered(live)
        replaced(state, loss > state["best_loss"] + STEP, live, best=live.x, best_loss=loss.float())
        keys = keyed.child(live.key, live.step)
        liking, worth = keyed.uniform(keys, tuple(live.x.shape[1:])), keyed.uniform(keys, tuple(live.x.shape[1:2]), 1)
        other = neighbour(state["best"], site_by_site(liking, live.region), worth, state["tried"], live.region)
        lost = stuck(live, state["best"], other)
        live.x = torch.where(live.rows(lost), threat.start(live.region, keys), other)
        state["best_loss"] = torch.where(lost, -torch.inf, state["best_loss"])
