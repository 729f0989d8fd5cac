"""What the engine asks of an attack."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from pytest_robust.attacks.live import Live
from pytest_robust.threats import Threat


class Attack(Protocol):
    """A search inside the threat's region. It moves points; how many examples it gets, and when it stops early, is
    decided elsewhere.

    One run of an example is: ``begin``, then ``n_steps`` times a forward and backward pass at ``live.x`` followed by
    ``update``, then a last forward pass. It ends at the first point that is broken. Where no gradient is asked for, there is
    no backward pass.
    """

    @property
    def name(self) -> str: ...
    @property
    def loss(self) -> str:
        """The objective's loss that the gradients are of."""
        ...

    @property
    def n_steps(self) -> int: ...
    @property
    def n_restarts(self) -> int: ...
    @property
    def n_targets(self) -> int:
        """How many rivals are driven towards in turn; 0: the loss has no target."""
        ...

    @property
    def first_target(self) -> int:
        """The place of the first of them in the order of rivals."""
        ...

    @property
    def uses_gradients(self) -> bool:
        """False for a search by the loss alone: it is given no gradient, and its steps cost a forward pass only."""
        ...

    @property
    def roams(self) -> bool:
        """True where its points may lie outside the region: there nothing counts, neither a break nor how close it came."""
        ...

    @property
    def evidence(self) -> bool:
        """False where surviving it says nothing about robustness, however many steps it takes."""
        ...

    def wants_gradient(self, live: Live) -> Tensor | None:
        """(S,) bool: the slots whose gradient is asked for at ``live.x``, by an attack that uses gradients; None: all."""
        ...

    def begin(self, threat: Threat, live: Live) -> None:
        """Put ``live.x`` at its first point and ``live.state`` at its first value."""
        ...

    def update(self, threat: Threat, live: Live, loss: Tensor, grad: Tensor) -> None:
        """Move ``live.x``.

        Args:
            loss: (S,) the loss at ``live.x``, higher is better.
            grad: its gradient, in the shape of ``x``; zeros where none was asked for.
        """
        ...


class BaseAttack:
    """What most attacks answer. Of your own, one that inherits it needs ``name``, ``n_steps``, ``begin`` and ``update``."""

    loss: str = "margin"
    n_restarts: int = 1
    n_targets: int = 0
    first_target: int = 0
    uses_gradients: bool = True
    roams: bool = False
    evidence: bool = True

    def wants_gradient(self, live: Live) -> Tensor | None:
        """At every point."""
        return None


def asked_for(attack: Attack, live: Live) -> Tensor | bool:
    """(S,) bool: the slots whose gradient the attack needs at their points; True: of all, False: of none."""
    wanted = attack.wants_gradient(live) if attack.uses_gradients else None
    return attack.uses_gradients if wanted is None else wanted
