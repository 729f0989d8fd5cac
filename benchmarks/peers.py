"""Attacks of other libraries behind one signature, for comparison. Each library is optional."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Attack = Callable[[Tensor, Tensor], Tensor]
"""From inputs in [0, 1] and labels to adversarial inputs."""


_CLASSES = 10
"""Outputs of every model that is compared: some libraries must be told."""


@dataclass(frozen=True)
class Peer:
    """One attack of one library, with the library's own defaults for all that is not named here.

    Attributes:
        package: its name on PyPI. module: what to import. kind: ``"pgd"`` for plain PGD with a fixed number of steps.
        norms: those it is made for. make: from the module, model, norm, eps and number of steps to the attack.
    """

    name: str
    package: str
    module: str
    kind: str
    norms: tuple[str, ...]
    make: Callable[[Any, nn.Module, str, float, int], Attack]

    @property
    def installed(self) -> str | None:
        """The library's version, None where it is not installed."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None

    def attack(self, model: nn.Module, norm: str, eps: float, steps: int) -> Attack:
        """The attack from a random start in steps of 2.5 eps / steps; ImportError where the library cannot be imported."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old libraries, today's Python: not what is measured here
            return self.make(import_module(self.module), model, norm, eps, steps)


def _step(eps: float, steps: int) -> float:
    return 2.5 * eps / steps


def _torchattacks_pgd(lib: Any, model: nn.Module, norm: str, eps: float, steps: int) -> Attack:
    kind = {"linf": lib.PGD, "l2": lib.PGDL2}[norm]
    attack: Attack = kind(model, eps=eps, alpha=_step(eps, steps), steps=steps, random_start=True)
    return attack


def _torchattacks_apgdt(lib: Any, model: nn.Module, norm: str, eps: float, steps: int) -> Attack:
    attack: Attack = lib.APGDT(model, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, steps=steps, n_classes=_CLASSES)
    return attack


def _foolbox_pgd(lib: Any, model: nn.Module, norm: str, eps: float, steps: int) -> Attack:
    wrapped = lib.PyTorchModel(model, bounds=(0, 1), device="cpu")
    kind = getattr(lib.attacks, f"{norm.capitalize()}ProjectedGradientDescentAttack")
    attack = kind(abs_stepsize=_step(eps, steps), steps=steps, random_start=True)

    def run(x: Tensor, y: Tensor) -> Tensor:
        clipped: Tensor = attack(wrapped, x, y, epsilons=eps)[1]
        return clipped

    return run


def _art(model: nn.Module, x: Tensor) -> Any:
    classifier = import_module("art.estimators.classification").PyTorchClassifier
    return classifier(model, nn.CrossEntropyLoss(), tuple(x.shape[1:]), _CLASSES, clip_values=(0.0, 1.0), device_type="cpu")


def _art_attack(lib: Any, model: nn.Module, norm: str, eps: float, steps: int, kind: str, **more: object) -> Attack:
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]

    def run(x: Tensor, y: Tensor) -> Tensor:
        attack = getattr(lib, kind)(
            _art(model, x), norm=order, eps=eps, max_iter=steps, batch_size=len(x), verbose=False, **more
        )
        return torch.from_numpy(attack.generate(x.numpy(), y.numpy()))

    return run


def _art_pgd(lib: Any, model: nn.Module, norm: str, eps: float, steps: int) -> Attack:
    more = {"eps_step": _step(eps, steps), "num_random_init": 1}
    return _art_attack(lib, model, norm, eps, steps, "ProjectedGradientDescentPyTorch", **more)


def _art_apgd(lib: Any, model: nn.Module, norm: str, eps: float, steps: int) -> Attack:
    more = {"eps_step": 2 * eps, "nb_random_init": 1, "loss_type": "cross_entropy"}
    return _art_attack(lib, model, norm, eps, steps, "AutoProjectedGradientDescent", **more)


def _cleverhans_pgd(lib: Any, model: nn.Module, norm: str, eps: float, steps: int) -> Attack:
    order = {"linf": np.inf, "l2": 2}[norm]

    def run(x: Tensor, y: Tensor) -> Tensor:
        moved: Tensor = lib.projected_gradient_descent(
            model, x, eps, _step(eps, steps), steps, order, clip_min=0.0, clip_max=1.0, y=y
        )
        return moved.detach()

    return run


_ART = ("adversarial-robustness-toolbox", "art.attacks.evasion")
_CLEVERHANS = ("cleverhans", "cleverhans.torch.attacks.projected_gradient_descent")
PEERS = (
    Peer("torchattacks PGD", "torchattacks", "torchattacks", "pgd", ("linf", "l2"), _torchattacks_pgd),
    Peer("torchattacks APGD-T", "torchattacks", "torchattacks", "best", ("linf", "l2"), _torchattacks_apgdt),
    Peer("Foolbox PGD", "foolbox", "foolbox", "pgd", ("linf", "l2", "l1"), _foolbox_pgd),
    Peer("ART PGD", *_ART, "pgd", ("linf", "l2", "l1"), _art_pgd),
    Peer("ART APGD-CE", *_ART, "best", ("linf", "l2", "l1"), _art_apgd),
    Peer("CleverHans PGD", *_CLEVERHANS, "pgd", ("linf", "l2"), _cleverhans_pgd),
)


def chosen(kinds: tuple[str, ...] = ("pgd", "best")) -> tuple[list[Peer], str]:
    """The installed peers of these kinds, and a line that says which libraries were compared and which are missing."""
    wanted = [peer for peer in PEERS if peer.kind in kinds]
    packages = dict.fromkeys((peer.package, peer.installed) for peer in wanted)
    line = ", ".join(f"{package} {found or 'not installed'}" for package, found in packages)
    return [peer for peer in wanted if peer.installed], line
