"""An adversarial example found before, put to a model once more: one example by itself, and no attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pytest_robust.data.examples import Examples
from pytest_robust.errors import ModelError, PreflightError
from pytest_robust.evaluation.preflight import check_finite, check_labels
from pytest_robust.evaluation.prepare import opened
from pytest_robust.evaluation.votes import vote
from pytest_robust.models import NonDifferentiable, Normalize, adapt
from pytest_robust.objectives import Objective, Untargeted
from pytest_robust.threats import Edits, Threat

_RTOL, _ATOL = 1e-5, 1e-7
"""How far rounding may put a point outside the threat that it was found in."""


@dataclass(frozen=True)
class Retried:
    """What a model makes of an adversarial example found before.

    Attributes:
        example: the one example, as the user's data has it.
        verdict: ``"broken"``: the model is wrong, at the point or without any attack. ``"mended"``: at neither.
            ``"outside"``: the point is not in the threat any more, and the nearest one inside breaks nothing.
            ``"contested"``: of a model that is random, the draws do not say.
        clean_wrong: the model is wrong without any attack. inside: the point is in the threat as it was found.
        predicted: the class at the point that was tried; without any attack where that is wrong already.
        origin, point: (...) on the CPU: the clean point, and the one that was tried.
    """

    example: Examples
    verdict: Literal["broken", "mended", "outside", "contested"]
    clean_wrong: bool
    inside: bool
    predicted: int
    origin: Tensor
    point: Tensor


def retry(
    model: object,
    data: object,
    id: str,
    threat: Threat,
    point: Tensor,
    *,
    origin: Tensor | None = None,
    objective: Objective | None = None,
    seed: int = 0,
    device: str = "auto",
    classes: Sequence[str] | None = None,
    normalize: Normalize | None = None,
    non_differentiable: NonDifferentiable | None = None,
    draws: int | None = None,
    waive: Mapping[str, str] | None = None,
) -> Retried:
    """Whether the model is still wrong at the point, by fresh passes, or votes, of its own.

    Args:
        id: content id of the example among ``data``. point: (...) in the space of the threat.
        origin: (...) the clean point when ``point`` was found. Where the model puts the example elsewhere now, as other word
            vectors do, the same change is made from there. None: the point is taken as it is.
        model, data, threat, ...: see ``evaluate``.

    Raises:
        PreflightError: no example of ``data`` has this id, its input has another shape in the model now, or the model cannot
            be asked about it. ModelError, ThreatError: see ``evaluate``; and ModelError where nothing breaks, and the model
            itself proposes what a point stands for.
    """
    adapted = adapt(model, device=device, normalize=normalize, classes=classes, non_differentiable=non_differentiable)
    examples = adapted.read(data)
    if id not in examples.ids:
        raise PreflightError(
            f"data: none of the {len(examples)} examples has the content id {id}, so the input or its label has changed "
            "since; a changed example is another one, and has to be attacked anew"
        )
    example = examples.subset([examples.ids.index(id)])
    with opened(
        adapted,
        example,
        threat,
        objective=objective,
        profile="standard",
        attacks=None,
        n=None,
        seed=seed,
        batch_size=1,
        device="auto",
        classes=None,
        normalize=None,
        waive=waive,
        non_differentiable=None,
        draws=draws,
        autocast=False,
    ) as known:
        batch = known.model.batch(known.encoded.take([0]))
        x, context, passes = batch.x.detach(), batch.context, known.passes
        logits = passes.logits(x, context).cpu()
        check_finite(logits, example)
        check_labels(logits, example)
        if point.shape != x.shape[1:]:
            raise PreflightError(
                f"inputs: example {id} has shape {tuple(x.shape[1:])} in {known.model.name}, and its adversarial example "
                f"{tuple(point.shape)}: it was found in a model that takes other inputs, or under another threat"
            )
        threat = known.threat
        region = threat.region(x, batch.free)
        stored = point.unsqueeze(0).to(x)
        if origin is not None and not torch.equal(x, origin.unsqueeze(0).to(x)):
            stored = x + (point - origin).to(x)
        sealed = threat.seal(stored, region)
        # As it is where it may be: even the rounding of a projection could undo what hangs on the last digit.
        tried = stored if bool(threat.contains(stored, region)) else sealed
        inside = torch.allclose(tried, stored, rtol=_RTOL, atol=_ATOL)
        if not bool(passes.logits(tried, context).isfinite().all()):
            raise ModelError(
                f"{known.model.name} returned NaN or infinity at the adversarial example of {id}, which is neither right "
                "nor wrong; look for a division by zero, log(0) or half precision that overflows"
            )
        label = example.labels.to(x.device)
        clean = vote(passes, x, context, Untargeted().broken, label)
        there = vote(passes, tried, context, known.objective.broken, known.objective.goal(example.labels).to(x.device))
    verdict: Literal["broken", "mended", "outside", "contested"] = "mended"
    if not clean.right or there.broken:
        verdict = "broken"
    elif not there.right:
        verdict = "contested"
    elif not inside:
        verdict = "outside"
    if verdict != "broken" and isinstance(threat, Edits) and threat.is_open:
        raise ModelError(
            f"{known.model.name} proposes the words that may stand in a text, so the adversarial example of {id} may be "
            "another text now than the one that was found, and that it breaks nothing says nothing; run the check instead"
        )
    predicted = there.predicted if clean.right else clean.predicted
    return Retried(example, verdict, not clean.right, inside, predicted, x[0].cpu(), tried[0].cpu())
