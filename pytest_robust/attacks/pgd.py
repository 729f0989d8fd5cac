"""Projected gradient descent and its one-step form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pytest_robust.attacks.checks import checked_counts, checked_loss
from pytest_robust.attacks.live import Live
from pytest_robust.attacks.protocol import BaseAttack
from pytest_robust.threats import Threat


@dataclass(frozen=True)
class FGSM(BaseAttack):
    """Fast gradient method (Goodfellow et al., ICLR 2015), to the best point of the region for the gradient at x.

    With Linf that is the sign step; in every norm it is the exact maximiser of the linearised loss over ball and box.

    Attributes:
        loss: ``"ce"``, ``"margin"``, ``"dlr"``, or with ``n_targets`` ``"margin-t"`` or ``"dlr-t"``.
        n_targets: one step towards so many of the most likely other classes, in turn. 0: no target. How far each step comes
            tells later attacks of the schedule which target is worth most.
    """

    loss: str = "margin"
    n_targets: int = 0

    n_steps = 1

    def __post_init__(self) -> None:
        checked_loss(self.loss, targeted=self.n_targets > 0)

    @property
    def name(self) -> str:
        return "fgsm-t" if self.n_targets else "fgsm"

    def begin(self, threat: Threat, live: Live) -> None:
        live.x = live.region.origin

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        live.x = threat.maximise(grad, live.region)


@dataclass(frozen=True)
class PGD(BaseAttack):
    """Projected gradient descent (Madry et al., ICLR 2018), with momentum if wanted (MI-FGSM, Dong et al., CVPR 2018).

    Attributes:
        loss: ``"ce"``, ``"margin"``, ``"dlr"``, or with ``n_targets`` ``"margin-t"`` or ``"dlr-t"``.
        n_steps: gradient steps per run. n_restarts: runs from different starts.
        step_size: length of a step as a share of eps. ``None``: 2.5 / n_steps, as Madry et al. have it.
        schedule: ``"constant"``, or ``"cosine"``: in steps from ``step_size`` down to a hundredth of it; from the clean
            point first to the region's best point for the gradient, which is exact on a linear model.
        momentum: how much of the accumulated gradient stays from step to step.
        random_start: start every run at a random point; if not, the first run starts at the clean point.
        n_targets: drive towards so many of the most promising other classes, in turn. 0: no target.
        first_target: begin at this place in their order, 0 for the most promising.
        label: the name in reports, where another is wanted.
    """

    loss: str = "ce"
    n_steps: int = 40
    n_restarts: int = 1
    step_size: float | None = None
    schedule: Literal["constant", "cosine"] = "constant"
    momentum: float = 0.0
    random_start: bool = True
    n_targets: int = 0
    first_target: int = 0
    label: str | None = None

    def __post_init__(self) -> None:
        checked_counts(n_steps=self.n_steps, n_restarts=self.n_restarts)
        checked_loss(self.loss, targeted=self.n_targets > 0)
        if self.step_size is not None and not (math.isfinite(self.step_size) and self.step_size > 0):
            raise ValueError(f"step_size is a share of eps above 0, got {self.step_size!r}")
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum lies in [0, 1], got {self.momentum!r}")

    @property
    def name(self) -> str:
        if self.label is not None:
            return self.label
        if self.n_targets:
            return "pgd-t"
        return "pgd" if self.loss == "ce" else f"pgd-{self.loss}"

    def begin(self, threat: Threat, live: Live) -> None:
        live.x = started(threat, live, always=self.random_start)
        if self.momentum:
            live.state = {"momentum": torch.zeros_like(live.x)}

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        if self.momentum:
            grad = live.state["momentum"].mul_(self.momentum).add_(_normalised(grad))
        moved = threat.step(live.x, grad, self._size(live.step).to(grad.dtype), live.region)
        from_clean = self.schedule == "cosine" and not self.random_start
        live.x = best_first(threat, live, grad, moved) if from_clean else moved

    def _size(self, step: Tensor) -> Tensor:
        most = 2.5 / self.n_steps if self.step_size is None else self.step_size
        if self.schedule == "constant":
            return torch.full_like(step, most, dtype=torch.float32)
        return most * (0.01 + 0.99 * (1 + torch.cos(step * (math.pi / self.n_steps))) / 2)


def started(threat: Threat, live: Live, *, always: bool) -> Tensor:
    """Random points; the clean ones for the first run unless ``always``."""
    random = threat.start(live.region, live.key)
    return random if always else torch.where(live.rows(live.restart > 0), random, live.region.origin)


def best_first(threat: Threat, live: Live, grad: Tensor, moved: Tensor) -> Tensor:
    """``moved``, but where a run takes its first step from the clean point: there the region's best for the gradient."""
    first = (live.step == 0) & (live.restart == 0)
    if not bool(first.any()):
        return moved
    return torch.where(live.rows(first), threat.maximise(grad, live.region), moved)


def _normalised(grad: Tensor) -> Tensor:
    """Each example's gradient divided by its mean absolute value, so that no step outweighs another by its scale."""
    shape = (-1, *[1] * (grad.ndim - 1))
    largest = grad.abs().flatten(1).amax(1).view(shape)
    grad = grad / torch.where(largest > 0, largest, 1.0)  # so that no mean overflows or underflows
    mean = grad.abs().flatten(1).mean(1).view(shape)
    return grad / torch.where(mean > 0, mean, 1.0)
