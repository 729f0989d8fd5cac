"""L-BFGS: quasi-Newton steps, each example with a memory of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_robust.attacks.checks import checked_counts, checked_loss
from pytest_robust.attacks.live import Live
from pytest_robust.attacks.nearest import extent, weight
from pytest_robust.attacks.protocol import BaseAttack
from pytest_robust.threats import Threat

_DECREASE = 1e-4
"""Share of the decrease foretold that a step must bring (Armijo's rule)."""


@dataclass(frozen=True)
class LBFGS(BaseAttack):
    """L-BFGS attack (Szegedy et al., ICLR 2014, section 4.1): ``|d|^2 - weight * loss`` by quasi-Newton steps.

    ``d`` is the change in units of the region's size. The direction comes from the two-loop recursion (Nocedal and Wright,
    "Numerical optimization", algorithm 7.4), and every point is projected on the region. Where a step does not bring enough,
    the next one tries half of it.

    Attributes:
        loss: ``"margin-t"`` or ``"dlr-t"``; without ``n_targets`` ``"ce"``, ``"margin"`` or ``"dlr"``.
        n_steps: points tried per run. n_restarts: runs from the clean point, each weighing the loss more.
        weight: of the loss in the first run; in the last it is a hundred times as much.
        memory: steps remembered, each with two tensors of the size of an input.
        n_targets: drive towards so many of the most promising other classes, in turn. 0: no target.
    """

    loss: str = "margin-t"
    n_steps: int = 20
    n_restarts: int = 3
    weight: float = 1.0
    memory: int = 5
    n_targets: int = 9

    name = "lbfgs"

    def __post_init__(self) -> None:
        checked_counts(n_steps=self.n_steps, n_restarts=self.n_restarts, memory=self.memory)
        checked_loss(self.loss, targeted=self.n_targets > 0)

    def begin(self, threat: Threat, live: Live) -> None:
        live.x = live.region.origin
        flat = torch.zeros_like(live.x).flatten(1)
        none = torch.zeros(len(live), device=live.x.device, dtype=live.x.dtype)
        past = flat.unsqueeze(1).expand(-1, self.memory, -1)
        live.state = {
            "at": flat,
            "slope": flat,
            "value": torch.full_like(none, torch.inf),
            "direction": flat,
            "length": none,
            "extent": torch.ones_like(none),
            "moves": past,
            "turns": past,
            "curvature": torch.zeros_like(none).unsqueeze(1).expand(-1, self.memory),
        }

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        state, origin = live.state, live.region.origin
        state["extent"] = torch.where(live.step == 0, extent(threat, live, grad), state["extent"])
        size, factor = (
            state["extent"].unsqueeze(1),
            weight(self.weight, live.restart / max(1, self.n_restarts - 1)).to(live.x.dtype),
        )
        here = (live.x - origin).flatten(1) / size
        slope = 2 * here - factor.unsqueeze(1) * size * grad.flatten(1)
        value = here.square().sum(1) - factor * loss.to(here.dtype)
        foretold = (state["slope"] * (here - state["at"])).sum(1)
        better = (value <= state["value"] + _DECREASE * foretold) | (live.step == 0)

        self._remember(live, here - state["at"], slope - state["slope"], better & (live.step > 0))
        for name, new in (("at", here), ("slope", slope)):
            state[name] = torch.where(better.unsqueeze(1), new, state[name])
        state["value"] = torch.where(better, value, state["value"])
        state["direction"] = torch.where(better.unsqueeze(1), -self._newton(live, slope), state["direction"])
        state["length"] = torch.where(better, 1.0, state["length"] / 2)
        there = state["at"] + state["length"].unsqueeze(1) * state["direction"]
        live.x = threat.project(origin + (size * there).view_as(origin), live.region)

    def _remember(self, live: Live, move: Tensor, turn: Tensor, taken: Tensor) -> None:
        """Of the steps taken, those along which the function curves upwards; the oldest is forgotten."""
        state = live.state
        product = (move * turn).sum(1)
        fit = taken & (product > 1e-6 * move.norm(dim=1) * turn.norm(dim=1))
        inverse = torch.where(fit, 1 / torch.where(fit, product, 1.0), 0.0)
        for name, new in (("moves", move), ("turns", turn), ("curvature", inverse)):
            pushed = torch.cat([state[name][:, 1:], new.unsqueeze(1)], dim=1)
            state[name] = torch.where(fit.view(-1, *[1] * (pushed.ndim - 1)), pushed, state[name])

    def _newton(self, live: Live, slope: Tensor) -> Tensor:
        """(S, features) the inverse Hessian, as far as it is known, times the slope. Unused places have curvature 0."""
        moves, turns, curvature = (live.state[name] for name in ("moves", "turns", "curvature"))
        q, shares = slope, []
        for i in reversed(range(self.memory)):
            shares.append(curvature[:, i] * (moves[:, i] * q).sum(1))
            q = q - shares[-1].unsqueeze(1) * turns[:, i]
        latest, known = turns[:, -1].square().sum(1), curvature[:, -1] > 0
        # Without a memory the distance alone tells the curvature: it is 2.
        scale = torch.where(known, 1 / torch.where(known, curvature[:, -1] * latest, 1.0), 0.5)
        q = scale.unsqueeze(1) * q
        for i, share in zip(range(self.memory), reversed(shares), strict=True):
            back = curvature[:, i] * (turns[:, i] * q).sum(1)
            q = q + (share - back).unsqueeze(1) * moves[:, i]
        return q
