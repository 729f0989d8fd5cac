"""What a training came to: the model, the proof, and what it cost."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save
from tabulate import tabulate
from torch import nn

from pytest_robust.evaluation import Evaluation
from pytest_robust.evaluation.result import Cost
from pytest_robust.regression import Paired
from pytest_robust.reports.record import record
from pytest_robust.retraining.history import Event, Look
from pytest_robust.retraining.recipe import Recipe
from pytest_robust.retraining.weights import state_of
from pytest_robust.whole_files import write_whole

SCHEMA = 1
WEIGHTS, CARD = "model.safetensors", "card.json"


@dataclass(frozen=True)
class Retrained:
    """A model that was adversarially trained, and what is known of it.

    Attributes:
        model: of the kind that was given, with the best weights found, in the modes it was given in.
        recipe: how it was trained. threat: against what, in words.
        before, after: the check on the test data, of the model as it was and as it is now; None without test data.
        looks: measurements on the validation examples, the first before training; ``best`` is the place of the one whose
            weights were taken. events: what changed the course. cost: of the training, looks included.
        epochs: the cost in epochs of standard training on the same examples, two passes per example each.
        data: digest of the training examples, None where a loader augments them.
    """

    model: Any
    recipe: Recipe
    threat: str
    before: Evaluation | None
    after: Evaluation | None
    looks: tuple[Look, ...]
    best: int
    events: tuple[Event, ...]
    cost: Cost
    epochs: float
    data: str | None
    module: nn.Module = field(repr=False, compare=False)

    @property
    def met(self) -> bool | None:
        """Whether the check passes now; None without test data or without a floor."""
        if self.after is None or self.after.verdict == "report":
            return None
        return self.after.verdict == "pass"

    @property
    def robust(self) -> Paired | None:
        """How robust outcomes changed on the test data; its drop is negative where they got better."""
        return self._paired("robust")

    @property
    def clean(self) -> Paired | None:
        """The same without attack."""
        return self._paired("correct")

    @property
    def overfitting(self) -> float:
        """Robust validation accuracy of the best look minus that of the last: what longer training has taken again."""
        best, last = self.looks[self.best], self.looks[-1]
        return best.robust / best.n - last.robust / last.n

    def card(self) -> dict[str, Any]:
        """All but the weights, as JSON values."""
        return {
            "schema": SCHEMA,
            "threat": self.threat,
            "recipe": self.recipe.plain(),
            "data": self.data,
            "met": self.met,
            "before": None if self.before is None else record(self.before, "before"),
            "after": None if self.after is None else record(self.after, "after"),
            "change": {name: self._change(paired) for name, paired in (("clean", self.clean), ("robust", self.robust))},
            "looks": [asdict(look) for look in self.looks],
            "best": self.best,
            "events": [asdict(event) for event in self.events],
            "cost": asdict(self.cost) | {"epochs": self.epochs},
        }

    def save(self, folder: str | Path, **more: Any) -> Path:
        """Write ``model.safetensors``, the weights by name, and ``card.json``; the folder.

        Args:
            more: what else the card is to say, as JSON values: a commit, say.

        Raises:
            OSError: they cannot be written.
        """
        folder = Path(folder)
        # Weights that share memory are written once for each name, as nothing else is known to load them.
        write_whole(folder / WEIGHTS, save({name: t.contiguous().cpu() for name, t in state_of(self.module).items()}))
        text = json.dumps(self.card() | more, indent=1, ensure_ascii=False)
        write_whole(folder / CARD, f"{text}\n".encode())
        return folder

    def __str__(self) -> str:
        """Before and after, the events, and the course; what to try where the floor was missed."""
        took = f"{self.epochs:.1f} epochs of standard training ({self.cost.forward + self.cost.backward:,} passes)"
        lines = [f"retrained against {self.threat} by {self.recipe.method}: {took}, {self.cost.seconds:.1f} s"]
        rows = [self._row("clean", self.clean), self._row("robust", self.robust)]
        if self.after is not None:
            lines += ["", tabulate(filter(None, rows), ["", "before", "after", "change", "90% CI"], disable_numparse=True)]
        lines += ["", *(f"step {event.step}: {event.what}" for event in self.events)]
        course = [
            [look.step, f"{look.passes:,}", f"{100 * look.clean / look.n:.1f}%", f"{100 * look.robust / look.n:.1f}%",
             "best" if i == self.best else ""]
            for i, look in enumerate(self.looks)
        ]  # fmt: skip
        lines += [
            "",
            f"on {self.looks[0].n} validation examples, robust under ten steps:",
            tabulate(course, ["step", "passes", "clean", "robust", ""], disable_numparse=True),
        ]
        if self.overfitting >= 0.02:
            lines.append(f"robust overfitting: {100 * self.overfitting:.1f} points were lost again after the best look")
        if self.met is False:
            lines += ["", self._advice()]
        return "\n".join(lines)

    def _advice(self) -> str:
        assert self.after is not None, "without test data nothing is missed"
        tries = {"nfgsm": "method='pgd'", "pgd2": "method='pgd'", "pgd": "method='trades'"}
        other = tries.get(self.recipe.method, "another method")
        if self.recipe.awp == 0:
            other += ", awp=0.005"
        said = f"the floor is missed: {self.after.accuracy!r}"
        if self.after.meets_floor:
            said = f"the floor is met, but the evaluation is no evidence: {self.after.doubt}"
        return f"{said}\ntry: epochs={2 * self.recipe.epochs}, {other}, more training data, or a lower floor or budget"

    def _paired(self, name: str) -> Paired | None:
        if self.before is None or self.after is None:
            return None
        old, new = getattr(self.before, name), getattr(self.after, name)
        return Paired(len(old), int((old & ~new).sum()), int((new & ~old).sum()))

    @staticmethod
    def _change(paired: Paired | None) -> dict[str, Any] | None:
        if paired is None:
            return None
        low, high = paired.interval()
        return {"rise": -paired.drop, "low": -high, "high": -low, "confidence": 0.9, **asdict(paired)}

    def _row(self, name: str, paired: Paired | None) -> list[str] | None:
        if paired is None or self.before is None or self.after is None:
            return None
        old, new = ((e.clean_accuracy if name == "clean" else e.accuracy) for e in (self.before, self.after))
        low, high = paired.interval()
        interval = f"{0 - 100 * high:+.1f} to {0 - 100 * low:+.1f}"
        return [name, str(old), str(new), f"{0 - 100 * paired.drop:+.1f} pt", interval]
