"""One attack over many examples: the batch stays full, the broken leave at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pytest_robust.attacks import Attack, Live, asked_for
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.subjects import Subjects, Task
from pytest_robust.models import redrawn

Confirm = Callable[[Live, Sequence[int]], Sequence[bool]]
_LARGE = 1e30
"""Stands for an infinite entry of a gradient (that of a square root at 0, say): its sign is right, and it is not NaN."""


@dataclass
class Observed:
    """What searches noticed about examples, as sets of rows.

    Attributes:
        tried: got a gradient at all. usable: some run began with one that is not zero where the example may move.
        not_a_number: got NaN in a gradient. unstable: logits there were NaN or infinite. immovable: nothing may move.
        contested: votes of a random model said too little there.
    """

    tried: set[int] = field(default_factory=set)
    usable: set[int] = field(default_factory=set)
    not_a_number: set[int] = field(default_factory=set)
    unstable: set[int] = field(default_factory=set)
    immovable: set[int] = field(default_factory=set)
    contested: set[int] = field(default_factory=set)


class Search:
    """Runs an attack on examples until each is broken, or its runs are spent, or it is told to stop."""

    def __init__(
        self,
        subjects: Subjects,
        passes: Passes,
        attack: Attack,
        *,
        confirm: Confirm,
        survived: Callable[[int], None],
        stop: Callable[[], bool],
        observed: Observed,
        spent: npt.NDArray[np.int64],
    ) -> None:
        """
        Args:
            confirm: judges claims: slots that stand where the model is broken, and their rows; True where it accepts.
            survived: told the row of each example that outlived all runs.
            stop: asked before every pass, and ends the attack. observed: where to note what speaks against an attack.
            spent: (n,) where to count the forward and backward passes of each example.
        """
        self.subjects, self.passes, self.attack = subjects, passes, attack
        self.confirm, self.survived, self.stop, self.observed = confirm, survived, stop, observed
        self.spent = spent
        self.runs = subjects.runs(attack)

    def over(self, rows: Sequence[int]) -> None:
        """Attack these examples, whose inputs have equal shapes."""
        queue = deque(Task(row) for row in rows)
        slots = _Slots()
        while (queue or slots.tasks) and not self.stop():
            self._refill(slots, queue)
            spent = [i for i, steps in enumerate(slots.steps) if steps == self.attack.n_steps]
            if spent:
                self._last_look(slots.take(spent), queue)
            if slots.tasks:
                self._step(slots, queue)

    def _refill(self, slots: _Slots, queue: deque[Task]) -> None:
        """Put waiting tasks into free slots, several at a time: one by one would cost more than the gap it closes."""
        free = self.passes.most - len(slots.tasks)
        if queue and (not slots.tasks or free >= max(1, self.passes.most // 8)):
            tasks = [queue.popleft() for _ in range(min(free, len(queue)))]
            slots.add(self.subjects.begin(self.attack, tasks), tasks)

    def _step(self, slots: _Slots, queue: deque[Task]) -> None:
        """One forward and backward pass of every slot; the broken leave, the others move."""
        live = slots.live
        asking = asked_for(self.attack, live)
        logits, losses, grad = self.passes.where(asking, partial(self._loss, live), live.x, _context(live))
        asked = _listed(asking, len(live))
        slots.spend([1 + asks for asks in asked])
        counting = self._counting(live)
        self._follow(live, logits, losses, counting)
        broken, strange = self._look(logits, slots, counting, ~grad.flatten(1).sum(1).isfinite())
        if strange:
            self._note(self.observed.not_a_number, grad.isnan().flatten(1).any(1), slots.tasks)
            grad = grad.nan_to_num(nan=0.0, posinf=_LARGE, neginf=-_LARGE)
        fresh = [i for i, steps in enumerate(slots.steps) if steps == 0]
        if fresh:
            self._look_at_starts(grad, slots, fresh, [asked[i] for i in fresh])
        if broken:
            self._remember(slots.at(broken))
            staying = [i for i in range(len(slots.tasks)) if i not in set(broken)]
            losses, grad = losses[staying], grad[staying]
            slots.take(broken)
        if slots.tasks:
            self.attack.update(self.subjects.threat, slots.live, losses, grad)
            slots.advance()

    def _last_look(self, spent: _Slots, queue: deque[Task]) -> None:
        """Slots that took all their steps: one more forward pass, at the point where the last step led."""
        logits = self.passes.logits(spent.live.x, _context(spent.live))
        counting = self._counting(spent.live)
        self._follow(spent.live, logits, self._loss(spent.live, logits, slice(None)), counting)
        spent.spend([1] * len(spent.tasks))
        self._remember(spent)
        # A mean over draws says little about their majority: where a random model's run ends, they are asked in any case.
        broken, _ = self._look(logits, spent, counting, torch.zeros_like(counting), everywhere=self.passes.random)
        spent.take(broken)
        for task in spent.tasks:
            self._next_run(task, queue)

    def _loss(self, live: Live, logits: Tensor, rows: slice | Tensor) -> Tensor:
        """(S,) losses of logits divided by their clean spread, so that the scale of a model's logits changes nothing."""
        scaled = logits / live.scale[rows].unsqueeze(1)
        if self.attack.loss == "divergence":
            return self.subjects.objective.divergence(scaled, live.clean[rows])
        return self.subjects.objective.loss(self.attack.loss, scaled, live.goal[rows], live.rival[rows])

    def _counting(self, live: Live) -> Tensor:
        """(S,) bool: slots that stand in their region. Only an attack that roams leaves it."""
        if not self.attack.roams:
            return torch.ones(len(live), dtype=torch.bool, device=live.x.device)
        off = (live.x - self.subjects.threat.project(live.x, live.region)).abs()
        return (off <= 8 * torch.finfo(off.dtype).eps * (1 + live.x.abs())).flatten(1).all(1)

    def _follow(self, live: Live, logits: Tensor, losses: Tensor, counting: Tensor) -> None:
        """Keep in mind how far each run has come. What is not finite, or out of the region, counts for nothing."""
        margin = self.subjects.objective.margin(logits / live.scale.unsqueeze(1), live.goal).to(live.closest.dtype)
        live.closest = torch.fmax(live.closest, torch.where(margin.isfinite() & counting, margin, -torch.inf))
        live.peak = torch.fmax(live.peak, losses.to(live.peak.dtype))

    def _remember(self, ended: _Slots) -> None:
        """Write down what runs that end here have come to, and what they took."""
        trail, rows = self.subjects.trail, [task.row for task in ended.tasks]
        trail.came(rows, ended.live.closest.tolist())
        for row, passes in zip(rows, ended.passes, strict=True):
            self.spent[row] += passes
        if self.attack.n_targets and self.attack.n_steps == 1:
            places = [self.subjects.target(self.attack, task.run) for task in ended.tasks]
            trail.reached(rows, places, ended.live.peak.tolist())

    def _look(
        self, logits: Tensor, slots: _Slots, counting: Tensor, strange: Tensor, *, everywhere: bool = False
    ) -> tuple[list[int], list[int]]:
        """Slots at whose point the model is broken, and was found so again alone; and the strange ones.

        Logits that are not finite break nothing: they are noted. Slots that are not broken go on with their run, as do those
        that are out of their region.

        Args:
            everywhere: claim it of every slot.
        """
        finite = logits.isfinite().all(1)
        claimed = self.subjects.objective.broken(logits, slots.live.goal) | everywhere
        seen = torch.stack([claimed & finite & counting, ~finite & counting, strange])
        claims, unstable, odd = map(_where, seen.cpu())  # one transfer
        self.observed.unstable.update(slots.tasks[i].row for i in unstable)
        if not claims:
            return [], odd
        accepted = self.confirm(slots.at(claims).live, [slots.tasks[i].row for i in claims])
        return [i for i, sure in zip(claims, accepted, strict=True) if sure], odd

    def _look_at_starts(self, grad: Tensor, slots: _Slots, fresh: list[int], asked: Sequence[bool]) -> None:
        """At the start of a run: may the example move, and where a gradient was asked for, is there anything to follow?"""
        region, tasks = slots.live.region, [slots.tasks[i] for i in fresh]
        movable = (region.upper[fresh] > region.lower[fresh]) & (region.radius[fresh].flatten(1).amax(1) > 0).view(
            -1, *[1] * (grad.ndim - 1)
        )
        self.observed.tried.update(task.row for task, asks in zip(tasks, asked, strict=True) if asks)
        # Of those who did not ask it is all zeros.
        self._note(self.observed.usable, ((grad[fresh] != 0) & movable).flatten(1).any(1), tasks)
        self._note(self.observed.immovable, ~movable.flatten(1).any(1), tasks)

    @staticmethod
    def _note(rows: set[int], mask: Tensor, tasks: Sequence[Task]) -> None:
        rows.update(tasks[i].row for i in _where(mask))

    def _next_run(self, task: Task, queue: deque[Task]) -> None:
        if task.run + 1 < self.runs:
            # One example after the other through all runs: so the first survivors are certain early.
            queue.appendleft(Task(task.row, task.run + 1))
        else:
            self.survived(task.row)


class _Slots:
    """Live examples with the tasks they stand for, the steps they have taken, and the passes that these took."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self.tasks: list[Task] = []
        self.steps: list[int] = []
        self.passes: list[int] = []

    @property
    def live(self) -> Live:
        assert self._live is not None, "there are no slots"
        return self._live

    def add(self, live: Live, tasks: list[Task]) -> None:
        self._live = Live.cat([self._live, live]) if self.tasks and self._live is not None else live
        self.tasks = self.tasks + tasks
        self.steps = self.steps + [0] * len(tasks)
        self.passes = self.passes + [0] * len(tasks)

    def take(self, slots: list[int]) -> _Slots:
        """Remove these slots and return them."""
        leaving = set(slots)
        staying = [i for i in range(len(self.tasks)) if i not in leaving]
        taken = self.at(slots)
        kept = self.at(staying)
        self._live, self.tasks, self.steps, self.passes = kept._live, kept.tasks, kept.steps, kept.passes
        return taken

    def spend(self, passes: Sequence[int]) -> None:
        self.passes = [before + more for before, more in zip(self.passes, passes, strict=True)]

    def advance(self) -> None:
        self.live.step = self.live.step + 1
        self.steps = [steps + 1 for steps in self.steps]

    def at(self, slots: list[int]) -> _Slots:
        """These slots, which stay."""
        part = _Slots()
        part.tasks = [self.tasks[i] for i in slots]
        part.steps, part.passes = [self.steps[i] for i in slots], [self.passes[i] for i in slots]
        if slots:
            part._live = self.live if len(slots) == len(self.tasks) else self.live.select(_index(slots, self.live.x.device))
        return part


def _context(live: Live) -> dict[str, Tensor]:
    """What the forward pass needs; of a random model with fresh draws, so that no attack fits itself to a few."""
    return redrawn(live.context, live.key, live.step)


def _where(mask: Tensor) -> list[int]:
    return [int(i) for i in mask.nonzero().flatten().tolist()]


def _index(slots: list[int], device: torch.device) -> Tensor:
    return torch.tensor(slots, dtype=torch.int64, device=device)


def _listed(mask: Tensor | bool, n: int) -> list[bool]:
    return [bool(value) for value in mask.tolist()] if isinstance(mask, Tensor) else [mask] * n
