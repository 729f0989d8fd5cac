"""Where the examples come from, to train on and to validate on, and that none of them is tested on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader

from pytest_robust.data.examples import Examples
from pytest_robust.evaluation.precision import full_precision
from pytest_robust.evaluation.units import measured
from pytest_robust.models import Model
from pytest_robust.models.edited import Edited
from pytest_robust.retraining.feeding import Feed, InMemory, Loader, held_out, held_out_of_loader, refuse_overlap
from pytest_robust.threats import Threat


@dataclass(frozen=True)
class Source:
    """The user's data.

    Attributes:
        views: the model as the threat moves its point, once for each use. The others are as in ``retrain``.
    """

    adapted: Model
    views: Sequence[Model]
    train: Any
    validation: Any
    split: float
    batch_size: int | None
    seed: int

    def read(self, tests: frozenset[str], threat: Threat) -> tuple[Feed, Examples, Threat]:
        """What to train on, the encoded validation examples, and the threat with its budget made a size.

        Args:
            tests: content ids.

        Raises:
            PreflightError: data that cannot be used, or an example that is used for two of these.
        """
        training, held = self._parts()
        refuse_overlap(held.ids, tests, "the validation data")
        forbidden = tests | frozenset(held.ids)
        if isinstance(training, Examples):
            refuse_overlap(training.ids, forbidden, "the training data")
        with full_precision(), self.adapted.isolated():
            sized = measured(threat, self.adapted, held).threat
            feed: Feed
            if isinstance(training, Examples):
                feed = InMemory(self.views[0], self._encoded(self.views[0], training), self.batch_size, self.seed)
            else:
                feed = Loader(self.views[0], training, forbidden)
            return feed, self._encoded(self.views[1], held), sized

    def _parts(self) -> tuple[Examples | DataLoader[Any], Examples]:
        """What to train on, and what to validate on. Texts are read once and for all, whatever they come in."""
        if isinstance(self.train, DataLoader) and self.adapted.space == "input":
            if self.validation is not None:
                return self.train, self.adapted.read(self.validation)
            rest, held = held_out_of_loader(self.train, self.split, self.seed)
            return rest, self.adapted.read(held)
        examples = self.adapted.read(self.train)
        if self.validation is not None:
            return examples, self.adapted.read(self.validation)
        return held_out(examples, self.split, self.seed)

    def _encoded(self, view: Model, examples: Examples) -> Examples:
        return view.encode(examples) if isinstance(view, Edited) else self.adapted.encode(examples)
