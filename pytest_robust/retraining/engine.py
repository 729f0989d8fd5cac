"""min over theta: from a model that fails its check to one that passes it, and the proof."""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Mapping
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from pytest_robust.budget import Number, parse_floor
from pytest_robust.errors import ModelError
from pytest_robust.evaluation import Evaluation, evaluate
from pytest_robust.evaluation.identity import digest
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.prepare import under, upwards
from pytest_robust.evaluation.result import Cost
from pytest_robust.models import Model, Normalize, adapt
from pytest_robust.models.embedded_text import EmbeddedText
from pytest_robust.models.submodules import modules_in
from pytest_robust.objectives import Objective, Untargeted
from pytest_robust.random_state import preserved_random_state, seed_random_state
from pytest_robust.retraining.feeding import input_ids
from pytest_robust.retraining.history import Report
from pytest_robust.retraining.kept import Kept
from pytest_robust.retraining.loop import Training
from pytest_robust.retraining.outer import Loss, usual
from pytest_robust.retraining.recipe import (
    OptimizerFactory,
    Recipe,
    SchedulerFactory,
    method_for,
    usual_beta,
    usual_epochs,
    usual_optimizer,
)
from pytest_robust.retraining.result import Retrained
from pytest_robust.retraining.source import Source
from pytest_robust.retraining.update import Updater
from pytest_robust.retraining.validation import Validation
from pytest_robust.retraining.weights import put
from pytest_robust.threats import Threat


def retrain(
    model: Any,
    train_data: Any,
    threat: Threat,
    *,
    test_data: Any = None,
    min_accuracy: Number | None = None,
    objective: Objective | None = None,
    method: str = "auto",
    epochs: int | None = None,
    max_minutes: float | None = None,
    lr: float | None = None,
    optimizer: OptimizerFactory | None = None,
    scheduler: SchedulerFactory | None = None,
    loss: Loss | None = None,
    beta: float | None = None,
    awp: float = 0.0,
    ema_decay: float = 0.995,
    eps_warmup: float = 0.3,
    max_clean_drop: float = 0.05,
    val_data: Any = None,
    val_split: float = 0.1,
    batch_size: int | None = None,
    seed: int = 0,
    device: str = "auto",
    normalize: Normalize | None = None,
    autocast: bool = False,
    checkpoint: str | Path | None = None,
    inplace: bool = False,
    progress: Report | None = None,
    before: Evaluation | None = None,
    **check: Any,
) -> Retrained:
    """Train a model adversarially until it passes its check, and prove that it does by the check itself.

    The weights are those of the given model to begin with: it is fine-tuned, under a budget that rises from 0. Of all
    weights on the way those are taken that are most robust on validation examples, without losing more clean accuracy there
    than is allowed. The given model is not changed.

    Args:
        model: as ``evaluate`` takes it, with a torch module inside. Parameters that are frozen stay, unless all are.
        train_data: as ``evaluate`` takes data. A ``DataLoader`` is iterated as it is, with its shuffling and augmentation;
            its labels may be distributions, (B, C). threat: what the model is to withstand, as in the check.
        test_data: of the check. Examples of it must not be among those to train on.
        min_accuracy: the check's floor; training ends early once it is met for sure on the validation examples.
        method: ``"auto"``, or one of ``METHODS``: ``"nfgsm"``, ``"pgd"``, ``"trades"``, ``"mart"``, ``"free"``, for text
            ``"freelb"``, ``"consistency"``, ``"typos"``, ``"hotflip"``.
        epochs: at most; the method's when left out. max_minutes: of training, over all resumptions.
        lr: the highest learning rate. optimizer: from parameters to an optimizer, instead. scheduler: from the optimizer to
            a scheduler, which is stepped after every update; without one the rate rises for a fifth of them and falls to 0.
        loss: from logits (B, C) and labels to (B,), instead of the cross-entropy.
        beta: weight of the second term of ``trades`` (6), ``mart`` (5) and the consistency methods (1). awp: size of
            adversarial weight perturbations, 0.005 to 0.01; 0: none.
        ema_decay: of the running average of the weights, which is what is taken. eps_warmup: share of the training in which
            the budget rises.
        max_clean_drop: how much accuracy without attack may be lost on the validation examples.
        val_data: validation examples; else the share ``val_split`` of the training data is held out, at most 1000.
        batch_size: of examples in memory. seed: of everything random.
        autocast: updates in bfloat16.
        checkpoint: a folder in which the training is kept, and from which it goes on where it was interrupted.
        inplace: write the weights into the given model. progress: called after every update.
        before: the check's evaluation, where it was run already and decided every example.
        check: what else the check has: ``profile``, ``attacks``, ``n``, ``waive``, ``classes``, as for ``evaluate``.

    Raises:
        PreflightError: data that cannot be used, or that is also tested on. ModelError: there is nothing to train.
        ThreatError: the threat is not for this model. RobustError: the checkpoint is of another training.
        ValueError, TypeError: an argument that cannot be used.
    """
    _checked(epochs, batch_size, optimizer, scheduler, check)
    ranges = {"val_split": (val_split, 0.9), "ema_decay": (ema_decay, 1), "eps_warmup": (eps_warmup, 1)}
    for what, (share, most) in ranges.items():
        if not (0 <= share <= most) or (what == "val_split" and not share):
            raise ValueError(f"{what} lies between 0 and {most:g}, got {share!r}")
    if awp < 0 or max_clean_drop < 0:
        raise ValueError(f"awp and max_clean_drop are not negative, got {awp!r} and {max_clean_drop!r}")
    name, way = method_for(method, threat)
    objective = objective or Untargeted()
    floor = None if min_accuracy is None else parse_floor(min_accuracy)
    if way.replays and objective.name != Untargeted().name:
        raise ValueError(f"method {name!r} is untargeted, and the objective is {objective.name}; use 'pgd'")
    if way.replays and awp:
        raise ValueError(f"method {name!r} has no adversarial weight perturbation; leave awp out, or use 'pgd'")
    asked = {name: check.get(name) for name in ("classes", "non_differentiable")}
    # Adapted first: submodules that are named by themselves are those of the given model.
    adapted = copy.deepcopy(adapt(model, device=device, normalize=normalize, **asked))
    module = _trainable(adapted)
    began = time.perf_counter()
    with preserved_random_state():
        seed_random_state(seed)
        views = [_view(adapted, threat, objective) for _ in range(2)]
        tests = frozenset() if test_data is None else frozenset(input_ids(adapted.read(test_data).inputs))
        source = Source(adapted, views, train_data, val_data, val_split, batch_size, seed, objective)
        feed, examples, sized = source.read(tests, threat)
        found, rate = (
            (optimizer(_moving(module)), None) if optimizer else usual_optimizer(module, lr, _width(adapted, module))
        )
        recipe = Recipe(
            method=name,
            epochs=epochs or usual_epochs(way, len(feed)),
            batch_size=feed.batch_size,
            seed=seed,
            lr=rate,
            beta=usual_beta(way, beta),
            awp=awp,
            ema_decay=ema_decay,
            # There is no half of an edit.
            eps_warmup=0.0 if threat.terrain == "edits" else eps_warmup,
            max_clean_drop=max_clean_drop,
            autocast=autocast,
        )
        passes = Passes(views[0], feed.size, torch.bfloat16 if autocast else None)
        updater = Updater(adapted, views[0], module, sized, objective, recipe, way, loss or usual, found, passes)
        planned = None if scheduler is None else scheduler(found)
        if isinstance(planned, ReduceLROnPlateau):
            raise TypeError("scheduler is a ReduceLROnPlateau, which waits for a metric; give one that counts updates")
        others = {
            "the floor": floor,
            "the objective": objective.name,
            "the validation data": digest(sorted(examples.ids)),
            "the optimizer": f"{type(found).__name__} {found.defaults}",
            "the scheduler": type(planned).__name__,
            "the loss": getattr(loss or usual, "__qualname__", type(loss).__name__),
        }
        kept = None if checkpoint is None else Kept.of(Path(checkpoint), recipe, sized, feed, module, others)
        training = Training(
            updater,
            feed,
            Validation(Passes(views[1], feed.size), examples, sized, objective, seed),
            planned,
            floor=None if floor is None else float(floor),
            most_seconds=None if max_minutes is None else 60 * max_minutes,
            save=None if kept is None else kept.write,
            report=progress,
        )
        state = None if kept is None else kept.read()
        if state is not None:
            training.resume(state)
        training.run()
    course = training.course
    finished, after = copy.deepcopy(model), None
    put(_own_module(finished), course.best)
    if test_data is not None:
        proof: dict[str, Any] = {"device": device, "objective": objective, "normalize": normalize, **check}
        proof |= {"min_accuracy": floor, "stop_early": False, "seed": seed if before is None else before.seed}
        after = evaluate(finished, test_data, threat, name="after", **proof)
        if before is None or before.bound != "exact" or not _alike(before, after):
            before = evaluate(model, test_data, threat, name="before", **proof)
    if inplace:
        put(_own_module(model), course.best)
        finished = model
    return Retrained(
        model=finished,
        module=_own_module(finished),
        recipe=recipe,
        threat=str(sized.summary()),
        before=None if after is None else before,
        after=after,
        looks=tuple(course.looks),
        best=course.best_look,
        events=tuple(course.events),
        cost=Cost(*training.spent, time.perf_counter() - began),
        epochs=sum(training.spent) / (2 * feed.size),
        data=digest(sorted(feed.ids)) if feed.ids else None,
    )


def _alike(before: Evaluation, after: Evaluation) -> bool:
    """Whether both are the same check, so that examples can be paired."""
    same = ("ids", "objective", "profile", "schedule", "seed")
    return all(getattr(before, name) == getattr(after, name) for name in same) and (
        (before.threat.norm, before.threat.eps) == (after.threat.norm, after.threat.eps)
    )


def _checked(
    epochs: int | None, batch_size: int | None, optimizer: object, scheduler: object, check: Mapping[str, Any]
) -> None:
    unknown = [name for name in check if name not in inspect.signature(evaluate).parameters]
    if unknown:
        raise TypeError(f"retrain() and evaluate() know no argument {unknown[0]!r}")
    for what, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value is not None and not (isinstance(value, Integral) and value >= 1):
            raise ValueError(f"{what} must be a whole number, at least 1, got {value!r}")
    if isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(
            f"optimizer is a {type(optimizer).__name__} of the given model's parameters, and a copy of it is trained; give "
            f"a function: optimizer=lambda parameters: torch.optim.{type(optimizer).__name__}(parameters, lr=...)"
        )
    if scheduler is not None and (isinstance(scheduler, LRScheduler) or not callable(scheduler)):
        raise TypeError(
            f"scheduler is a {type(scheduler).__name__}, bound to an optimizer; give a function from the optimizer: "
            "scheduler=lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, ...)"
        )


def _view(adapted: Model, threat: Threat, objective: Objective) -> Model:
    """The model as the threat moves its point; one of edits remembers the texts that it encoded last, so each use has its
    own.
    """
    asking = Passes(adapted, 32)
    return under(adapted, threat, partial(upwards, objective, asking))


def _trainable(adapted: Model) -> nn.Module:
    """The module that runs. Of one that is frozen as a whole, as models are that only predict, all is trained.

    Raises:
        ModelError: there is none, or it has no parameters.
    """
    module = getattr(adapted, "module", None)
    if not isinstance(module, nn.Module) or not any(True for _ in module.parameters()):
        raise ModelError(f"{adapted.name} has no torch module with parameters inside, so there is nothing to train")
    if not _moving(module):
        module.requires_grad_(True)
    return module


def _moving(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


def _own_module(model: Any) -> nn.Module:
    """The module inside what the user gave, on the user's device."""
    inside = getattr(model, "module", None)
    if isinstance(model, nn.Module) or not isinstance(inside, nn.Module):
        return next(modules_in(model))
    return inside


def _width(adapted: Model, module: nn.Module) -> int | None:
    """Of a transformer, the dimension of its hidden states."""
    if isinstance(adapted, EmbeddedText):
        return int(adapted.embedded(torch.zeros(1, dtype=torch.int64, device=adapted.device)).shape[-1])
    return next((int(part.normalized_shape[-1]) for part in module.modules() if isinstance(part, nn.LayerNorm)), None)
