"""The losses that the weights are moved by, each of what is right and of what an attack found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax, one_hot, softmax

Loss = Callable[[Tensor, Tensor], Tensor]
"""From logits (B, C) and labels, (B,) or soft (B, C), to (B,)."""


@dataclass(frozen=True)
class Outer:
    """Attributes:
    loss: (B,) of clean logits, adversarial logits, labels, and the loss of one of the two. needs_clean: whether it looks at
        clean logits; else they are empty. beta: the weight of its second term where the user names none.
    """

    loss: Callable[[Tensor, Tensor, Tensor, Loss, float], Tensor]
    needs_clean: bool = False
    beta: float = 1.0


def usual(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) cross-entropy."""
    return cross_entropy(logits, labels, reduction="none")


def _adversarial(clean: Tensor, adversarial: Tensor, labels: Tensor, loss: Loss, beta: float) -> Tensor:
    """The loss at the adversarial example (Madry et al., ICLR 2018, eq. 2.1)."""
    return loss(adversarial, labels)


def _trades(clean: Tensor, adversarial: Tensor, labels: Tensor, loss: Loss, beta: float) -> Tensor:
    """The clean loss and beta times the divergence of the adversarial prediction (Zhang et al., ICML 2019, eq. 5)."""
    return loss(clean, labels) + beta * _divergence(clean, adversarial)


def _mart(clean: Tensor, adversarial: Tensor, labels: Tensor, loss: Loss, beta: float) -> Tensor:
    """Boosted cross-entropy, and the divergence where the clean prediction is unsure (Wang et al., ICLR 2020, eq. 8-11)."""
    truth = _soft(labels, adversarial)
    rival = (softmax(adversarial, 1) * (1 - truth)).argmax(1, keepdim=True)
    # log(1 - p) of the rival as the sum of the others: exact where the model is sure of it, too.
    rest = adversarial.scatter(1, rival, -torch.inf).logsumexp(1) - adversarial.logsumexp(1)
    boosted = loss(adversarial, labels) - rest
    sure = (softmax(clean, 1) * truth).sum(1)
    return boosted + beta * _divergence(clean, adversarial) * (1 - sure)


def _consistent(clean: Tensor, adversarial: Tensor, labels: Tensor, loss: Loss, beta: float) -> Tensor:
    """The clean loss, the adversarial one, and beta times the symmetric divergence of both predictions (SMART, Jiang et al.,
    ACL 2020, eq. 3).
    """
    both = _divergence(clean, adversarial) + _divergence(adversarial, clean)
    return loss(clean, labels) + loss(adversarial, labels) + beta * both


def _divergence(of: Tensor, to: Tensor) -> Tensor:
    """(B,) Kullback-Leibler divergence from the prediction ``of`` to the prediction ``to``."""
    return kl_div(log_softmax(to, 1), log_softmax(of, 1), log_target=True, reduction="none").sum(1)


def _soft(labels: Tensor, logits: Tensor) -> Tensor:
    """(B, C) labels as distributions."""
    return labels.to(logits.dtype) if labels.ndim == 2 else one_hot(labels, logits.shape[1]).to(logits.dtype)


OUTERS: dict[str, Outer] = {
    "ce": Outer(_adversarial),
    "trades": Outer(_trades, needs_clean=True, beta=6.0),
    "mart": Outer(_mart, needs_clean=True, beta=5.0),
    "consistency": Outer(_consistent, needs_clean=True),
}
"""By name."""
