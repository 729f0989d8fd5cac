"""A small network that has learnt something, its data, and ways to wrap it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor, nn

FEATURES, CLASSES = 12, 5
M = TypeVar("M", bound=nn.Module)


class Wrapped(nn.Module):
    """A network inside a function that calls it."""

    def __init__(self, inner: nn.Module, function: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.function = inner, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.inner, x)


def seeded(build: Callable[[], M], seed: int = 0) -> M:
    """``build()`` with weights that depend on the seed alone, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().eval()


def blobs(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points of five classes in [0, 1]^12 around fixed centres."""
    centres = torch.rand(CLASSES, FEATURES, generator=torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (n,), generator=generator)
    x = centres[labels] + 0.18 * torch.randn(n, FEATURES, generator=generator)
    return x.clamp(0, 1), labels


def _perceptron() -> nn.Sequential:
    layers = (nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, CLASSES))
    return nn.Sequential(*layers)


@lru_cache(maxsize=1)
def trained() -> nn.Sequential:
    """A network of two hidden layers that tells the blobs apart, in eval mode."""
    model = seeded(_perceptron)
    _fit(model, *blobs(600, seed=1), steps=150, lr=1e-2)
    return model


def _fit(model: nn.Module, x: Tensor, y: Tensor, *, steps: int, lr: float) -> None:
    """Adam (Kingma and Ba, ICLR 2015), algorithm 1, to the bit as ``torch.optim`` computes it.

    That imports torch's compiler on its first step: for more than a second, in each process of a self-check.
    """
    weights = list(model.parameters())
    first, second = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    for step in range(1, steps + 1):
        gradients = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), weights)
        with torch.no_grad():
            for weight, gradient, mean, square in zip(weights, gradients, first, second, strict=True):
                mean.lerp_(gradient, 1 - 0.9)
                square.mul_(0.999).addcmul_(gradient, gradient, value=1 - 0.999)
                scale = (square.sqrt() / (1 - 0.999**step) ** 0.5).add_(1e-8)
                weight.addcdiv_(mean, scale, value=-lr / (1 - 0.9**step))
