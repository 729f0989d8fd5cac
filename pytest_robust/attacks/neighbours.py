"""What searches over edits share: from one text to those that lie one edit away, none of them twice."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.attacks.live import Live
from pytest_robust.errors import ThreatError
from pytest_robust.threats import Region, Threat

STEP = 1e-4
"""Of losses and of scores: differences smaller than that are rounding, which depends on the batch."""


def checked_edits(name: str, threat: Threat) -> None:
    """Raises ThreatError unless the threat is a set of edits."""
    if threat.terrain != "edits":
        raise ThreatError(
            f"{name} edits texts, and {threat.norm} {threat.budget} moves other things; "
            "use it with CharacterEdits, WordEdits or Suffix, or leave attacks out for those of the profile"
        )


def untried(live: Live, n_steps: int) -> Tensor:
    """The memory of a run of so many steps that has tried nothing but the points where its slots stand: (S, n_steps + 1)."""
    return codes_of(live.x).unsqueeze(1).repeat(1, n_steps + 1)


def codes_of(x: Tensor) -> Tensor:
    """(B,) int64, by which points, (B, S, C), are known again: equal for equal points, and for others all but never."""
    codes = _codes(x.shape[1] * x.shape[2], x.device)
    return ((x != 0).flatten(1) * codes).sum(1)


def neighbour(base: Tensor, score: Tensor, worth: Tensor, tried: Tensor, region: Region) -> Tensor:
    """``base``, (B, S, C), with one more of its options, or another one: of those that make a new point the best.

    Args:
        score: (B, S, C), of options. worth: (B, S), of the edits in ``base``: where their number is used up, the one of
            least worth makes room, unless the new one is at the same site as another. tried: (B, T) int64, the codes of
            points that are not new.
    """
    edited = base.any(2)
    least = torch.where(edited, worth, torch.inf).argmin(1, keepdim=True)
    full = edited.sum(1, keepdim=True) >= region.radius
    # By site, the one whose edit leaves when an option is taken there.
    leaving = torch.where(edited | ~full, torch.arange(base.shape[1], device=base.device), least)
    codes = _codes(base.shape[1] * base.shape[2], base.device).view(base.shape[1:])
    own = ((base != 0) * codes).sum(2)
    made = codes_of(base).view(-1, 1, 1) - own.gather(1, leaving).unsqueeze(2) + codes
    there = (region.upper > 0) & (base == 0) & ~_among(made, tried)
    best = torch.where(there, score, -torch.inf).flatten(1).argmax(1, keepdim=True)
    gone = leaving.gather(1, best // base.shape[2])
    moved = base.scatter(1, gone.unsqueeze(2).expand(-1, 1, base.shape[2]), 0.0)
    moved = moved.flatten(1).scatter(1, best, 1.0).view_as(base)
    # Nothing is there to take: the point stays.
    exists = there.flatten(1).gather(1, best) & (region.radius > 0)
    return torch.where(exists.unsqueeze(2), moved, base)


def remembered(live: Live) -> Tensor:
    """The memory of the run with the points where the slots stand."""
    place = (live.step + 1).unsqueeze(1)
    return live.state["tried"].scatter(1, place, codes_of(live.x).unsqueeze(1))


def site_by_site(score: Tensor, region: Region) -> Tensor:
    """Scores, (B, S, C) in [-1, 1], lowered so that the best option of every site comes before the second of any.

    Options of one site are much alike: where the gradient is wrong about one, it is about all.
    """
    order = torch.where(region.upper > 0, score, -torch.inf).argsort(dim=2, descending=True, stable=True)
    place: Tensor = order.argsort(dim=2)
    return score - 3 * place


def steady(score: Tensor) -> Tensor:
    """Scores, (B, S, C), in [-1, 1] and in steps, so that rounding does not decide between options of the same worth."""
    largest = score.abs().flatten(1).amax(1).view(-1, 1, 1)
    return (score / torch.where(largest > 0, largest, 1.0) / STEP).round() * STEP


def stuck(live: Live, base: Tensor, other: Tensor) -> Tensor:
    """(S,) bool: runs in which all texts around ``base`` were tried, and where that is not because nothing may move."""
    return (other == base).flatten(1).all(1) & (live.region.upper > 0).flatten(1).any(1)


def silent(grad: Tensor, live: Live) -> Tensor:
    """(S,) bool: runs at whose first point the gradient says nothing of any option: at the end of a text, of words more."""
    said = ((grad != 0) & (live.region.upper > 0)).flatten(1).any(1)
    return (live.step == 0) & ~said


def replaced(state: dict[str, Tensor], where: Tensor, live: Live, **by: Tensor) -> None:
    """Put these values in place of those that the state has by their names, in some slots, (S,) bool."""
    for name, value in by.items():
        old = state[name]
        state[name] = torch.where(where if old.ndim == 1 else live.rows(where), value, old)


@lru_cache(maxsize=64)
def _codes(n: int, device: torch.device) -> Tensor:
    return keyed.child(torch.zeros(n, dtype=torch.int64, device=device), torch.arange(n, device=device))


def _among(codes: Tensor, tried: Tensor) -> Tensor:
    """(B, S, C) bool: which of these codes are among (B, T)."""
    ordered = tried.sort(1).values
    flat = codes.flatten(1)
    place = torch.searchsorted(ordered, flat).clamp_max(ordered.shape[1] - 1)
    return (ordered.gather(1, place) == flat).view_as(codes)
