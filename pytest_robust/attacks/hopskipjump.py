"""HopSkipJump: along the decision boundary, by the decision alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.attacks.checks import checked_counts
from pytest_robust.attacks.live import Live
from pytest_robust.attacks.protocol import BaseAttack
from pytest_robust.threats import Threat

_PROBE = 0.1
"""Distance of the probes from the boundary, as a share of the distance from there to the origin."""
_OUT = 1e3
"""Radii that a start goes out before it is projected on the region: so far that it comes to lie at the end."""


@dataclass(frozen=True)
class HopSkipJump(BaseAttack):
    """HopSkipJump (Chen et al., S&P 2020, algorithm 2): it learns nothing but whether the model is broken at a point.

    It starts at a random broken point, as near as one is found, and goes there and back: by bisection to the decision
    boundary, by random probes around that to the boundary's direction, by a step in that direction away from it. A size is a
    budget, as a multiple of the threat's: to go nearer is to project on a smaller region. The number of queries of each
    phase is fixed. Where no start is found, nothing is: surviving it is no evidence.

    Attributes:
        n_iterations: rounds of all phases. n_starts: random points, each region larger than the last by half an octave.
        n_bisections, n_probes, n_sizes: queries for the boundary, for its direction, and for the length of the step.
    """

    n_iterations: int = 10
    n_starts: int = 25
    n_bisections: int = 10
    n_probes: int = 60
    n_sizes: int = 6

    name = "hopskipjump"
    uses_gradients = False
    roams = True
    evidence = False

    def __post_init__(self) -> None:
        checked_counts(
            n_iterations=self.n_iterations,
            n_starts=self.n_starts,
            n_bisections=self.n_bisections,
            n_probes=self.n_probes,
            n_sizes=self.n_sizes,
        )

    @property
    def n_steps(self) -> int:
        """Queries per run; the last ones go back to the boundary once more."""
        return self.n_starts + self.n_iterations * self._round + self.n_bisections

    @property
    def _round(self) -> int:
        return self.n_bisections + self.n_probes + self.n_sizes

    def begin(self, threat: Threat, live: Live) -> None:
        none, nothing = torch.zeros_like(live.closest, dtype=live.x.dtype), torch.zeros_like(live.x)
        live.state = {
            "broken": live.region.origin,
            "size": none,
            "low": none,
            "signs": none,
            "probes": nothing,
            "signed": nothing,
            "jumped": none.bool(),
        }
        live.x = self._query(threat, live, live.step)

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        self._learn(live, loss > 0)
        live.x = self._query(threat, live, live.step + 1)

    def _learn(self, live: Live, broken: Tensor) -> None:
        """What the decision at ``live.x`` says, by the phase that asked for it."""
        state, rows = live.state, live.rows
        starting, bisecting, probing, jumping = self._phases(live.step)
        size = self._size(live, live.step)

        taken = broken & ((starting & (state["size"] == 0)) | bisecting | (jumping & ~state["jumped"]))
        state["low"] = torch.where(bisecting & ~broken, size, state["low"])
        state["size"] = torch.where(taken, size, state["size"])

        away = live.x - state["broken"]
        sign = torch.where(broken, 1.0, -1.0).to(away.dtype)
        state["signs"] = torch.where(probing, state["signs"] + sign, torch.where(jumping, state["signs"], 0.0))
        for name, new in (("probes", away), ("signed", rows(sign) * away)):
            kept = torch.where(rows(jumping), state[name], 0.0)
            state[name] = torch.where(rows(probing), state[name] + new, kept)
        state["jumped"] = jumping & (state["jumped"] | taken)
        state["broken"] = torch.where(rows(taken), live.x, state["broken"])

    def _query(self, threat: Threat, live: Live, step: Tensor) -> Tensor:
        """Where to ask next."""
        state, rows, region = live.state, live.rows, live.region
        size, (starting, bisecting, probing, _) = self._size(live, step), self._phases(step)
        larger = threat.scaled(region, size)

        u = keyed.uniform(keyed.child(live.key, step), tuple(live.x.shape[1:]), stream=2).to(live.x.dtype) - 0.5
        far = (state["broken"] - region.origin).flatten(1).norm(dim=1) / u.flatten(1).norm(dim=1)
        beside = state["broken"] + _PROBE * rows(far) * u
        point = torch.where(rows(starting), region.origin + _OUT * larger.reach * u, state["broken"])
        # Probes are free within the bounds, everything else is at most ``size`` away.
        free = threat.scaled(region, torch.where(probing, torch.inf, size))
        nearer = threat.project(torch.where(rows(probing), beside, point), free)

        mean = rows(state["signs"] / self.n_probes)
        # Where all probes agree their mean says where to go; else what they have in common says nothing.
        direction = state["signed"] - torch.where(mean.abs() < 1, mean, 0.0) * state["probes"]
        share = (size - state["size"]) / torch.where(size > 0, size, 1.0)
        jump = threat.step(state["broken"], direction, share, larger)

        going = torch.where(rows(starting | bisecting | probing), nearer, jump)
        # By turns inside a region and at its far end.
        inside = starting & (step % 2 == 0)
        return torch.where(rows(inside), threat.start(larger, keyed.child(live.key, step)), going)

    def _size(self, live: Live, step: Tensor) -> Tensor:
        """(S,) budget of the point that a query is made at, as a multiple of the threat's; of a probe it is not used."""
        state, place = live.state, self._place(step)
        start = 2.0 ** (step / 2)
        middle = torch.where(place == 0, 1.0, (state["low"].clamp_min(1.0) * state["size"]).sqrt())
        halvings = (place - self.n_bisections - self.n_probes).clamp_min(0)
        rounds = (step - self.n_starts).clamp_min(0) // self._round + 1
        jump = state["size"] * (1 + 0.5**halvings / rounds.sqrt())
        starting, bisecting, _, _ = self._phases(step)
        return torch.where(starting, start, torch.where(bisecting, middle, jump)).to(live.x.dtype)

    def _place(self, step: Tensor) -> Tensor:
        """The place of a step in its round."""
        return (step - self.n_starts).clamp_min(0) % self._round

    def _phases(self, step: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Which query is a start, one for the boundary, for its direction, or for the length of the step: (S,) bool each."""
        starting, place = step < self.n_starts, self._place(step)
        bisecting = ~starting & (place < self.n_bisections)
        jumping = ~starting & (place >= self.n_bisections + self.n_probes)
        return starting, bisecting, ~(starting | bisecting | jumping), jumping
