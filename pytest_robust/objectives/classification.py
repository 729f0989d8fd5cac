"""L for classifiers: what counts as broken, and the losses that drive towards it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_robust.errors import PreflightError

_TEMPERATURE = 10.0
"""Spread of the scaled logits in the cross-entropy: steep enough to be more than the margin, never saturated."""


@dataclass(frozen=True)
class Untargeted:
    """Broken when any other class is predicted."""

    @property
    def name(self) -> str:
        return "untargeted"

    def goal(self, labels: Tensor) -> Tensor:
        """(B,) the class that the attack is about: here the label, to be left."""
        return labels

    def attackable(self, labels: Tensor) -> Tensor:
        """(B,) bool: examples at which the attack has something to do."""
        return torch.ones_like(labels, dtype=torch.bool)

    def broken(self, logits: Tensor, goal: Tensor) -> Tensor:
        """(B,) bool. Among equal logits the first class is the prediction, as ``argmax`` has it."""
        return logits.argmax(1) != goal

    def margin(self, logits: Tensor, goal: Tensor) -> Tensor:
        """(B,) how far the prediction is beyond the decision boundary; negative where it still stands."""
        return margin(logits, goal, goal)

    def rivals(self, logits: Tensor, goal: Tensor, most: int) -> Tensor:
        """(B, R) the other classes, most likely first, at most ``most``."""
        others = logits.scatter(1, goal.unsqueeze(1), -torch.inf)
        return others.argsort(dim=1, descending=True, stable=True)[:, : min(most, logits.shape[1] - 1)]

    def divergence(self, logits: Tensor, clean: Tensor) -> Tensor:
        """(B,) how far the predicted distribution is from the clean one."""
        return divergence(logits, clean)

    def loss(self, name: str, logits: Tensor, goal: Tensor, rival: Tensor) -> Tensor:
        """(B,) losses to be maximised, of the kind ``name`` (see ``LOSSES``), towards ``rival`` where it has a target."""
        return LOSSES[name](logits, goal, rival)


@dataclass(frozen=True)
class Targeted:
    """Broken when the class ``target`` is predicted. Examples of that class are left out.

    Attributes:
        target: the class to reach.
    """

    target: int

    def __post_init__(self) -> None:
        if self.target < 0:
            raise PreflightError(f"the target must be a class number, got {self.target}")

    @property
    def name(self) -> str:
        return f"targeted at {self.target}"

    def goal(self, labels: Tensor) -> Tensor:
        """(B,) the class that the attack is about: here the target, to be reached."""
        return torch.full_like(labels, self.target)

    def attackable(self, labels: Tensor) -> Tensor:
        """(B,) bool: examples that do not belong to the target already."""
        return labels != self.target

    def broken(self, logits: Tensor, goal: Tensor) -> Tensor:
        """(B,) bool."""
        return logits.argmax(1) == goal

    def margin(self, logits: Tensor, goal: Tensor) -> Tensor:
        """(B,) how far the target is beyond the other classes; negative while it is not reached."""
        return -margin(logits, goal, goal)

    def rivals(self, logits: Tensor, goal: Tensor, most: int) -> Tensor:
        """(B, 1): the target itself, there is nowhere else to go."""
        if self.target >= logits.shape[1]:
            raise PreflightError(f"the target is class {self.target}, and the model has classes 0 to {logits.shape[1] - 1}")
        return goal.unsqueeze(1)

    def divergence(self, logits: Tensor, clean: Tensor) -> Tensor:
        """(B,) how far the predicted distribution is from the clean one."""
        return divergence(logits, clean)

    def loss(self, name: str, logits: Tensor, goal: Tensor, rival: Tensor) -> Tensor:
        """(B,) losses to be maximised: every loss that leaves a class reaches it with the sign turned."""
        base = name.removesuffix("-t")
        return -LOSSES[base](logits, goal, rival)


def _others(logits: Tensor, goal: Tensor) -> Tensor:
    """(B,) the largest logit of any other class."""
    return logits.scatter(1, goal.unsqueeze(1), -torch.inf).amax(1)


def _of(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(1, classes.unsqueeze(1)).squeeze(1)


def cross_entropy(logits: Tensor, goal: Tensor, rival: Tensor) -> Tensor:
    """Cross-entropy of the goal, on logits sharpened to a fixed spread (Madry et al., ICLR 2018)."""
    return torch.nn.functional.cross_entropy(_TEMPERATURE * logits, goal, reduction="none")


def margin(logits: Tensor, goal: Tensor, rival: Tensor) -> Tensor:
    """max_{j != y} z_j - z_y, positive when broken (Carlini and Wagner, S&P 2017)."""
    return _others(logits, goal) - _of(logits, goal)


def margin_towards(logits: Tensor, goal: Tensor, rival: Tensor) -> Tensor:
    """z_t - z_y: the margin towards one rival."""
    return _of(logits, rival) - _of(logits, goal)


def lead(logits: Tensor) -> Tensor:
    """(B,) by how much the largest logit leads the next; 0 where the prediction is a tie."""
    best = logits.topk(2, dim=1).values
    return best[:, 0] - best[:, 1]


def dlr(logits: Tensor, goal: Tensor, rival: Tensor) -> Tensor:
    """Difference of logits ratio (Croce and Hein, ICML 2020, eq. 6): the margin over z_(1) - z_(3).

    With two classes there is no third logit and the ratio would be constant: the margin stands in.
    """
    if logits.shape[1] < 3:
        return margin(logits, goal, rival)
    top = logits.topk(3, dim=1).values
    return margin(logits, goal, rival) / _positive(top[:, 0] - top[:, 2])


def dlr_towards(logits: Tensor, goal: Tensor, rival: Tensor) -> Tensor:
    """Targeted DLR (Croce and Hein, ICML 2020, eq. 7): over z_(1) - (z_(3) + z_(4)) / 2.

    With three classes z_(3) stands for the mean, with two the margin for the ratio.
    """
    if logits.shape[1] < 3:
        return margin_towards(logits, goal, rival)
    top = logits.topk(min(4, logits.shape[1]), dim=1).values
    return margin_towards(logits, goal, rival) / _positive(top[:, 0] - top[:, 2:].mean(1))


def divergence(logits: Tensor, clean: Tensor) -> Tensor:
    """(B,) Kullback-Leibler divergence from the clean distribution. Logits of spread one are far from saturation."""
    of, to = (torch.log_softmax(z.to(logits.dtype), dim=1) for z in (clean, logits))
    return torch.nn.functional.kl_div(to, of, log_target=True, reduction="none").sum(1)


def _positive(scale: Tensor) -> Tensor:
    return scale.clamp_min(1e-12)


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {
    "ce": cross_entropy,
    "margin": margin,
    "dlr": dlr,
    "margin-t": margin_towards,
    "dlr-t": dlr_towards,
}
"""Losses of (logits (B, C), goal (B,), rival (B,)); those ending in ``-t`` drive towards the rival."""
