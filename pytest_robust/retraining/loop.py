"""The training itself: updates, looks at the validation examples, and what follows from them."""

from __future__ import annotations

import copy
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Any

import torch
from scipy.stats import beta as beta_distribution
from torch.optim.lr_scheduler import LRScheduler

from pytest_robust.attacks import FGSM, Attack
from pytest_robust.evaluation.passes import Passes
from pytest_robust.regression import Paired
from pytest_robust.retraining import spread
from pytest_robust.retraining.feeding import Feed, keys_of
from pytest_robust.retraining.guard import Guard, Probe
from pytest_robust.retraining.history import Event, Look, Report, TrainingProgress
from pytest_robust.retraining.recipe import METHODS, STRONGER, WEAK, judge_of
from pytest_robust.retraining.states import random_state, set_random_state
from pytest_robust.retraining.update import Updater
from pytest_robust.retraining.validation import Validation
from pytest_robust.retraining.weights import Average, State, put, state_of

_ON_LOOKING = 0.1
"""Passes of the looks, as a share of those of the training, that a look waits for."""
_LOOKS = 6
"""At least so many in a training."""
_VALIDATED, _PROBED = 512, 64
"""Examples of a look at the average weights, and of the guard's at those in training."""
_RETURNS = 2
"""How often a collapse is answered by a stronger attack; after the next one training ends."""
_SURE = 0.95
"""Of the lower limit of robust accuracy that ends a training early."""


@dataclass
class Course:
    """Where a training is; with the weights and the optimizer, all that it needs to go on.

    Attributes:
        step: updates so far. epoch, position: the epoch, and batches of it that are done. returns: after collapses.
        seconds: of training so far. done: it is over. lr: what returns have made of the learning rate, a factor.
        best: the average weights of the best look, by name; best_look: its place in ``looks``.
        looks, events: so far.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    returns: int = 0
    seconds: float = 0.0
    done: bool = False
    lr: float = 1.0
    best: State = field(default_factory=dict)
    best_look: int = 0
    looks: list[Look] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """As mappings, lists and tensors."""
        return vars(self) | {"looks": list(map(asdict, self.looks)), "events": list(map(asdict, self.events))}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Course:
        """What ``plain`` made."""
        looks, events = ([kind(**part) for part in plain[name]] for kind, name in ((Look, "looks"), (Event, "events")))
        return cls(**plain | {"looks": looks, "events": events})


class Training:
    """A training from its first update to its last, which can be left at any one and taken up again."""

    def __init__(
        self,
        updater: Updater,
        feed: Feed,
        validation: Validation,
        scheduler: LRScheduler | None,
        *,
        floor: float | None,
        most_seconds: float | None,
        save: Callable[[dict[str, Any]], None] | None,
        report: Report | None,
    ) -> None:
        """
        Args:
            scheduler: of the user; stepped after every update. floor: of robust accuracy, at which it is enough.
            save: keeps a state for ``resume``.
        """
        self.updater, self.feed, self.scheduler = updater, feed, scheduler
        # Edits take a model's passes and a tokenizer's work.
        self.validation = validation.first(_VALIDATED // (4 if updater.threat.terrain == "edits" else 1))
        self._floor, self._most, self._save, self._report = floor, most_seconds, save, report
        recipe = updater.recipe
        self.average = Average(updater.module, recipe.ema_decay)
        self.course = Course()
        self.guard = Guard()
        self.steps = recipe.epochs * len(feed)
        self._rates = [group["lr"] for group in updater.optimizer.param_groups]
        self._judge: Attack = judge_of(updater.threat)
        self._probe = validation.first(_PROBED)
        self._epoch_random: dict[str, Any] = {}
        self._losses: list[torch.Tensor] = []
        self._spent_at_look = 0
        self._good: dict[str, Any] = {}
        self._began = time.perf_counter()
        self._asked: int | None = None

    def run(self) -> None:
        """Train to the end, from where the course is.

        Raises:
            KeyboardInterrupt: as it came, once the state is kept, where it is to be kept.
        """
        updater = self.updater
        updater.module.train()
        with self._heeding():
            if not self.course.looks and not self.course.done:
                self._look()  # of the model as it came: what it must not lose
            while not self.course.done:
                self._epoch()

    def state(self) -> dict[str, Any]:
        """All that ``resume`` needs."""
        return {
            "course": self.course.plain(),
            "weights": state_of(self.updater.module),
            "average": self.average.plain(),
            "optimizer": self.updater.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "guard": self.guard.state(),
            "method": self._method_name,
            "passes": [[passes.forward, passes.backward] for passes in self._passes],
            "spent_at_look": self._spent_at_look,
            "losses": [float(loss) for loss in self._losses],
            "random": random_state(),
            "epoch_random": self._epoch_random,
            "good": self._good,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what ``state`` gave."""
        updater = self.updater
        self.course = Course.of(state["course"])
        put(updater.module, state["weights"])
        self.average.load(state["average"])
        updater.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.guard = Guard(**state["guard"])
        updater.method = METHODS[state["method"]]
        for passes, (forward, backward) in zip(self._passes, state["passes"], strict=True):
            passes.forward, passes.backward = forward, backward
        self._spent_at_look, self._epoch_random, self._good = (
            state[name] for name in ("spent_at_look", "epoch_random", "good")
        )
        self._losses = [torch.tensor(loss, device=updater.view.device) for loss in state["losses"]]
        set_random_state(state["random"])

    @property
    def spent(self) -> tuple[int, int]:
        """Forward and backward passes so far, those of the looks included."""
        return sum(passes.forward for passes in self._passes), sum(passes.backward for passes in self._passes)

    @property
    def _passes(self) -> tuple[Passes, Passes]:
        return self.updater.passes, self.validation.passes

    @property
    def _method_name(self) -> str:
        return next(name for name, method in METHODS.items() if method is self.updater.method)

    def _epoch(self) -> None:
        course, updater, recipe = self.course, self.updater, self.updater.recipe
        if course.position:
            # The epoch's own batches, drawn again: those that are done are passed over.
            here = random_state()
            set_random_state(self._epoch_random)
        else:
            here, self._epoch_random = None, random_state()
        number, drawn = course.epoch, 0
        for part in self.feed.epoch(number):
            drawn += 1
            if drawn <= course.position:
                continue
            if here is not None:
                set_random_state(here)
                here = None
            self._set_rates()
            keys = keys_of(recipe.seed, course.step, len(part.labels), updater.view.device)
            self._losses.append(updater.update(part, keys, recipe.share(course.step, self.steps)))
            if self.scheduler is not None:
                self.scheduler.step()
            self.average.update()
            course.step, course.position = course.step + 1, drawn
            self._after_update()
            if course.done:
                return
        course.epoch, course.position = number + 1, 0
        if course.epoch >= recipe.epochs and not course.done:
            self._finish("")

    def _after_update(self) -> None:
        course, spent = self.course, sum(self.spent)
        late = self._most is not None and spread.any_of(self._seconds() >= self._most)
        last = course.step >= self.steps
        each = max(1, self.steps // _LOOKS)
        if late or last or course.step % each == 0 or spent - self._spent_at_look >= self._cost_of_look() / _ON_LOOKING:
            self._look()
            if late and not course.done:
                self._finish(f"the {self._most / 60 if self._most else 0:g} minutes are over")
            elif last and not course.done:
                self._finish("")
            self._keep()
        self._tell()
        if self._asked is not None:
            self._keep()
            raise _AskedError(self._asked)

    def _look(self) -> None:
        """Measure, remember the best, notice a collapse, and see whether it is enough."""
        course, updater = self.course, self.updater
        spread.same_buffers(updater.module)
        loss = float(torch.stack(self._losses).double().mean()) if self._losses else 0.0
        self._losses = []
        with updater.adapted.isolated():
            collapse = self._collapsed(loss)
            if collapse is None:
                with self.average.in_place():
                    clean, robust = self.validation.robust(self._judge)
        self._spent_at_look = sum(self.spent)
        if collapse is not None:
            self._go_back(collapse)
            return
        n = len(self.validation)
        look = Look(course.step, self._spent_at_look, clean, robust, n, loss, self._seconds())
        course.looks.append(look)
        self._prefer(look)
        self._remember()
        if course.step and self._is_enough(look):
            self._finish("the floor is met on the validation examples")

    def _collapsed(self, loss: float) -> str | None:
        updater, probe = self.updater, self._probe
        clean, strong = probe.robust(self._judge)
        fast = strong if updater.threat.terrain == "edits" else probe.robust(FGSM("ce"))[1]
        n_classes = len(probe.encoded.labels.unique())
        return self.guard.judge(Probe(clean, fast, strong, len(probe), loss, n_classes))

    def _prefer(self, look: Look) -> None:
        """Is it the best so far? First comes what keeps clean accuracy, then what is more robust."""
        course = self.course
        if self._rank(look) >= self._rank(course.looks[course.best_look]):
            course.best, course.best_look = copy.deepcopy(self.average.state), len(course.looks) - 1

    def _rank(self, look: Look) -> tuple[bool, int, int]:
        return self._keeps_clean(look), look.robust, look.clean

    def _keeps_clean(self, look: Look) -> bool:
        """Whether no more clean accuracy than allowed is lost for sure: on a hundred examples five points may be chance."""
        lost = max(0, self.course.looks[0].clean - look.clean)
        return Paired(look.n, lost, 0).interval()[0] <= self.updater.recipe.max_clean_drop

    def _is_enough(self, look: Look) -> bool:
        """Robust accuracy is above the floor for sure, by the exact lower limit (Clopper and Pearson, 1934), at the full
        budget, and clean accuracy is kept.
        """
        if self._floor is None or not self._keeps_clean(look):
            return False
        if self.updater.recipe.share(self.course.step, self.steps) < 1:
            return False
        low = beta_distribution.ppf(1 - _SURE, look.robust, look.n - look.robust + 1) if look.robust else 0.0
        return bool(low >= self._floor)

    def _remember(self) -> None:
        """A state to go back to."""
        self._good = {
            "weights": state_of(self.updater.module),
            "average": copy.deepcopy(self.average.plain()),
            "optimizer": copy.deepcopy(self.updater.optimizer.state_dict()),
        }

    def _go_back(self, why: str) -> None:
        """To the last good state, with half the learning rate and a stronger attack; or to the end."""
        course, updater = self.course, self.updater
        put(updater.module, self._good["weights"])
        self.average.load(self._good["average"])
        updater.optimizer.load_state_dict(copy.deepcopy(self._good["optimizer"]))
        self.guard.forget()
        if course.returns == _RETURNS:
            self._finish(f"collapsed again: {why}; training ended at what was best before")
            return
        course.lr /= 2
        if self.scheduler is not None:
            self.scheduler.base_lrs = [rate / 2 for rate in self.scheduler.base_lrs]
        what = "half the learning rate"
        if self._method_name in WEAK:
            what = f"{STRONGER} instead of {self._method_name}, and {what}"
            updater.method = METHODS[STRONGER]
        course.returns += 1
        course.events.append(Event(course.step, f"collapsed: {why}; went back to the last good weights, with {what}"))

    def _finish(self, why: str) -> None:
        self.course.done = True
        if why:
            self.course.events.append(Event(self.course.step, why))

    def _set_rates(self) -> None:
        if self.scheduler is None:
            share = self.course.lr * self.updater.recipe.lr_share(self.course.step, self.steps)
            for group, rate in zip(self.updater.optimizer.param_groups, self._rates, strict=True):
                group["lr"] = rate * share

    def _cost_of_look(self) -> float:
        steps = 2 * self._judge.n_steps + 2
        return len(self.validation) * steps + len(self._probe) * (steps + 4)

    def _seconds(self) -> float:
        return self.course.seconds + time.perf_counter() - self._began

    def _keep(self) -> None:
        if self._save is not None and spread.rank() == 0:
            now = time.perf_counter()
            self.course.seconds, self._began = self.course.seconds + now - self._began, now
            self._save(self.state())

    def _tell(self) -> None:
        if self._report is None or spread.rank():
            return
        course, seconds = self.course, self._seconds()
        left = seconds / max(1, course.step) * (self.steps - course.step)
        if self._most is not None:
            left = min(left, max(0.0, self._most - seconds))
        look = course.looks[-1] if course.looks else None
        clean, robust = (None, None) if look is None else (look.clean / look.n, look.robust / look.n)
        left = 0.0 if course.done else left
        self._report(TrainingProgress(course.step, self.steps, course.epoch, clean, robust, left))

    @contextmanager
    def _heeding(self) -> Iterator[None]:
        """Inside, where states are kept, the signals to stop wait for the end of an update, and for its state to be kept."""
        if self._save is None or threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: FrameType | None) -> None:
            self._asked = number

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        except _AskedError as error:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.raise_signal(error.number)
            raise KeyboardInterrupt from None  # whoever handles the signal otherwise: training is over all the same
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _AskedError(BaseException):
    """Attributes: number: of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
