"""What is checked: the engine with a profile's attacks, or with one attack in their place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pytest_robust.attacks import Attack
from pytest_robust.conformance.linear import linear_data, linear_model
from pytest_robust.errors import RobustError, ThreatError
from pytest_robust.evaluation import evaluate
from pytest_robust.evaluation.alone import attack_alone
from pytest_robust.evaluation.result import CLEAN
from pytest_robust.evaluation.schedule import PROFILES
from pytest_robust.objectives import Objective
from pytest_robust.threats import NORMS, Threat, make

Flags = npt.NDArray[np.bool_]
_WAIVED = dict.fromkeys(("chance", "one-class"), "a random model of the self-check")


class NoNormError(RobustError):
    """The attack can do none of the norms, so nothing of it can be checked."""


@dataclass(frozen=True)
class Attacked:
    """What is left of the data.

    Attributes:
        correct, standing: (n,) right without attack, and under attack.
        passes: (n,) forward and backward passes of the attacks.
        witnesses: by position, the verified adversarial examples.
    """

    correct: Flags
    standing: Flags
    passes: npt.NDArray[np.int64]
    witnesses: Mapping[int, Tensor]


@dataclass(frozen=True)
class Subject:
    """The engine with a profile, or an attack of a user.

    Attributes:
        name: of the profile or of the attack. new_attack: makes the attack; None for the profile's own.
    """

    name: str
    new_attack: Callable[[], Attack] | None = None

    @property
    def profile(self) -> str:
        return self.name if self.new_attack is None else "standard"

    @property
    def tolerance(self) -> float:
        """How far above the exact robust accuracy the subject may stay: a lone attack is rarely exact."""
        return 0.0 if self.new_attack is None else 0.1

    def attacks(self) -> list[Attack]:
        """The attacks, one after the other."""
        if self.new_attack is None:
            return [step.attack for step in PROFILES[self.profile].steps["smooth"]]
        return [self.new_attack()]

    def attack(
        self,
        model: nn.Module,
        data: tuple[Tensor, Tensor],
        threat: Threat,
        *,
        attacks: list[Attack] | None = None,
        objective: Objective | None = None,
        batch_size: int | None = None,
    ) -> Attacked:
        """Attack all of the data: by the whole engine, or by these attacks and nothing else.

        Args:
            attacks: instead of the subject's own: the same ones, wrapped.

        Raises:
            ThreatError: the attack is not for this threat.
        """
        if attacks is not None or self.new_attack is not None:
            alone = attack_alone(
                model,
                data,
                threat,
                attacks or self.attacks(),
                objective=objective,
                batch_size=batch_size,
                waive=_WAIVED,
                device="cpu",
            )
            correct = np.array([by != CLEAN for by in alone.broken_by])
            standing = np.array([by is None for by in alone.broken_by])
            return Attacked(correct, standing, alone.passes, alone.witnesses)
        result = evaluate(
            model,
            data,
            threat,
            objective=objective,
            profile=self.profile,
            batch_size=batch_size,
            waive=_WAIVED,
            device="cpu",
        )
        return Attacked(result.correct, result.robust, result.passes, result.witnesses)

    @cached_property
    def norms(self) -> tuple[str, ...]:
        """The norms for which the attack raises no ThreatError.

        Raises:
            NoNormError: there is none.
        """
        if self.new_attack is None:
            return NORMS
        refusals = {norm: self.refusal(norm) for norm in NORMS}
        if all(refusals.values()):
            said = "; ".join(f"{norm}: {refusal}" for norm, refusal in refusals.items())
            raise NoNormError(f"the attack raises ThreatError for every norm, so nothing of it can be checked; {said}")
        return tuple(norm for norm, refusal in refusals.items() if refusal is None)

    def refusal(self, norm: str) -> str | None:
        """What the attack says of a norm that it is not for; None where it can do it."""
        layer = linear_model(3, 4, seed=0)
        try:
            self.attack(layer, linear_data(layer, seed=0, n=12), make(norm, 1))
        except ThreatError as error:
            return f"ThreatError: {error}"
        return None


def decidable(x: Tensor, y: Tensor, margins: npt.NDArray[np.float64]) -> tuple[Tensor, Tensor, Flags]:
    """The examples that float32 can decide, and which of them are robust: margins at the worst point are no rounding."""
    clear = torch.from_numpy(np.abs(margins) > 1e-4)
    return x[clear], y[clear], margins[clear.numpy()] > 0
