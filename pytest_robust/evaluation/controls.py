"""Positive controls: tasks that have a solution, on the user's own model. A search that fails there is no evidence.

They have outcomes of their own and change none: no example is broken here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.attacks import PGD
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.probes import margin_loss
from pytest_robust.evaluation.result import HealthCheck
from pytest_robust.evaluation.subjects import Subjects, Task
from pytest_robust.levels import Level
from pytest_robust.threats import Ball, EmbeddingBall, Linf, Threat

_POINTS = 64
"""Random points of the region, of which the best sets the mark."""
_SEARCH = PGD("margin", n_steps=20, step_size=1.0, schedule="cosine", momentum=0.25, random_start=False, label="control")
_LEAST, _MOST, _SHARE = 8, 16, 0.04
"""Survivors on which the controls are run: at least, at most, and the share of the attacks' passes that they may take."""

_FAR = 1e30
"""Stands for no bound at all."""


def controls_sample(spent: int) -> int:
    """How many survivors get the controls, after attacks that took so many passes."""
    passes = _POINTS + 1 + 2 * (2 * _SEARCH.n_steps + 1)
    return max(_LEAST, min(_MOST, int(_SHARE * spent) // passes))


def planted(subjects: Subjects, passes: Passes, rows: Sequence[int]) -> HealthCheck:
    """Does the search find adversarial examples that are known to exist?

    The task is another one on the same logits: a random readout of them must reach the largest value that it has on random
    points at the far side of the region. So a solution exists, and gradients should find a better one (the active test of
    Zimmermann et al., "Increasing confidence in adversarial robustness evaluations", NeurIPS 2022, with one threshold in
    place of their trained readout).
    """
    found = 0
    for group in subjects.examples.groups(rows):
        readout, mark = _task(subjects, passes, group)
        # A hundredth is the length of the last steps.
        found += int((_climb(subjects, passes, group, readout) >= 0.99 * mark - _rounding(mark)).sum())
    level = _level(len(rows) - found, len(rows), 0.25, 0.5)
    if level == "trusted":
        return HealthCheck("planted", level, f"gradients find adversarial examples that exist, on {found} of {len(rows)}")
    detail = (
        f"of {len(rows)} adversarial examples that exist for a random readout of the logits, near survivors, gradients find "
        f"{found}: they do not lead where this model can be moved; look for noise, rounding, a custom backward(), functions "
        "that oscillate"
    )
    return HealthCheck("planted", level, detail)


def _task(subjects: Subjects, passes: Passes, rows: Sequence[int]) -> tuple[Callable[[Tensor, slice], Tensor], Tensor]:
    """A random readout of the logits' change, and (B,) its largest value on random points of the regions."""
    x, context, region = subjects.place(rows)
    keys = subjects.put(torch.tensor([keyed.key(subjects.seed, subjects.examples.ids[row], "planted") for row in rows]))
    clean = passes.logits(x, context)
    scale = subjects.put(subjects.scale[list(rows)])
    weights = keyed.uniform(keys, tuple(clean.shape[1:]), stream=1) - 0.5

    def readout(logits: Tensor, part: slice) -> Tensor:
        # Of the change, so that a class with a huge constant logit rounds nothing away.
        return ((logits - clean[part]) / scale[part].unsqueeze(1) * weights[part]).sum(1)

    values = []
    for number in range(_POINTS):
        stream = keyed.child(keys, torch.full_like(keys, number))
        direction = (keyed.uniform(stream, tuple(x.shape[1:])) - 0.5).to(x.dtype)
        point = subjects.threat.maximise(direction, region)
        values.append(readout(passes.logits(point, context), slice(None)).nan_to_num(0.0))
    most, least = torch.stack(values).amax(0), torch.stack(values).amin(0)
    # The way in which random points go farther, for the clean point must not solve the task.
    weights = torch.where(most < -least, -1.0, 1.0).unsqueeze(1) * weights
    return readout, torch.maximum(most, -least)


def huge_budget(subjects: Subjects, passes: Passes, rows: Sequence[int]) -> HealthCheck | None:
    """Does the search break survivors when they may be moved by half of what inputs range over?

    All inputs can be moved to the middle then. Where that point is broken a solution exists, and a search that finds none
    does not work (Carlini et al., "On evaluating adversarial robustness", 2019). None where no such budget is known.
    """
    breakable = broken = 0
    for group in subjects.examples.groups(rows):
        x, context, _ = subjects.place(group)
        widened = _widened(subjects.threat, x)
        if widened is None:
            return None
        threat, middle = widened
        wide = subjects.under(threat)
        _, loss = margin_loss(wide, group)
        point = threat.project(middle.expand_as(x), wide.place(group)[2])
        solvable = loss(passes.logits(point, context), slice(None)) > 0
        breakable += int(solvable.sum())
        broken += int((solvable & (_climb(wide, passes, group, loss) > 0)).sum())
    said = f"with half of the inputs' range as budget, gradients break {broken} of {breakable} that the middle breaks"
    level = _level(breakable - broken, breakable, 0.1, 0.3)
    if level == "trusted":
        return HealthCheck("huge-budget", level, said)
    detail = f"{said}: they do not lead where the model is weak; look for rounding, saturation, a custom backward()"
    return HealthCheck("huge-budget", level, detail)


def _widened(threat: Threat, x: Tensor) -> tuple[Threat, Tensor] | None:
    """Linf with half of the range of the inputs, as bounded, or as seen in ``x``; and the middle of that range."""
    if not isinstance(threat, Ball) or threat.mask is not None:
        return None
    box = Linf(_FAR, threat.bounds).region(x)
    low, high = box.lower.amin(0), box.upper.amax(0)
    low, high = torch.where(low > -_FAR / 2, low, x.min()), torch.where(high < _FAR / 2, high, x.max())
    half = float((high - low).max() / 2)
    if half == 0:
        return None
    wide = replace(threat, eps=half, norm="linf") if isinstance(threat, EmbeddingBall) else Linf(half, threat.bounds)
    return wide, (low + high) / 2


def _climb(subjects: Subjects, passes: Passes, rows: Sequence[int], loss: Callable[[Tensor, slice], Tensor]) -> Tensor:
    """(B,) the largest loss that the search meets."""
    live = subjects.begin(_SEARCH, [Task(row) for row in rows])
    best = torch.full((len(rows),), -torch.inf, device=live.x.device)
    for _ in range(_SEARCH.n_steps):
        _, value, grad = passes.gradient(loss, live.x, live.context)
        best = torch.fmax(best, value.float())
        _SEARCH.update(subjects.threat, live, value, grad.nan_to_num(0.0))
        live.step = live.step + 1
    return torch.fmax(best, loss(passes.logits(live.x, live.context), slice(None)).float())


def _rounding(size: Tensor) -> Tensor:
    return 64 * torch.finfo(torch.float32).eps * (1 + size.abs())


def _level(failed: int, of: int, suspicious: float, invalid: float) -> Level:
    if failed >= 3 and failed > invalid * of:
        return "invalid"
    return "suspicious" if failed >= 2 and failed > suspicious * of else "trusted"
