"""How to retrain: the methods by name, and what stands for "auto"."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from pytest_robust.attacks import FGSM, PGD, Attack, HotFlip
from pytest_robust.retraining.crafting import NFGSM, Random
from pytest_robust.retraining.outer import OUTERS
from pytest_robust.threats import Threat

OptimizerFactory = Callable[[Iterable[Any]], torch.optim.Optimizer]
SchedulerFactory = Callable[[torch.optim.Optimizer], LRScheduler]

_WIDTH = 0.03
"""Over the dimension of a transformer: its learning rate. 4e-5 for 768, what such models are fine-tuned with."""
_UPDATES = 1000
"""At least so many where the user names no epochs: small data needs more of them."""


@dataclass(frozen=True)
class Method:
    """One way of adversarial training.

    Attributes:
        attack: what finds the points to train on. outer: the loss at them, see ``OUTERS``.
        replays: 0: the points are found first, in eval mode. Else so many steps of the attack share their backward passes
            with the weights: ``accumulate`` their gradients to one update, or update at each.
        epochs: where the user names no number.
    """

    attack: Attack
    outer: str = "ce"
    replays: int = 0
    accumulate: bool = False
    epochs: int = 10


_PGD7 = PGD("ce", n_steps=7, step_size=0.25)
_PGD10 = PGD("ce", n_steps=10, step_size=0.25)
METHODS: dict[str, Method] = {
    "nfgsm": Method(NFGSM(), epochs=20),
    "pgd2": Method(PGD("ce", n_steps=2, step_size=0.75)),
    "pgd": Method(_PGD7),
    "trades": Method(PGD("divergence", n_steps=10, step_size=0.25), "trades"),
    "mart": Method(_PGD10, "mart"),
    "free": Method(PGD("ce", n_steps=4, step_size=1.0), replays=4, epochs=5),
    "freelb": Method(PGD("ce", n_steps=3, step_size=0.5), replays=3, accumulate=True),
    "consistency": Method(PGD("ce", n_steps=2, step_size=0.75), "consistency"),
    "typos": Method(Random(), "consistency"),
    "hotflip": Method(FGSM("ce"), "consistency"),
}
"""By name. Madry et al. 2018 (``pgd``), de Jorge et al. 2022 (``nfgsm``), Zhang et al. 2019 (``trades``), Wang et al. 2020
(``mart``), Shafahi et al. 2019 (``free``), Zhu et al. 2020 (``freelb``). ``consistency``: what is right and what PGD found
are to be judged alike. ``typos`` and ``hotflip``: the same of random edits, and of those that the gradient foretells."""

WEAK, STRONGER = ("nfgsm", "pgd2", "free"), "pgd"
"""Methods whose attack may go blind, and what then takes over."""


def method_for(name: str, threat: Threat) -> tuple[str, Method]:
    """The method of this name; for ``"auto"`` the cheapest that is known to work for the threat.

    Raises:
        ValueError: no such method, or not one for this threat.
    """
    edits = threat.terrain == "edits"
    if name == "auto":
        name = "typos" if edits else "nfgsm" if threat.norm == "linf" and threat.space == "input" else "pgd2"
    if name not in METHODS:
        raise ValueError(f"no method is called {name!r}; there is: auto, {', '.join(METHODS)}")
    if edits != (name in ("typos", "hotflip")):
        fitting = ", ".join(method for method in METHODS if edits == (method in ("typos", "hotflip")))
        raise ValueError(f"method {name!r} is not for {threat.norm} {threat.budget}; for that there is: {fitting}")
    if threat.terrain in ("few", "single"):
        raise ValueError(
            f"{threat.norm} cannot be trained against: it has no gradient to follow, and no random edits; augment the "
            "training data with it instead"
        )
    return name, METHODS[name]


def judge_of(threat: Threat) -> Attack:
    """The attack of the validation: ten steps of PGD, or the edits that a gradient foretells, tried one by one."""
    return HotFlip("margin", n_steps=10) if threat.terrain == "edits" else PGD("margin", n_steps=10, step_size=0.25)


@dataclass(frozen=True)
class Recipe:
    """What decides the outcome of a training, beside model, data and threat.

    Attributes:
        method: its name. epochs, batch_size, seed: of the training.
        lr: the highest learning rate; None with an optimizer of the user's, which has its own.
        beta: weight of the second term of the loss. awp: size of adversarial weight perturbations, 0 for none.
        ema_decay: of the running average of weights. eps_warmup: share of the steps in which the budget rises from 0.
        max_clean_drop: accuracy without attack that may be lost on the validation examples.
        autocast: the update in bfloat16.
    """

    method: str
    epochs: int
    batch_size: int
    seed: int
    lr: float | None
    beta: float
    awp: float
    ema_decay: float
    eps_warmup: float
    max_clean_drop: float
    autocast: bool

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def share(self, step: int, steps: int) -> float:
        """Of the budget, at a step (from 0) of so many: 0 at first, then rising evenly, then all of it.

        A standard model that meets the whole budget at once unlearns what it knows ("Robust fine-tuning from non-robust
        pretrained models", arXiv 2509.23325).
        """
        warm = self.eps_warmup * steps
        return 1.0 if step >= warm else step / warm

    def lr_share(self, step: int, steps: int) -> float:
        """Of the learning rate: rising evenly over a fifth of the steps, then falling evenly to 0."""
        warm = max(1.0, 0.2 * steps)
        return min((step + 1) / warm, max(0.0, (steps - step) / max(1.0, steps - warm)))


def usual_optimizer(module: nn.Module, lr: float | None, width: int | None) -> tuple[torch.optim.Optimizer, float]:
    """The optimizer for the module's kind, and its learning rate: AdamW for transformers, else SGD with Nesterov momentum.
    Biases and scales of normalisation do not decay.

    Args:
        width: of a transformer, the dimension of its hidden states; None: it is none.
    """
    decaying = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in module.parameters() if p.requires_grad and p.ndim <= 1]

    def groups(decay: float) -> list[dict[str, Any]]:
        parts = ((decaying, decay), (others, 0.0))
        return [{"params": params, "weight_decay": by} for params, by in parts if params]

    if width is None:
        lr = 0.05 if lr is None else lr
        return torch.optim.SGD(groups(5e-4), lr, momentum=0.9, nesterov=True), lr
    lr = min(1e-3, _WIDTH / width) if lr is None else lr
    return torch.optim.AdamW(groups(0.01), lr), lr


def usual_epochs(method: Method, batches: int) -> int:
    """The method's, or more where an epoch is of few ``batches``."""
    return max(method.epochs, -(-_UPDATES // batches))


def usual_beta(method: Method, beta: float | None) -> float:
    """The user's, else that of the paper."""
    return OUTERS[method.outer].beta if beta is None else float(beta)
