"""Adversarial training at equal compute: pytest_robust.retrain, a plain Madry loop, and ART's adversarial trainers.

Every trainer starts from the same standard network, sees the same images, and stops after as many passes, forward and
backward together, as retrain took, its looks at validation examples included; they are counted inside the network. All
are judged on the same test images, by the profile ``release``. "retrain, half" has half the epochs. The others have three
learning rates, of which the best is shown. "x epoch" is the cost in epochs of standard training. Exit status 1 when a
trainer with as many passes is more robust than "retrain", or as robust and right on more images without attack.

The digits are those of scikit-learn, under Linf 0.15; with --zoo also mnist_advertorch_std of that folder (see zoo.py),
under Linf 0.2: 700 images to train on, 300 to test on.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import digits, quiet, show, train
from logit_scale import network
from torch import Tensor, nn
from zoo import zoo_of

from pytest_robust import Linf, evaluate, retrain
from pytest_robust.conformance.networks import seeded

Data = tuple[Tensor, Tensor]


class OutOfPassesError(Exception):
    """The passes are spent."""


class Counted(nn.Module):
    """A network that counts its passes, and ends the training when they are spent.

    Attributes:
        spent: forward and backward passes so far, one per example. most: the limit.
    """

    def __init__(self, inner: nn.Module, most: float) -> None:
        super().__init__()
        self.inner, self.most, self.spent = inner, most, 0

    def forward(self, x: Tensor) -> Tensor:
        if self.spent >= self.most:
            raise OutOfPassesError
        self.spent += len(x)
        out: Tensor = self.inner(x)
        if out.requires_grad:
            out.register_hook(self._backward)
        return out

    def _backward(self, grad: Tensor) -> None:
        self.spent += len(grad)


@dataclass(frozen=True)
class Task:
    """Attributes: model: the standard network. eps: of Linf. epoch: passes of an epoch of standard training."""

    name: str
    model: nn.Module
    train: Data
    test: Data
    eps: float

    @property
    def epoch(self) -> int:
        return 2 * len(self.train[1])


Trainer = Callable[[Counted, Task, float], None]
"""Trains for ever, with this learning rate."""
RATES = (0.1, 0.03, 0.01)
"""Tried for every other trainer: the one whose network is most robust on the test images is shown, in its favour."""


def batches(task: Task, size: int = 64) -> Iterator[Data]:
    """The training images for ever, in a new order each epoch."""
    generator = torch.Generator().manual_seed(0)
    x, y = task.train
    while True:
        for rows in torch.randperm(len(y), generator=generator).split(size):
            yield x[rows], y[rows]


def madry(model: Counted, task: Task, lr: float) -> None:
    """Adversarial training as in Madry et al., ICLR 2018: PGD of seven steps of eps / 4, with SGD and its usual settings,
    the learning rate falling linearly.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
    generator = torch.Generator().manual_seed(0)
    for x, y in batches(task):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - model.spent / model.most)
        model.eval()
        moved = x + task.eps * (2 * torch.rand(x.shape, generator=generator) - 1)
        for _ in range(7):
            moved = moved.clamp(0, 1).detach().requires_grad_()
            (grad,) = torch.autograd.grad(nn.functional.cross_entropy(model(moved), y), moved)
            moved = (moved + task.eps / 4 * grad.sign()).clamp(x - task.eps, x + task.eps)
        model.train()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(moved.clamp(0, 1).detach()), y).backward()
        optimizer.step()


def _art(model: Counted, task: Task, lr: float) -> Any:
    classifier = import_module("art.estimators.classification").PyTorchClassifier
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
    shape = tuple(task.train[0].shape[1:])
    return classifier(
        model, nn.CrossEntropyLoss(), shape, 10, optimizer=optimizer, clip_values=(0.0, 1.0), device_type="cpu"
    )


def art_adversarial_trainer(model: Counted, task: Task, lr: float) -> None:
    """ART's AdversarialTrainer with PGD of seven steps, all images attacked (ratio 1)."""
    classifier = _art(model, task, lr)
    attacks, trainers = import_module("art.attacks.evasion"), import_module("art.defences.trainer")
    attack = attacks.ProjectedGradientDescentPyTorch(
        classifier, eps=task.eps, eps_step=task.eps / 4, max_iter=7, num_random_init=1, batch_size=64, verbose=False
    )
    x, y = task.train
    trainers.AdversarialTrainer(classifier, attack, ratio=1.0).fit(x.numpy(), y.numpy(), batch_size=64, nb_epochs=1000)


def art_madry(model: Counted, task: Task, lr: float) -> None:
    """ART's AdversarialTrainerMadryPGD, seven steps."""
    classifier = _art(model, task, lr)
    trainers = import_module("art.defences.trainer")
    x, y = task.train
    trainer = trainers.AdversarialTrainerMadryPGD(
        classifier, nb_epochs=1000, batch_size=64, eps=task.eps, eps_step=task.eps / 4, max_iter=7
    )
    trainer.fit(x.numpy(), np.eye(10, dtype=np.float32)[y.numpy()])


OTHERS: dict[str, Trainer] = {"plain Madry loop": madry}
ART: dict[str, Trainer] = {"ART AdversarialTrainer": art_adversarial_trainer, "ART MadryPGD": art_madry}


def digits_task() -> Task:
    (x, y), test = digits()
    return Task("digits", train(seeded(network), x, y, epochs=15), (x, y), test, 0.15)


def zoo_task(folder: Path) -> Task:
    """The standard MNIST network of the zoo, on the images that its folder has."""
    module, name = zoo_of(folder), "mnist_advertorch_std"
    with np.load(folder / "mnist.npz") as data:
        x, y = torch.from_numpy(data["images"]).float() / 255, torch.from_numpy(data["labels"]).long()
    return Task(name, module.load(name).model, (x[:700], y[:700]), (x[700:], y[700:]), 0.2)


def trained_until(trainer: Trainer, task: Task, lr: float, most: float) -> tuple[nn.Module, int]:
    """The network that the trainer makes of the task's with so many passes, and how many it took."""
    counted = Counted(copy.deepcopy(task.model).requires_grad_(True), most)
    # ART takes neither a seed nor a generator.
    torch.manual_seed(0)
    np.random.seed(0)
    with contextlib.suppress(OutOfPassesError):
        trainer(counted, task, lr)
    return counted.inner.eval().requires_grad_(False), counted.spent


def judged(task: Task, model: nn.Module) -> tuple[int, int]:
    """How many test images survive the profile ``release``, and how many are right without attack."""
    x, y = task.test
    with torch.no_grad():
        predicted = model(x).argmax(1)
    if len(predicted.unique()) == 1:  # a training that came to nothing
        return 0, int((predicted == y).sum())
    result = evaluate(model, task.test, Linf(task.eps), profile="release", device="cpu")
    return result.accuracy.k, result.clean_accuracy.k


def compared(task: Task, *, art: bool) -> tuple[list[list[str]], bool]:
    """The rows of a task, and whether retrain is ahead."""
    n, rows = len(task.test[1]), []

    def add(name: str, found: tuple[int, int], passes: int, seconds: float) -> None:
        shares = [f"{100 * k / n:.1f}%" for k in reversed(found)]
        rows.append([task.name, name, *shares, f"{passes / task.epoch:.0f}", f"{seconds:.0f}"])

    add("as it was", judged(task, task.model), 0, 0.0)
    epochs, ours, whole = None, (0, 0), 0
    for name in ("retrain", "retrain, half"):
        began = time.process_time()
        made = retrain(task.model, task.train, Linf(task.eps), epochs=epochs, device="cpu")
        seconds, spent = time.process_time() - began, made.cost.forward + made.cost.backward
        found = judged(task, made.model)
        if epochs is None:
            ours, whole, epochs = found, spent, made.recipe.epochs // 2
        add(name, found, spent, seconds)
    ahead = True
    for name, trainer in {**OTHERS, **(ART if art else {})}.items():
        best: tuple[tuple[int, int], float, int, float] = ((-1, 0), 0.0, 0, 0.0)
        for lr in RATES:
            began = time.process_time()
            model, spent = trained_until(trainer, task, lr, whole)
            seconds = time.process_time() - began
            best = max(best, (judged(task, model), lr, spent, seconds))
        found, lr, spent, seconds = best
        ahead = ahead and found <= ours
        add(f"{name}, lr {lr:g}", found, spent, seconds)
    return rows, ahead


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, help="folder with zoo.py and mnist.npz")
    args = parser.parse_args(argv)
    quiet()
    art = find_spec("art") is not None
    rows, ahead = [], True
    for task in [digits_task(), *([] if args.zoo is None else [zoo_task(args.zoo)])]:
        more, best = compared(task, art=art)
        rows, ahead = rows + more, ahead and best
    headers = ["task", "trainer", "clean", "robust", "x epoch", "CPU s"]
    show(rows, headers, f"ART {version('adversarial-robustness-toolbox') if art else 'not installed: left out'}")
    return int(not ahead)


if __name__ == "__main__":
    raise SystemExit(main())
