"""The inner maximisation: the evaluation's own attacks, run for a fixed number of steps on a batch to train on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_robust.attacks import Attack, Live
from pytest_robust.attacks.protocol import BaseAttack
from pytest_robust.evaluation.passes import Passes
from pytest_robust.models.protocol import Batch
from pytest_robust.objectives import Objective
from pytest_robust.threats import Threat

_PLAIN = 10.0
"""Over this the losses' logits are divided, so that ``"ce"``, which sharpens them as much, is plain cross-entropy."""
_NOISE = 2.0
_REACH = 1.0 + _NOISE


@dataclass(frozen=True)
class NFGSM(BaseAttack):
    """Noisy FGSM (de Jorge et al., "Make some noise", NeurIPS 2022, algorithm 1): for training, and no evidence of anything.

    From noise of up to twice the radius one step of the radius, without projection on the ball: the point lies within three
    times the radius, and within bounds and mask.
    """

    loss: str = "ce"

    name = "nfgsm"
    n_steps = 1
    roams = True
    evidence = False

    def begin(self, threat: Threat, live: Live) -> None:
        live.x = threat.start(threat.scaled(live.region, torch.full_like(live.scale, _NOISE)), live.key)

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        reach = threat.scaled(live.region, torch.full_like(live.scale, _REACH))
        live.x = threat.step(live.x, grad, torch.full_like(live.scale, 1 / _REACH), reach)


@dataclass(frozen=True)
class Crafted:
    """Attributes:
    x: (B, ...) the last point. broken: (B,) bool, whether the model was broken at the last point or on the way.
    """

    x: Tensor
    broken: Tensor


def begun(
    batch: Batch, labels: Tensor, threat: Threat, objective: Objective, attack: Attack, keys: Tensor, share: float = 1.0
) -> Live:
    """Slots at the beginning of their first run.

    Args:
        labels, keys: (B,) int64 on the batch's device. share: of the budget.

    Raises:
        ValueError: an attack with targets, for which clean logits would have to be known.
    """
    if attack.n_targets:
        raise ValueError(f"{attack.name} drives towards targets, and training has none; use one without, such as PGD('ce')")
    x = batch.x.detach()
    region = threat.region(x, batch.free)
    if share < 1:
        region = threat.scaled(region, torch.full((len(x),), share, device=x.device))
    goal = objective.goal(labels)
    none, zeros = torch.full((len(x),), -torch.inf, device=x.device), torch.zeros_like(labels)
    scale = torch.full((len(x),), _PLAIN, device=x.device)
    live = Live(
        x=x,
        region=region,
        context=batch.context,
        goal=goal,
        rival=goal,
        scale=scale,
        key=keys,
        restart=zeros,
        step=zeros,
        closest=none,
        peak=none,
        clean=x.new_zeros(len(x), 0),
    )
    attack.begin(threat, live)
    return live


def craft(
    passes: Passes,
    batch: Batch,
    labels: Tensor,
    threat: Threat,
    objective: Objective,
    attack: Attack,
    keys: Tensor,
    *,
    share: float = 1.0,
    judge: bool = False,
) -> Crafted:
    """Run the attack once on every example of the batch: all its steps, whether it has broken the example or not.

    To be called inside ``isolated()`` of the model: in eval mode, without gradients of parameters.

    Args:
        share: of the budget. judge: also look at the last point, which costs a forward pass and is of no use in training.
    """
    live = begun(batch, labels, threat, objective, attack, keys, share)
    broken = torch.zeros_like(labels, dtype=torch.bool)

    clean = passes.logits(live.region.origin, live.context) if attack.loss == "divergence" else None

    def loss(logits: Tensor, rows: slice) -> Tensor:
        if clean is not None:
            return objective.divergence(logits, clean[rows])
        return objective.loss(attack.loss, logits / live.scale[rows].unsqueeze(1), live.goal[rows], live.rival[rows])

    for _ in range(attack.n_steps):
        if attack.uses_gradients:
            logits, losses, grad = passes.gradient(loss, live.x, live.context)
            grad = grad.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        else:
            logits = passes.logits(live.x, live.context)
            losses, grad = loss(logits, slice(None)), torch.zeros_like(live.x)
        broken |= objective.broken(logits, live.goal)
        attack.update(threat, live, losses, grad)
        live.step = live.step + 1
    if judge:
        broken |= objective.broken(passes.logits(live.x, live.context), live.goal)
    return Crafted(live.x.detach(), broken)


@dataclass(frozen=True)
class Random(BaseAttack):
    """A random point of the region, without any search: for training on typing errors, say, and no evidence of anything."""

    name = "random"
    n_steps = 0
    evidence = False

    def begin(self, threat: Threat, live: Live) -> None:
        live.x = threat.start(live.region, live.key)

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        raise AssertionError("it takes no step")
