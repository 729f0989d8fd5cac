"""Models that only look robust: a network behind wrappers that fool attacks by gradient.

Each wrapper leaves the decisions of the network (nearly) as they are, and hides, distorts or randomises its gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from pytest_robust.errors import PreflightError
from pytest_robust.evaluation import evaluate
from pytest_robust.threats import Threat

Function = Callable[[Tensor], Tensor]
Wrapper = Callable[[nn.Module, Tensor], Tensor]


class Backward(torch.autograd.Function):
    """The identity, with another gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, change: Function) -> Tensor:
        ctx.change = change
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.change(grads[0]), None


def _behind(change: Function) -> Wrapper:
    return lambda model, x: model(Backward.apply(x, change))  # type: ignore[no-untyped-call]


def _alternating(grad: Tensor) -> Tensor:
    """Every other feature has the wrong sign."""
    signs = 1.0 - 2.0 * (torch.arange(grad[0].numel(), device=grad.device) % 2)
    return grad * signs.view(grad.shape[1:])


def _side_branch(model: nn.Module, x: Tensor) -> Tensor:
    """Gradients reach the input through a small linear branch only."""
    logits, flat = model(x).detach(), x.flatten(1)
    weights = torch.randn(flat.shape[1], logits.shape[1], generator=torch.Generator().manual_seed(0))
    aside: Tensor = logits + 0.1 * flat @ weights
    return aside


def _first(x: Tensor, share: Fraction, change: Function) -> Tensor:
    """The change made to the first features only."""
    flat = x.flatten(1)
    count = int(share * flat.shape[1])
    return torch.cat([change(flat[:, :count]), flat[:, count:]], 1).view_as(x)


def _quantised(x: Tensor) -> Tensor:
    return (x * 16).round() / 16


def _winners(model: nn.Module, x: Tensor) -> Tensor:
    """k-winners-take-all in place of every ReLU: only the largest tenth of the activations stays."""
    for layer in model.children():
        x = _largest(x) if isinstance(layer, nn.ReLU) else layer(x)
    return x


def _largest(x: Tensor) -> Tensor:
    flat = x.flatten(1)
    least = flat.topk(flat.shape[1] // 10, 1).values[:, -1:]
    return torch.where(flat >= least, flat, 0.0).view_as(x)


def _dropping(model: nn.Module, x: Tensor) -> Tensor:
    """Dropout that knows no eval mode, before the last layer."""
    *first, last = model.children()
    logits: Tensor = last(nn.functional.dropout(nn.Sequential(*first)(x), 0.3))
    return logits


class InTraining(nn.Module):
    """A last layer that is in training mode, whatever the rest is in."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def train(self, mode: bool = True) -> InTraining:
        return super().train()

    def forward(self, model: nn.Module, x: Tensor) -> Tensor:
        logits: Tensor = self.layer(model(x))
        return logits


def _batch_norm() -> nn.Module:
    """Over all logits as one channel, however many classes there are."""
    return nn.Sequential(nn.Unflatten(1, (1, -1)), nn.BatchNorm1d(1), nn.Flatten())


def _one_hot(model: nn.Module, x: Tensor) -> Tensor:
    logits = model(x)
    return nn.functional.one_hot(logits.argmax(1), logits.shape[1]).float()


WRAPPERS: dict[str, tuple[Wrapper, str]] = {
    "killed gradients": (_behind(torch.zeros_like), "gradient"),
    "flipped gradients": (_behind(torch.neg), "slope"),
    "random gradients": (_behind(torch.randn_like), "slope"),
    "alternating signs": (_behind(_alternating), "black-box"),
    "shattered gradients": (lambda model, x: model(x + 0.01 * torch.sin(500 * x)), "slope"),
    "finely shattered": (lambda model, x: model(x + 0.01 * torch.sin(5000 * x)), "slope"),
    "linear side branch": (_side_branch, "black-box"),
    "quantised input": (lambda model, x: model(_quantised(x)), "gradient"),
    "partly quantised": (lambda model, x: model(_first(x, Fraction(7, 8), _quantised)), "cut-off"),
    "partly detached": (lambda model, x: model(_first(x, Fraction(1, 4), Tensor.detach)), "cut-off"),
    "rounded logits": (lambda model, x: model(x).round(), "gradient"),
    "one-hot output": (_one_hot, "probabilities"),
    "softmax output": (lambda model, x: model(x).softmax(1), "probabilities"),
    "k winners take all": (_winners, "slope"),
    "dropout left on": (_dropping, "determinism"),
    "Dropout in training": (InTraining(nn.Dropout(0.1)), "mode"),
    "BatchNorm in training": (InTraining(_batch_norm()), "mode"),
    "noise": (lambda model, x: model(x + 0.05 * torch.randn_like(x)), "determinism"),
    "batch statistics": (lambda model, x: model(x) - 0.3 * model(x).mean(0, keepdim=True), "batch-independence"),
}
"""By name: what is done, and the finding that must say so."""


@dataclass(frozen=True)
class Judgement:
    """What an evaluation made of a model: ``pass``, ``fail``, or ``refused`` by the preflight; and the findings against it.

    Attributes:
        accuracy: robust accuracy as reported, None where it was refused.
    """

    verdict: str
    accuracy: float | None
    findings: tuple[str, ...]

    @property
    def cells(self) -> tuple[str, str, str]:
        """As cells of a table: verdict, robust accuracy in percent, findings."""
        accuracy = "-" if self.accuracy is None else f"{100 * self.accuracy:.1f}"
        return self.verdict, accuracy, ", ".join(self.findings) or "-"


def judged(
    model: nn.Module, data: tuple[Tensor, Tensor], threat: Threat, profile: str, floor: float | Fraction
) -> Judgement:
    """Evaluate every example of the data against this floor, to a thousandth."""
    try:
        # Without the floor: a miss that is certain early would need no findings.
        result = evaluate(model, data, threat, profile=profile, device="cpu")
    except PreflightError as error:
        return Judgement("refused", None, (str(error).split(":")[0],))
    findings = tuple(check.name for check in result.health.checks if check.level != "trusted")
    result = replace(result, floor=Fraction(floor).limit_denominator(1000))
    return Judgement(result.verdict, float(result.accuracy), findings)
