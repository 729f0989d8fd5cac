"""Probes of survivors: could their gradients lead anywhere?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.result import HealthCheck
from pytest_robust.evaluation.subjects import Subjects
from pytest_robust.levels import LEVELS, Level

SLOPES = 32
"""Survivors whose gradient is compared with the loss: two forward passes and a backward pass each."""
_STRIDE, _LONG_STRIDE = 0.1, 1.0
"""Length of the step on which they are compared, as a share of the radius: that of an attack's finer steps. The second for
gradients of an approximation, when the first says little: rounding follows its approximation over many of its steps only."""
_NOTICEABLE, _MUCH = 1e-3, 1e-2
"""Changes of logits, as shares of their spread: more than rounding makes, and enough to matter."""


def slope(subjects: Subjects, passes: Passes, rows: Sequence[int]) -> HealthCheck:
    """Does the loss rise along its gradient as much as the gradient says?

    A step of a tenth of the radius in the direction of steepest ascent; the rise of the margin loss divided by the rise that
    the gradient foretells. It is 1 on a linear model, and about 1 on any that is smooth at that scale. Gradients that are
    shattered, random or of the wrong sign lead nowhere (Athalye et al., "Obfuscated gradients", ICML 2018); where a function
    jumps all the time (k-winners-take-all: Xiao et al., ICLR 2020), they are right on average at best.
    """
    finding = _slope(subjects, passes, rows, _STRIDE)
    if finding.level == "trusted" or not subjects.model.approximated:
        return finding
    return min(finding, _slope(subjects, passes, rows, _LONG_STRIDE), key=lambda one: LEVELS.index(one.level))


def _slope(subjects: Subjects, passes: Passes, rows: Sequence[int], stride: float) -> HealthCheck:
    ratios: list[float] = []
    for group in subjects.examples.groups(rows):
        ratios += _ratios(subjects, passes, group, stride)
    if not ratios:
        return HealthCheck("slope", "trusted", "no gradient to compare the loss with")
    median = float(torch.tensor(ratios).median())
    rising = sum(ratio > 0 for ratio in ratios) / len(ratios)
    foretold = sum(0.1 <= ratio <= 2 for ratio in ratios) / len(ratios)
    level: Level = "trusted"
    # The median alone may be right where the single ratios are wild.
    if median < 0.1 or rising < 0.75 or foretold < 0.75:
        level = "invalid"
    elif not 0.5 <= median <= 2 or foretold < 0.9:
        level = "suspicious"
    said = f"along its gradient the loss rises {median:.2g} times as much as the gradient says"
    if level == "trusted":
        return HealthCheck("slope", level, said)
    detail = (
        f"{said}; of {len(ratios)} survivors it rises on {100 * rising:.0f}%, nearly as foretold on {100 * foretold:.0f}%: "
        "gradients do not say where the model is weak; look for noise, a custom backward(), functions that oscillate or "
        "jump, layers cut off from the gradient, or an approximation (non_differentiable) that is not close"
    )
    return HealthCheck("slope", level, detail)


def _ratios(subjects: Subjects, passes: Passes, rows: Sequence[int], length: float) -> list[float]:
    """Rise of the loss over the rise foretold, for those that have a gradient where they may move."""
    x, context, region = subjects.place(rows)
    scale, loss = margin_loss(subjects, rows)
    logits, here, grad = passes.gradient(loss, x, context)
    grad = grad.nan_to_num(0.0, 0.0, 0.0)
    stride = torch.full((len(rows),), length, device=x.device, dtype=x.dtype)
    moved = subjects.threat.step(x, grad, stride, region)
    there = loss(passes.logits(moved, context), slice(None))
    foretold = (grad * (moved - x)).flatten(1).sum(1)
    # Below that the rise of the loss is rounding.
    size = (logits / scale.unsqueeze(1)).abs().amax(1)
    usable = foretold > 64 * torch.finfo(logits.dtype).eps * (1 + size)
    return [float(r) for r in ((there - here) / torch.where(usable, foretold, 1.0))[usable].nan_to_num(0.0).tolist()]


def margin_loss(subjects: Subjects, rows: Sequence[int]) -> tuple[Tensor, Callable[[Tensor, slice], Tensor]]:
    """The spread of the clean logits of these rows, and the margin loss of their logits."""
    goal, scale = (subjects.put(tensor[list(rows)]) for tensor in (subjects.goal, subjects.scale))

    def loss(logits: Tensor, part: slice) -> Tensor:
        return subjects.objective.loss("margin", logits / scale[part].unsqueeze(1), goal[part], goal[part])

    return scale, loss


def cut_off(subjects: Subjects, passes: Passes, rows: Sequence[int]) -> HealthCheck:
    """Do features matter that no gradient reaches?

    Of those whose gradient is zero on all these examples, at the clean points and at random ones, each is moved to a random
    value. Where nothing depends on them (a dead border of an image), the logits stay. The gradient is that of a mixture of
    all logits: some feature may matter for none but the class that comes last, which a margin never looks at.
    """
    fine = "the outputs depend on no feature that gradients do not reach"
    group = max(subjects.examples.groups(rows), key=len)
    x, context, region = subjects.place(group)
    scale = subjects.put(subjects.scale[group])

    def mixed(logits: Tensor, part: slice) -> Tensor:
        # No whole numbers: logits that are multiples of each other must not cancel.
        weights = torch.arange(1, logits.shape[1] + 1, device=logits.device, dtype=logits.dtype).sqrt()
        return (logits / scale[part].unsqueeze(1)) @ weights

    keys = [keyed.key(subjects.seed, subjects.examples.ids[row], "cut-off") for row in group]
    elsewhere = subjects.threat.start(region, subjects.put(torch.tensor(keys)))
    clean, _, grad = passes.gradient(mixed, x, context)
    _, _, other = passes.gradient(mixed, elsewhere, context)
    unseen = ((grad == 0) & (other == 0)).all(0) & (region.upper > region.lower).any(0)
    if not bool(unseen.any()):
        return HealthCheck("cut-off", "trusted", fine)
    moved = passes.logits(torch.where(unseen, elsewhere, x), context)
    change = float(((moved - clean).abs().amax(1) / scale).nan_to_num(torch.inf).max())
    if change <= _NOTICEABLE:
        return HealthCheck("cut-off", "trusted", fine)
    detail = (
        f"moving the {int(unseen.sum())} of {unseen.numel()} features that no gradient reaches changes the logits by "
        f"{100 * change:.2g}% of their spread: attacks cannot see them; look for rounding, .detach() or no_grad() on part "
        "of the input; non_differentiable=[...] lets gradients past a submodule"
    )
    return HealthCheck("cut-off", "invalid" if change > _MUCH else "suspicious", detail)
