"""``--robust-retrain``: after the verdict of a test, its failing models are trained adversarially, and the gain is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_robust.pytest_plugin import memory
from pytest_robust.pytest_plugin.progress import watch
from pytest_robust.reports import words
from pytest_robust.reports.record import Record
from pytest_robust.store.baseline import file_of

if TYPE_CHECKING:
    from pytest_robust.evaluation import Evaluation
    from pytest_robust.pytest_plugin.call import Asked
    from pytest_robust.retraining import Retrained, TrainingProgress

FOLDER = "retrained"
FIXTURE = "robust_trainer"
_NOTHING = (
    "there is nothing to train on; give train_data= in the call robust(...), or a fixture robust_trainer that returns "
    '{"train_data": ...}'
)
_OF_THE_CHECK = ("profile", "attacks", "n", "classes", "non_differentiable", "draws", "waive")
"""Options of the check that its proof has as well, beside those that are arguments of ``retrain`` itself."""


@dataclass(frozen=True)
class Failed:
    """A check that missed its floor.

    Attributes:
        data: it was evaluated on. train_data: what the call named to train on, or None.
    """

    evaluation: Evaluation
    record: Record
    asked: Asked
    data: Any
    train_data: Any


def wanted(record: Record) -> bool:
    """Whether a model that failed so is to be retrained."""
    return words.misses_floor(record)


def after(item: pytest.Item, failed: list[Failed]) -> None:
    """Retrain the models of a test's failed checks, and note in their records what came of it. The test's verdict, and the
    model that was tested, stay what they are: an error is a note, too.
    """
    while failed:
        one = failed.pop()
        one.record["retrained"] = _outcome(item, one)


def _outcome(item: pytest.Item, failed: Failed) -> Record:
    try:
        return _retrained(item, failed, _arguments(item, failed))
    except Exception as error:
        return {"error": " ".join(f"{type(error).__name__}: {error}".split())}


def _arguments(item: pytest.Item, failed: Failed) -> dict[str, Any]:
    """Those of ``retrain``, as the call and the project's fixture name them.

    Raises:
        ValueError: none names data to train on.
    """
    request = getattr(item, "_request", None)
    found = {} if request is None else request.getfixturevalue(FIXTURE)
    arguments = dict(found) if isinstance(found, Mapping) else {"train_data": found}
    if failed.train_data is not None:
        arguments["train_data"] = failed.train_data
    if arguments.get("train_data") is None:
        raise ValueError(_NOTHING)
    return arguments


def _retrained(item: pytest.Item, failed: Failed, arguments: dict[str, Any]) -> Record:
    from pytest_robust.retraining import retrain

    options, evaluation = failed.asked.options, failed.evaluation
    check = {name: options[name] for name in _OF_THE_CHECK if options[name] is not None}
    folder = memory.root(item.config) / FOLDER / file_of(failed.record["id"]).with_suffix("")
    key = None if evaluation.identity is None else evaluation.identity.check
    started = folder / "unfinished" / (key or "unknown")
    shown = {name: options[name] for name in ("objective", "normalize", "device", "seed", "autocast")}
    watcher = watch(item.config, item.name)
    try:
        found = retrain(
            failed.asked.model,
            threat=failed.asked.threat,
            test_data=failed.data,
            min_accuracy=evaluation.floor,
            before=evaluation,
            checkpoint=started,
            progress=_shown(watcher, item.name),
            **{**shown, **check, **arguments},
        )
    finally:
        watcher.close()
    found.save(folder, check=failed.record["id"], commit=memory.commit(item.config))
    _sweep(folder / "unfinished")
    return plain(found, folder.relative_to(item.config.rootpath))


def plain(found: Retrained, folder: Path) -> Record:
    """What reports say of a retrained model, as JSON values."""
    card = found.card()
    before, after = card["before"], card["after"]
    return {
        "error": None,
        "folder": folder.as_posix(),
        "met": found.met,
        "method": found.recipe.method,
        "epochs": found.epochs,
        "passes": found.cost.forward + found.cost.backward,
        "events": [event.what for event in found.events],
        **{
            name: {"before": before[name], "after": after[name], "change": card["change"][name]}
            for name in ("clean", "robust")
        },
        "doubt": None if found.after is None or found.after.believable else found.after.doubt,
    }


def _shown(watcher: Callable[[Any], None], name: str) -> Callable[[TrainingProgress], None]:
    """The progress of a training in the words of an evaluation's: updates are what is decided one after the other."""
    from pytest_robust.evaluation import Progress

    def show(progress: TrainingProgress) -> None:
        left = f"retraining, {progress.seconds_left:.0f} s left"
        robust = 1.0 if progress.robust is None else progress.robust
        watcher(Progress(name, left, progress.step, progress.steps, robust))

    return show


def _sweep(folder: Path) -> None:
    """Remove what was kept of trainings that are over."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
