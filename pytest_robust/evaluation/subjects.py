"""The examples that an evaluation attacks, and what an attack must know about each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.attacks import Attack, Live
from pytest_robust.data.examples import Examples
from pytest_robust.evaluation.trail import Trail
from pytest_robust.models.protocol import Model
from pytest_robust.objectives import Objective
from pytest_robust.threats import Region, Threat

_MOST_RIVALS = 100
"""Rivals kept per example: more than any attack has targets, few enough for a thousand classes."""

_OUTLIER = 20
"""A spread more than so many times the distance from the largest logit to the median is that of an outlier."""


@dataclass(frozen=True)
class Task:
    """One run of an attack on one example."""

    row: int
    run: int = 0


class Subjects:
    """Encoded examples with their goals, scales and rivals, from which slots are made.

    Attributes:
        scale: (n,) size of the differences between clean logits. Losses are of logits divided by it, so that the scale
            of a model's logits cannot change an outcome. clean: (n, C) clean logits divided by it.
        trail: what attacks have learnt about each example.
    """

    def __init__(
        self,
        model: Model,
        examples: Examples,
        threat: Threat,
        objective: Objective,
        logits: Tensor,
        seed: int,
        own: Mapping[int, Threat] | None = None,
    ) -> None:
        """
        Args:
            own: by row, a threat of its own that differs from ``threat`` in the budget only.
        """
        self._own = own or {}
        self.model, self.examples, self.threat, self.objective, self.seed = model, examples, threat, objective, seed
        self.goal = objective.goal(examples.labels)
        self.scale = _scale(logits)
        self.rivals = objective.rivals(logits, self.goal, _MOST_RIVALS)
        self.clean = logits / self.scale.unsqueeze(1)
        self.trail = Trail(objective.margin(self.clean, self.goal), self.rivals)

    def under(self, threat: Threat) -> Subjects:
        """The same examples, all of them under another threat."""
        other = copy(self)
        other.threat, other._own = threat, {}
        return other

    def rank(self) -> None:
        """Put the rivals of each example in the order of what one step towards them showed, where that is known."""
        self.rivals = self.trail.rank()

    def target(self, attack: Attack, run: int) -> int:
        """The place of the rival that a run drives towards; 0 where it has none."""
        return attack.first_target + run % self._targets(attack)

    def runs(self, attack: Attack) -> int:
        """How many runs the attack has on an example: one per start and target; none where it has no such target."""
        if attack.n_targets and attack.first_target >= self.rivals.shape[1]:
            return 0
        return attack.n_restarts * self._targets(attack)

    def begin(self, attack: Attack, tasks: Sequence[Task]) -> Live:
        """Slots at the beginning of their run. The tasks' inputs must have equal shapes."""
        rows = [task.row for task in tasks]
        x, context, region = self.place(rows)
        targets = self._targets(attack)
        keys = [keyed.key(self.seed, self.examples.ids[t.row], attack.name, t.run) for t in tasks]
        live = Live(
            x=x,
            region=region,
            context=context,
            goal=self.put(self.goal[rows]),
            rival=self.put(self.rivals[rows, [self.target(attack, t.run) for t in tasks]]),
            scale=self.put(self.scale[rows]),
            key=self.put(torch.tensor(keys)),
            restart=self.put(torch.tensor([t.run // targets for t in tasks])),
            step=self.put(torch.zeros(len(tasks), dtype=torch.int64)),
            closest=self.put(torch.full((len(tasks),), -torch.inf)),
            peak=self.put(torch.full((len(tasks),), -torch.inf)),
            clean=self.put(self.clean[rows]),
        )
        attack.begin(self.threat, live)
        return live

    def place(self, rows: Sequence[int]) -> tuple[Tensor, dict[str, Tensor], Region]:
        """The clean points of these examples on the device, the rest of their input, and where they may move."""
        batch = self.model.batch(self.examples.take(rows))
        x = batch.x.detach()
        parts = self.by_threat(rows)
        if len(parts) == 1:
            return x, batch.context, parts[0][0].region(x, batch.free)
        free = None if batch.free is None else batch.free.expand_as(x)
        regions = [threat.region(x[at], None if free is None else free[at]) for threat, at in parts]
        back = torch.tensor([i for _, at in parts for i in at], device=x.device).argsort()
        return x, batch.context, Region.cat(regions).map(lambda tensor: tensor[back])

    def by_threat(self, rows: Sequence[int]) -> list[tuple[Threat, list[int]]]:
        """The threats of these rows, each with the places at which its rows stand among them."""
        places: dict[Threat, list[int]] = {}
        for place, row in enumerate(rows):
            places.setdefault(self._own.get(row, self.threat), []).append(place)
        return list(places.items())

    def _targets(self, attack: Attack) -> int:
        return max(1, min(attack.n_targets, self.rivals.shape[1] - attack.first_target))

    def put(self, tensor: Tensor) -> Tensor:
        """On the model's device."""
        return tensor.to(self.model.device)


def _scale(logits: Tensor) -> Tensor:
    """(n,) spread of the logits, or what it would be without outliers far below: a class that is masked, say."""
    top = logits.amax(1)
    spread, typical = top - logits.amin(1), top - logits.median(1).values
    scale = torch.where(typical > 0, torch.minimum(spread, _OUTLIER * typical), spread)
    return torch.where(scale > 0, scale, 1.0)
