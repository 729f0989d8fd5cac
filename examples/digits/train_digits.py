"""Two small networks for scikit-learn's handwritten digits: one trained as usual, one trained adversarially.

The digits are 8x8 images of 17 grey levels, shipped with scikit-learn. Each network trains in a few seconds on one core.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

EPS = 0.1
"""The largest change of a pixel that the adversarial training prepares for; pixels lie in [0, 1]."""


def load() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Training and test set: images (n, 1, 8, 8) in [0, 1] and labels (n,), 1,297 and 500 of them."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    train, test = train_test_split(range(len(labels)), test_size=500, stratify=labels, random_state=0)
    return (images[train], labels[train]), (images[test], labels[test])


def network() -> nn.Sequential:
    """A convolutional network of 38,000 weights."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def train(
    images: Tensor, labels: Tensor, *, adversarial: bool, epochs: int = 40, model: nn.Sequential | None = None
) -> nn.Sequential:
    """A trained network in eval mode; ``adversarial`` trains it on perturbed images (Madry et al., ICLR 2018).

    Args:
        model: the network to train on; a new one when left out.
    """
    torch.manual_seed(0)
    model = network() if model is None else model
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(64):
            x, y = images[batch], labels[batch]
            if adversarial:
                x = perturb(model, x, y)
            optimiser.zero_grad()
            cross_entropy(model(x), y).backward()
            optimiser.step()
    return model.eval()


def perturb(model: nn.Module, x: Tensor, y: Tensor, steps: int = 5) -> Tensor:
    """``x`` moved by up to ``EPS`` per pixel to where the loss is larger: a few steps along the sign of its gradient."""
    moved = (x + torch.empty_like(x).uniform_(-EPS, EPS)).clamp(0, 1)
    for _ in range(steps):
        moved.requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(model(moved), y), moved)
        moved = moved.detach() + EPS / 2 * gradient.sign()
        moved = torch.min(torch.max(moved, x - EPS), x + EPS).clamp(0, 1)
    return moved.detach()
