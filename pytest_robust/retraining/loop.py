"""The training itself: updates, looks at the validation examples, and what follows from them."""

from __future__ import annotations

import copy
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from scipy.stats import beta as beta_distribution
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.lr_scheduler import LRScheduler

from pytest_robust.attacks import FGSM, Attack
from pytest_robust.evaluation.passes import Passes
from pytest_robust.regression import Paired
from pytest_robust.retraining import spread
from pytest_robust.retraining.feeding import Feed, keys_of
from pytest_robust.retraining.guard import Guard, Probe
from pytest_robust.retraining.history import Course, Event, Look, Report, TrainingProgress
from pytest_robust.retraining.recipe import METHODS, STRONGER, WEAK, judge_of
from pytest_robust.retraining.states import random_state, set_random_state
from pytest_robust.retraining.update import Updater
from pytest_robust.retraining.validation import Validation
from pytest_robust.retraining.weights import Average, put, state_of

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
        _training_mode(updater.module)
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
            "random": self._random(),
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
        self._set_random(state["random"])
        if self.course.late and self._most is not None and self.course.seconds < self._most:
            self.course.done = self.course.late = False  # there is more time now

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
        batches = self.feed.epoch(course.epoch)
        if course.position:
            # The epoch's own batches, drawn again: those that are done are passed over.
            here = self._random()
            self._set_random(self._epoch_random)
            for _ in range(course.position):
                next(batches)
            self._set_random(here)
        else:
            self._epoch_random = self._random()
        for part in batches:
            keys = keys_of(recipe.seed, course.step, len(part.labels), updater.view.device)
            with self._rates_of_now():
                self._losses.append(updater.update(part, keys, recipe.share(course.step, self.steps)))
            if self.scheduler is not None:
                self.scheduler.step()
            self.average.update()
            course.step, course.position = course.step + 1, course.position + 1
            self._after_update()
            if course.done:
                return
        course.epoch, course.position = course.epoch + 1, 0
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
                course.late = True
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
        rates = [group["lr"] for group in updater.optimizer.param_groups]
        updater.optimizer.load_state_dict(copy.deepcopy(self._good["optimizer"]))
        for group, rate in zip(updater.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate  # a scheduler has gone on since
        self.guard.forget()
        if course.returns == _RETURNS:
            self._finish(f"collapsed again: {why}; training ended at what was best before")
            return
        course.lr /= 2
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

    @contextmanager
    def _rates_of_now(self) -> Iterator[None]:
        """Inside, the learning rates of this update; then those that a scheduler of the user's goes on from."""
        groups = self.updater.optimizer.param_groups
        before = [group["lr"] for group in groups]
        share = self.course.lr
        if self.scheduler is None:
            share *= self.updater.recipe.lr_share(self.course.step, self.steps)
        for group, rate in zip(groups, before, strict=True):
            group["lr"] = rate * share
        yield
        for group, rate in zip(groups, before, strict=True):
            group["lr"] = rate

    def _random(self) -> dict[str, Any]:
        return {"everywhere": random_state(), "feed": self.feed.random()}

    def _set_random(self, state: dict[str, Any]) -> None:
        set_random_state(state["everywhere"])
        self.feed.set_random(state["feed"])

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


def _training_mode(module: nn.Module) -> None:
    """All of it, but normalisation that is frozen: its statistics are not to move either."""
    module.train()
    some = any(p.requires_grad for p in module.parameters())
    for part in module.modules():
        own = list(part.parameters(recurse=False))
        if some and isinstance(part, _NormBase) and own and not any(p.requires_grad for p in own):
            part.eval()


class _AskedError(BaseException):
    """Attributes: number: of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
