"""A training in a folder, to go on from where it was interrupted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pytest_robust.errors import DamagedError, RobustError
from pytest_robust.evaluation.identity import digest
from pytest_robust.retraining.feeding import Feed
from pytest_robust.retraining.recipe import Recipe
from pytest_robust.retraining.states import read_state, write_state
from pytest_robust.retraining.weights import state_of
from pytest_robust.threats import Threat

STATE = "training.safetensors"


@dataclass(frozen=True)
class Kept:
    """Attributes:
    path: the file. what: what the training is of, by name: where one differs it is another training.
    """

    path: Path
    what: Mapping[str, Any]

    @classmethod
    def of(cls, folder: Path, recipe: Recipe, threat: Threat, feed: Feed, module: nn.Module) -> Kept:
        """That of a training that is about to begin, in the folder."""
        data = digest(sorted(feed.ids)) if feed.ids else [feed.size, len(feed)]
        what = {"the threat": str(threat.summary()), "the training data": data, "the model": digest(state_of(module))}
        return cls(folder / STATE, {**what, **{f"the recipe's {name}": value for name, value in recipe.plain().items()}})

    def write(self, state: Mapping[str, Any]) -> None:
        """Keep a state instead of the one before.

        Raises:
            OSError: it cannot be written; the one before stays.
        """
        write_state(self.path, {"what": dict(self.what), "state": dict(state)})

    def read(self) -> dict[str, Any] | None:
        """The state kept last; None where there is none.

        Raises:
            RobustError: it is of another training, or damaged. OSError: it cannot be read.
        """
        try:
            found = read_state(self.path)
            what, state = found["what"], found["state"]
        except FileNotFoundError:
            return None
        except (DamagedError, KeyError) as error:
            raise RobustError(
                f"{self.path} cannot be what was kept of a training ({error}); delete it to begin anew"
            ) from None
        differing = [name for name in (*self.what, *what) if self.what.get(name) != what.get(name)]
        if differing:
            name = differing[0]
            raise RobustError(
                f"{self.path} is of another training: {name} was {what.get(name)}, and is {self.what.get(name)}; give "
                "another folder as checkpoint, or delete the file to begin anew"
            )
        return dict(state)
