"""One attack over many examples: the batch stays full, the broken leave at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pytest_robust.attacks import Attack, Live
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.subjects import Subjects, Task

Confirm = Callable[[Live, Sequence[int]], Sequence[bool]]


class Search:
    """Runs an attack on examples until each is broken, or its runs are spent, or it is told to stop.

    Attributes:
        tried: rows that got a gradient at all. usable: those for which one at the start of a run was finite and not zero.
        unstable: rows at which the model returned logits that are not finite.
    """

    def __init__(
        self,
        subjects: Subjects,
        passes: Passes,
        attack: Attack,
        *,
        confirm: Confirm,
        survived: Callable[[int], None],
        stop: Callable[[], bool],
    ) -> None:
        """
        Args:
            confirm: judges claims: slots that stand where the model is broken, and their rows; True where it accepts.
            survived: told the row of each example that outlived all runs.
            stop: asked before every pass.
        """
        self.subjects, self.passes, self.attack = subjects, passes, attack
        self.confirm, self.survived, self.stop = confirm, survived, stop
        self.runs = subjects.runs(attack)
        self.tried: set[int] = set()
        self.usable: set[int] = set()
        self.unstable: set[int] = set()

    def over(self, rows: Sequence[int]) -> None:
        """Attack these examples; those of equal shape share batches."""
        for group in self.subjects.examples.groups(rows):
            queue = deque(Task(row) for row in group)
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
        objective, live = self.subjects.objective, slots.live

        def loss(logits: Tensor, rows: slice) -> Tensor:
            scaled = logits / live.scale[rows].unsqueeze(1)
            return objective.loss(self.attack.loss, scaled, live.goal[rows], live.rival[rows])

        logits, losses, grad = self.passes.gradient(loss, live.x, live.context)
        fresh = [i for i, steps in enumerate(slots.steps) if steps == 0]
        if fresh:
            self.tried.update(slots.tasks[i].row for i in fresh)
            size = grad[fresh].flatten(1).abs().amax(1)
            self.usable.update(slots.tasks[fresh[i]].row for i in _where((size > 0) & size.isfinite()))
        broken = self._broken(logits, slots)
        if broken:
            staying = [i for i in range(len(slots.tasks)) if i not in set(broken)]
            losses, grad = losses[staying], grad[staying]
            slots.take(broken)
        if slots.tasks:
            self.attack.update(self.subjects.threat, slots.live, losses, grad)
            slots.advance()

    def _last_look(self, spent: _Slots, queue: deque[Task]) -> None:
        """Slots that took all their steps: one more forward pass, at the point where the last step led."""
        broken = self._broken(self.passes.logits(spent.live.x, spent.live.context), spent)
        spent.take(broken)
        for task in spent.tasks:
            self._next_run(task, queue)

    def _broken(self, logits: Tensor, slots: _Slots) -> list[int]:
        """Slots at whose point the model is broken, and was found so again alone. The others go on with their run.

        Logits that are not finite break nothing: they are remembered.
        """
        finite = logits.isfinite().all(1)
        claimed = self.subjects.objective.broken(logits, slots.live.goal)
        flags = torch.stack([claimed & finite, ~finite]).cpu()  # one transfer answers both questions
        self.unstable.update(slots.tasks[i].row for i in _where(flags[1]))
        claims = _where(flags[0])
        if not claims:
            return []
        accepted = self.confirm(slots.at(claims).live, [slots.tasks[i].row for i in claims])
        return [i for i, sure in zip(claims, accepted, strict=True) if sure]

    def _next_run(self, task: Task, queue: deque[Task]) -> None:
        if task.run + 1 < self.runs:
            # One example after the other through all runs: so the first survivors are certain early.
            queue.appendleft(Task(task.row, task.run + 1))
        else:
            self.survived(task.row)


class _Slots:
    """Live examples with the tasks they stand for and the steps they have taken."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self.tasks: list[Task] = []
        self.steps: list[int] = []

    @property
    def live(self) -> Live:
        assert self._live is not None, "there are no slots"
        return self._live

    def add(self, live: Live, tasks: list[Task]) -> None:
        self._live = Live.cat([self._live, live]) if self.tasks and self._live is not None else live
        self.tasks = self.tasks + tasks
        self.steps = self.steps + [0] * len(tasks)

    def take(self, slots: list[int]) -> _Slots:
        """Remove these slots and return them."""
        leaving = set(slots)
        staying = [i for i in range(len(self.tasks)) if i not in leaving]
        taken = self.at(slots)
        kept = self.at(staying)
        self._live, self.tasks, self.steps = kept._live, kept.tasks, kept.steps
        return taken

    def advance(self) -> None:
        self.live.step = self.live.step + 1
        self.steps = [steps + 1 for steps in self.steps]

    def at(self, slots: list[int]) -> _Slots:
        """These slots, which stay."""
        part = _Slots()
        part.tasks = [self.tasks[i] for i in slots]
        part.steps = [self.steps[i] for i in slots]
        if slots:
            part._live = self.live if len(slots) == len(self.tasks) else self.live.select(_index(slots, self.live.x.device))
        return part


def _where(mask: Tensor) -> list[int]:
    return [int(i) for i in mask.nonzero().flatten().tolist()]


def _index(slots: list[int], device: torch.device) -> Tensor:
    return torch.tensor(slots, dtype=torch.int64, device=device)
