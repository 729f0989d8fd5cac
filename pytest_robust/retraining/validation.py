"""What a model in training is on examples that it is not trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from pytest_robust import keyed
from pytest_robust.attacks import Attack
from pytest_robust.data.examples import Examples
from pytest_robust.evaluation.passes import Passes
from pytest_robust.models.protocol import Batch
from pytest_robust.objectives import Objective
from pytest_robust.retraining.crafting import craft
from pytest_robust.threats import Threat

_BATCH = 128


@dataclass(frozen=True)
class Validation:
    """Encoded examples, with what they are judged by.

    Attributes:
        passes: of the model as the threat moves its point, the same that encoded the examples: one of edits remembers them.
        seed: of the attacks, the same each time.
    """

    passes: Passes
    encoded: Examples
    threat: Threat
    objective: Objective
    seed: int

    def __len__(self) -> int:
        return len(self.encoded)

    def first(self, n: int) -> Validation:
        """On ``n`` of the examples, by content."""
        rows = sorted(keyed.order(self.seed, self.encoded.ids)[:n])
        return Validation(self.passes, self.encoded.subset(rows), self.threat, self.objective, self.seed)

    def robust(self, attack: Attack) -> tuple[int, int]:
        """How many are right without attack, and how many under this attack too; inside ``isolated()``."""
        clean = robust = 0
        for batch, labels, keys in self._batches():
            right = self._right(batch, labels)
            crafted = craft(self.passes, batch, labels, self.threat, self.objective, attack, keys, judge=True)
            clean += int(right.sum())
            robust += int((right & ~crafted.broken).sum())
        return clean, robust

    def _right(self, batch: Batch, labels: torch.Tensor) -> torch.Tensor:
        return ~self.objective.broken(self.passes.logits(batch.x, batch.context), self.objective.goal(labels))

    def _batches(self) -> Iterator[tuple[Batch, torch.Tensor, torch.Tensor]]:
        view = self.passes.model
        for group in self.encoded.groups(range(len(self.encoded))):
            for start in range(0, len(group), _BATCH):
                rows = group[start : start + _BATCH]
                keys = torch.tensor([keyed.key(self.seed, self.encoded.ids[row], "validation") for row in rows])
                labels = self.encoded.labels[rows].to(view.device)
                yield view.batch(self.encoded.take(rows)), labels, keys.to(view.device)
