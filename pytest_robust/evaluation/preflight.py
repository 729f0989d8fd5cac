"""Before any attack: do the model, the data and the threat fit together? What does not would make every figure wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from scipy.stats import binom
from torch import Tensor

from pytest_robust.budget import Budget
from pytest_robust.data.examples import Examples
from pytest_robust.errors import ModelError, PreflightError, RobustError
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.result import HealthCheck
from pytest_robust.evaluation.votes import vote
from pytest_robust.levels import Level
from pytest_robust.models.outputs import is_out_of_memory
from pytest_robust.models.protocol import Batch, Model
from pytest_robust.objectives import Untargeted, lead
from pytest_robust.threats import EmbeddingBall, Threat
from pytest_robust.waivers import WAIVABLE, checked_waivers

_SLACK = 1e-5
"""How far inputs may lie outside the bounds, as a share of their width: what scaling to [0, 1] rounds away."""
_SURE = 0.01
"""Error probability of the chance test, on either side."""
_TINY, _HUGE = 1 / 1000, 1 / 2
"""Shares of the range of inputs below and from which a budget per feature is hardly meant in their units."""
_HALF = (torch.bfloat16, torch.float16)
_GRAINS = 4
"""Spacings of numbers at a typical coordinate below which a budget is lost in rounding."""
_GRADIENTS = 8
"""Examples on which a gradient is tried: all must fail before the model is said to have none."""


@dataclass(frozen=True)
class Preflight:
    """What the passes before the attack found.

    Attributes:
        logits: (n, C) clean logits, in data order, on the CPU. correct: (n,) bool, right without attack.
        predicted: (n,) class without attack. Of a random model logits are means, and the two others are decided by vote.
        findings: those that the user waived, and those that are no reason to stop.
        forward, backward: passes spent, one per example.
    """

    logits: Tensor
    correct: Tensor
    predicted: Tensor
    findings: tuple[HealthCheck, ...]
    forward: int
    backward: int


class Findings:
    """Collects findings; one that is not waived ends the evaluation."""

    def __init__(self, waive: Mapping[str, str] | None) -> None:
        """Raises PreflightError for a waiver of something unknown, or without a reason."""
        try:
            self._waive = checked_waivers(waive)
        except ValueError as error:
            raise PreflightError(str(error)) from None
        self.checks: list[HealthCheck] = []

    def stop(self, name: str, detail: str) -> None:
        """A finding that makes figures wrong: PreflightError, unless waived."""
        if name not in self._waive:
            hint = f" (if it is meant: waive={{{name!r}: 'the reason'}})" if name in WAIVABLE else ""
            raise PreflightError(f"{name}: {detail}{hint}")
        self.add(name, "invalid", detail)

    def add(self, name: str, level: Level, detail: str) -> None:
        """A finding that the health report shows."""
        self.checks.append(HealthCheck(name, level, detail).set_aside(self._waive))


def mode(model: Model, waive: Mapping[str, str] | None = None) -> tuple[HealthCheck, ...]:
    """Whether the user's model is in training mode; to be asked before ``model.isolated()``, which sets eval mode.

    Raises:
        PreflightError: parts that act differently in training mode are in it, unless waived as ``"mode"``.
    """
    findings = Findings(waive)
    parts = model.training_parts()
    if parts:
        more = f" and {len(parts) - 3} more" if len(parts) > 3 else ""
        findings.stop(
            "mode",
            f"{model.name} is in training mode: {', '.join(parts[:3])}{more} would act differently in use; "
            "call model.eval() first",
        )
    return tuple(findings.checks)


def preflight(
    model: Model, examples: Examples, threat: Threat, *, batch_size: int, waive: Mapping[str, str] | None = None
) -> Preflight:
    """One forward pass per example, and one backward pass on a few, before any attack; inside ``model.isolated()``.

    Args:
        examples: encoded. batch_size: examples per pass, halved when memory runs out.
        waive: reasons by names of findings (see ``waivers``): such a finding no longer stops the evaluation, and is shown as
            waived.

    Raises:
        PreflightError: inputs that are not finite or outside the bounds, labels that the model has no output for, outputs
            that are not finite, are probabilities, are constant or no better than chance, or no gradient. The message
            begins with the name of the check and ends with the fix. ModelError: the model raised.
    """
    findings = Findings(waive)
    passes = Passes(model, batch_size)
    _check_unit(threat, findings)
    check_grain(model, examples, threat)
    _check_inputs(model, examples, threat, batch_size, findings)
    logits = clean_logits(model, examples, passes)
    check_finite(logits, examples)
    check_labels(logits, examples)
    predicted, correct = _elected(model, examples, passes) if passes.random else _plain(logits, examples)
    if examples.references is None:  # else the outputs say how well something holds, and there is no class to guess
        _check_probabilities(logits, findings)
        _check_variety(logits, predicted, examples, findings)
        _check_chance(correct, logits.shape[1], findings)
    if model.space != "text":  # a function of texts has none, and says so
        _check_gradient(model, examples, passes, findings)
    return Preflight(logits, correct, predicted, tuple(findings.checks), passes.forward, passes.backward)


def check_grain(model: Model, examples: Examples, threat: Threat) -> None:
    """Raises PreflightError for an embedding ball that half precision rounds away: every example would survive."""
    if not isinstance(threat, EmbeddingBall) or threat.budget.value == 0 or model.dtype not in _HALF:
        return
    batch = model.batch(examples.take(max(examples.groups(range(len(examples))), key=len)[:_GRADIENTS]))
    free = torch.ones_like(batch.x[..., :1], dtype=torch.bool) if batch.free is None else batch.free
    typical = float(batch.x[free.expand_as(batch.x)].abs().median().clamp(min=torch.finfo(model.dtype).tiny))
    grain = torch.finfo(model.dtype).eps * 2.0 ** math.floor(math.log2(typical))
    change = threat.per_coordinate(batch.x.shape[-1], int(free.sum()) // len(batch.x))
    if change < _GRAINS * grain:
        spent = "" if threat.norm == "linf" else f", {change:.2g} per coordinate when spent evenly,"
        raise PreflightError(
            f"grain: eps {threat.budget}{spent} is {change / grain:.2g} times the spacing of "
            f"{str(model.dtype).removeprefix('torch.')} numbers at the median coordinate ({grain:.2g} at {typical:.2g}): "
            f"the attack would be rounded away, and everything survive. At least {_GRAINS} times are needed: evaluate "
            f"model.float(), or {_GRAINS * grain / change:.2g} times this eps"
        )


def _batches(model: Model, examples: Examples, size: int) -> Iterator[tuple[list[int], Batch]]:
    for group in examples.groups(range(len(examples))):
        for start in range(0, len(group), size):
            rows = group[start : start + size]
            yield rows, model.batch(examples.take(rows))


def _called(examples: Examples, i: int) -> str:
    return f"example {i} (id {examples.ids[i]})"


def _check_unit(threat: Threat, findings: Findings) -> None:
    """A budget that is hardly meant for inputs of this range."""
    eps, bounds = threat.budget, getattr(threat, "bounds", None)
    if eps.value == 0:
        findings.add("unit", "suspicious", "eps is 0: this is clean accuracy, nothing is attacked")
    elif threat.norm == "linf" and bounds is not None:
        low, high = (bound.flatten() for bound in torch.broadcast_tensors(*(torch.as_tensor(b).double() for b in bounds)))
        if bool((low.isfinite() & high.isfinite()).all()):
            narrow, wide = int((high - low).argmin()), int((high - low).argmax())
            detail = _too_small(eps, float(low[narrow]), float(high[narrow]))
            detail = detail or _too_large(eps, float(low[wide]), float(high[wide]))
            if detail is not None:
                findings.add("unit", "suspicious", detail)


def _too_small(eps: Budget, low: float, high: float) -> str | None:
    width = high - low
    share = float(eps) / width
    if share >= _TINY:
        return None
    meant = f" {float(eps) * width:.4g} would be {eps} of the range" if width != 1 else ""
    return f"eps {eps} is {100 * share:.2g}% of the range {low:g}..{high:g}: is it in the units of the inputs?{meant}"


def _too_large(eps: Budget, low: float, high: float) -> str | None:
    share = float(eps) / (high - low)
    if share < _HUGE:
        return None
    if share < 1:
        return f"eps {eps} is {100 * share:.3g}% of the range [{low:g}, {high:g}]: all inputs can be moved to the same point"
    pixels = (low, high) == (0, 1) and 1 < eps.value < 255 and eps.value.denominator == 1
    return f"eps {eps} covers the whole range [{low:g}, {high:g}]" + (f": did you mean {eps}/255?" if pixels else "")


def _check_inputs(model: Model, examples: Examples, threat: Threat, size: int, findings: Findings) -> None:
    bounds: tuple[float | Tensor, float | Tensor] | None = getattr(threat, "bounds", None)
    seen: list[Tensor] = []
    outside = 0
    threat.region(threat.origin(model.batch(examples.take([0])).x))  # Bounds or a mask of a wrong shape are best said here.
    for rows, batch in _batches(model, examples, size):
        flat = batch.x.flatten(1)
        broken = (~flat.isfinite().all(1)).nonzero().flatten()
        if len(broken):
            where = _called(examples, rows[int(broken[0])])
            findings.stop("inputs", f"{where} has values that are NaN or infinite; drop or fill in such examples")
        if bounds is not None and flat.shape[1]:
            low, high = (_broadcast(bound, batch.x) for bound in bounds)
            slack = _SLACK * (high - low)
            slack = torch.where(slack.isfinite(), slack, 0)
            outside += int(((batch.x < low - slack) | (batch.x > high + slack)).flatten(1).any(1).sum())
            seen.append(torch.stack([flat.min(), flat.max()]).double().cpu())
    if outside and bounds is not None:
        lowest, highest = float(min(s[0] for s in seen)), float(max(s[1] for s in seen))
        findings.stop("bounds", _explain_bounds(lowest, highest, bounds, outside, len(examples)))


def _broadcast(bound: float | Tensor, x: Tensor) -> Tensor:
    """A bound over a batch: a number, one value per channel, or one per feature."""
    values = torch.as_tensor(bound).to(x)
    if values.ndim == 1 and x.ndim > 2 and len(values) == x.shape[1]:
        return values.view(-1, *[1] * (x.ndim - 2))
    return values


def _explain_bounds(
    lowest: float, highest: float, bounds: tuple[float | Tensor, float | Tensor], outside: int, n: int
) -> str:
    if any(isinstance(bound, Tensor) and bound.ndim for bound in bounds):
        shown, unit = "their bounds, which are per feature", False
    else:
        low, high = (float(bound) for bound in bounds)
        shown, unit = f"bounds ({low:g}, {high:g})", (low, high) == (0, 1)
    if unit and lowest >= 0 and 16 < highest <= 255:
        fix = "this looks like 0-255 data: use inputs / 255"
    elif unit and lowest >= 0:
        fix = "scale the data to [0, 1], or give the threat bounds=(low, high) in its units"
    elif unit and lowest < 0 and highest - lowest < 20:
        fix = (
            "this looks like normalised data: give inputs as they were before, in [0, 1], and normalize=(mean, std); "
            "for features without natural limits bounds=None"
        )
    else:
        fix = "give the threat bounds=(low, high) that inputs can really take, or bounds=None where nothing limits them"
    return f"inputs range from {lowest:.4g} to {highest:.4g}, and {outside} of {n} examples leave {shown}; {fix}"


def clean_logits(model: Model, examples: Examples, passes: Passes) -> Tensor:
    """(n, C) on the CPU, in data order."""
    order: list[int] = []
    parts: list[Tensor] = []
    for rows, batch in _batches(model, examples, passes.most):
        part = passes.logits(batch.x, batch.context).detach().cpu()
        if parts and part.shape[1] != parts[0].shape[1]:
            raise ModelError(
                f"{model.name} returned {parts[0].shape[1]} logits for {_called(examples, order[0])} and {part.shape[1]} "
                f"for {_called(examples, rows[0])}; the number of classes must be the same for all"
            )
        order += rows
        parts.append(part)
    logits = torch.cat(parts)
    return torch.empty_like(logits).index_copy_(0, torch.tensor(order), logits)


def _plain(logits: Tensor, examples: Examples) -> tuple[Tensor, Tensor]:
    predicted = logits.argmax(1)
    return predicted, predicted == examples.labels


def _elected(model: Model, examples: Examples, passes: Passes) -> tuple[Tensor, Tensor]:
    """The class that most draws name, where they are wrong most of the wrong, and whether most are right; in data order."""
    predicted, correct = torch.empty(len(examples), dtype=torch.int64), torch.empty(len(examples), dtype=torch.bool)
    for row, label in enumerate(examples.labels.tolist()):
        batch = model.batch(examples.take([row]))
        ballot = vote(passes, batch.x, batch.context, Untargeted().broken, torch.tensor([label], device=batch.x.device))
        correct[row] = ballot.right
        predicted[row] = label if ballot.right else ballot.predicted
    return predicted, correct


def check_finite(logits: Tensor, examples: Examples) -> None:
    broken = (~logits.isfinite().all(1)).nonzero().flatten()
    if len(broken):
        raise PreflightError(
            f"outputs: the model returned NaN or infinity for {len(broken)} of {len(logits)} examples, first for "
            f"{_called(examples, int(broken[0]))}; look for a division by zero, log(0), missing weights or half precision "
            "that overflows"
        )


def check_labels(logits: Tensor, examples: Examples) -> None:
    outputs, labels = logits.shape[1], examples.labels
    beyond = (labels >= outputs).nonzero().flatten()
    if len(beyond):
        i = int(beyond[0])
        from_one = int(labels.min()) == 1 and int(labels.max()) == outputs
        fix = "labels count from 0: use labels - 1" if from_one else "use this model's own label numbers, from 0"
        raise PreflightError(
            f"labels: {_called(examples, i)} has label {int(labels[i])}, but the model has {outputs} outputs, 0 to "
            f"{outputs - 1}; {fix}"
        )


def _check_probabilities(logits: Tensor, findings: Findings) -> None:
    """Saturated probabilities have no gradients, and losses made for logits misjudge them."""
    if not bool(((logits >= 0) & (logits <= 1 + 1e-3)).all()):
        return
    single = bool((logits[:, 0] == 0).all()) and logits.shape[1] == 2
    if bool(((logits.sum(1) - 1).abs() < 1e-3).all()):
        findings.stop("probabilities", "every output is a row of probabilities; return the logits, before softmax")
    # A few true logits may all lie in [0, 1].
    elif single and len(logits) >= 4:
        findings.stop("probabilities", "every single output lies in [0, 1]; return the logit, before sigmoid")
    elif logits.shape[1] > 2 and logits.numel() >= 40:
        findings.stop("probabilities", "every output lies in [0, 1]; return the logits, before sigmoid")


def _check_variety(logits: Tensor, predicted: Tensor, examples: Examples, findings: Findings) -> None:
    if len(set(examples.ids)) > 1 and bool((logits == logits[0]).all()):
        findings.stop(
            "constant",
            f"the outputs are the same for all {len(logits)} examples, so they do not depend on the input; "
            "check that trained weights are loaded and that the inputs reach the first layer",
        )
    only = int(predicted[0])
    labels = len(set(examples.labels.tolist()))
    if len(predicted) >= 10 and labels > 1 and bool((predicted == only).all()):
        findings.add(
            "one-class",
            "suspicious",
            f"every example is predicted as class {only}, and the data has {labels} classes; "
            "is the model trained, and are the inputs scaled as in training?",
        )


def _check_chance(correct: Tensor, outputs: int, findings: Findings) -> None:
    """Stops when guessing explains the accuracy, and a model halfway between guessing and perfect does not.

    The second half keeps small samples, on which nothing is certain, from raising an alarm.
    """
    n, k = len(correct), int(correct.sum())
    chance = 1 / outputs
    guessing, working = float(binom.sf(k - 1, n, chance)), float(binom.cdf(k, n, (1 + chance) / 2))
    if guessing > _SURE and working < _SURE:
        findings.stop(
            "chance",
            f"clean accuracy {100 * k / n:.1f}% ({k} of {n}), where guessing gives {100 * chance:.3g}%: labels or "
            "preprocessing wrong? Compare the order of labels with that of outputs, and the scale of inputs with training",
        )


def _check_gradient(model: Model, examples: Examples, passes: Passes, findings: Findings) -> None:
    group = max(examples.groups(range(len(examples))), key=len)
    rows = group[:: max(1, len(group) // _GRADIENTS)][:_GRADIENTS]
    batch = model.batch(examples.take(rows))
    tracked: list[bool] = []

    def loss(logits: Tensor, _: slice) -> Tensor:
        tracked.append(logits.requires_grad)
        return lead(logits)

    try:
        _, _, grad = passes.gradient(loss, batch.x, batch.context)
    except RobustError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"{model.name} runs forward, but its backward pass raised {type(error).__name__}: {error}; "
            "attacks need the gradient with respect to the input"
        ) from error
    flat = grad.flatten(1)
    if bool((~flat.isnan().any(1) & (flat != 0).any(1)).any()):
        return
    if not any(tracked):
        reason = "the outputs are cut off from the input (torch.no_grad, .detach(), .numpy() or .data in forward?)"
    else:
        reason = "it is zero or not finite everywhere (rounding, argmax, a sign or a saturated output in forward?)"
    findings.stop(
        "gradient",
        f"no gradient reaches the input on any of {_count(rows)}: {reason}; attacks by gradient cannot work; "
        "make the forward pass differentiable, or name the submodule that is not: non_differentiable=[...]",
    )


def _count(rows: Sequence[int]) -> str:
    return f"{len(rows)} examples" if len(rows) > 1 else "the one example"
