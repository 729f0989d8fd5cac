"""Greedy edits of texts, led by gradients or by luck."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.attacks.checks import checked_counts, checked_loss
from pytest_robust.attacks.live import Live
from pytest_robust.attacks.protocol import BaseAttack
from pytest_robust.attacks.queries import Queries
from pytest_robust.errors import ThreatError
from pytest_robust.threats import Region, Threat

_STEP = 1e-4
"""Of losses and of scores: differences smaller than that are rounding, which depends on the batch."""


@dataclass(frozen=True)
class HotFlip(BaseAttack):
    """Greedy edits in the order of what the gradient foretells (Ebrahimi et al., "HotFlip", ACL 2018).

    At the best text so far every option is scored by the gradient. The most promising are tried one by one, exactly, the
    best option of each site first; the best of them is kept, and from there the next edit is looked for, or, when all are
    used up, an exchange of the least worth for a better one. So every step is one edit away from the best text known.

    Attributes:
        loss: ``"margin"``, ``"ce"`` or ``"dlr"``. n_steps: texts tried per run; each costs a forward and a backward pass.
        n_restarts: runs: the first from the text as it is, others from random edits. label: the name in reports.
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

    def begin(self, threat: Threat, live: Live) -> None:
        """Raises ThreatError for a threat that is not edits of texts."""
        checked_edits(self.name, threat)
        random = threat.start(live.region, live.key)
        live.x = torch.where(live.rows(live.restart > 0), random, live.region.origin)
        lowest = torch.full((len(live),), -torch.inf, device=live.x.device)
        nothing = torch.zeros_like(live.x)
        live.state = {
            "base": live.x, "base_grad": nothing, "base_loss": lowest, "best": live.x, "best_grad": nothing,
            "best_loss": lowest, "rank": torch.zeros_like(live.step),
        }  # fmt: skip

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        state, first = live.state, live.step == 0
        better = loss > state["best_loss"] + _STEP
        _replace(state, "best", better, {"": live.x, "_grad": grad, "_loss": loss.float()}, live)
        # Each of k edits, and one round of exchanges, gets its share of the steps.
        width = (self.n_steps / (live.region.radius.squeeze(1) + 1)).floor().clamp_min(4)
        rank = state["rank"] + 1
        moving = first | ((rank % width == 0) & (state["best_loss"] > state["base_loss"]))
        _replace(state, "base", moving, {part: state[f"best{part}"] for part in ("", "_grad", "_loss")}, live)
        state["rank"] = torch.where(moving, 0, rank)
        score = _steady(state["base_grad"])
        worth = (state["base"] * score).sum(2)
        live.x = flipped(state["base"], _site_by_site(score, live.region), state["rank"], live.region, worth)


@dataclass(frozen=True)
class EditSearch(Queries):
    """Random search over edits: at the best text so far, the texts one edit away are tried in a random order, until the loss
    rises at one of them: a site without an edit gets one, or takes that of another where the number of edits is used up.

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
        nothing = torch.zeros_like(live.step)
        live.state = {"best": live.x, "best_loss": lowest, "rank": nothing, "rises": nothing}

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        state = live.state
        better = loss > state["best_loss"] + _STEP
        _replace(state, "best", better, {"": live.x, "_loss": loss.float()}, live)
        # Around every text that is the best for a while, its neighbours have a random order: none is tried twice.
        state["rises"] = state["rises"] + better
        state["rank"] = torch.where(better, 0, state["rank"] + 1)
        liking = keyed.uniform(keyed.child(live.key, state["rises"]), tuple(live.x.shape[1:]))
        worth = keyed.uniform(keyed.child(live.key, live.step), tuple(live.x.shape[1:2]), 1)
        live.x = flipped(state["best"], _site_by_site(liking, live.region), state["rank"], live.region, worth)


def _site_by_site(score: Tensor, region: Region) -> Tensor:
    """Scores, (B, S, C) in [-1, 1], lowered so that the best option of every site comes before the second of any.

    Options of one site are much alike: where the gradient is wrong about one, it is about all.
    """
    order = torch.where(region.upper > 0, score, -torch.inf).argsort(dim=2, descending=True, stable=True)
    place: Tensor = order.argsort(dim=2)
    return score - 3 * place


def _steady(score: Tensor) -> Tensor:
    """Scores, (B, S, C), in [-1, 1] and in steps, so that rounding does not decide between options of the same worth."""
    largest = score.abs().flatten(1).amax(1).view(-1, 1, 1)
    return (score / torch.where(largest > 0, largest, 1.0) / _STEP).round() * _STEP


def checked_edits(name: str, threat: Threat) -> None:
    """Raises ThreatError unless the threat is a set of edits."""
    if threat.terrain != "edits":
        raise ThreatError(
            f"{name} edits texts, and {threat.norm} {threat.budget} moves other things; "
            "use it with CharacterEdits or WordEdits, or leave attacks out for those of the profile"
        )


def flipped(base: Tensor, score: Tensor, rank: Tensor, region: Region, worth: Tensor) -> Tensor:
    """``base``, (B, S, C), with the option that is ``rank``-th in the order of scores, (B,) from 0.

    Args:
        score: (B, S, C). worth: (B, S), of the edits in ``base``: where their number is used up, the one of least worth
            makes room, unless the new one is at the same site as another.
    """
    there = (region.upper > 0) & (base == 0)
    order = torch.where(there, score, -torch.inf).flatten(1).argsort(dim=1, descending=True, stable=True)
    chosen = order.gather(1, rank.clamp_max(order.shape[1] - 1).unsqueeze(1))
    site = (chosen // base.shape[2]).squeeze(1)
    edited = base.any(2)
    worth = torch.where(edited, worth, torch.inf)
    here = edited.gather(1, site.unsqueeze(1))
    full = (edited.sum(1, keepdim=True) >= region.radius) & ~here
    leaving = torch.where(full.squeeze(1), worth.argmin(1), site)
    moved = base.scatter(1, leaving.view(-1, 1, 1).expand(-1, 1, base.shape[2]), 0.0)
    moved = torch.where((full | here).unsqueeze(2), moved, base)
    # Nothing is there to take: the point stays.
    exists = there.flatten(1).gather(1, chosen) & (region.radius > 0)
    return torch.where(exists.unsqueeze(2), moved.flatten(1).scatter(1, chosen, 1.0).view_as(base), base)


def _replace(state: dict[str, Tensor], name: str, where: Tensor, by: dict[str, Tensor], live: Live) -> None:
    for part, value in by.items():
        old = state[name + part]
        state[name + part] = torch.where(where if old.ndim == 1 else live.rows(where), value, old)
