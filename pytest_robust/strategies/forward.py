"""Logits without attack, for a few inputs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pytest_robust.data.examples import Examples
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.precision import full_precision
from pytest_robust.evaluation.preflight import check_finite, clean_logits, mode
from pytest_robust.models import Normalize, adapt

_BATCH = 256


def logits_of(
    model: object,
    examples: Examples,
    *,
    device: str = "auto",
    normalize: Normalize | None = None,
    classes: Sequence[str] | None = None,
) -> Tensor:
    """(n, C) logits on the CPU, in data order. Nothing of the user's is changed.

    Raises:
        PreflightError: the model is in training mode, or gives NaN or infinity. ModelError: it failed.
    """
    adapted = adapt(model, device=device, normalize=normalize, classes=classes)
    mode(adapted)
    with full_precision(), adapted.isolated():
        encoded = adapted.encode(examples)
        logits = clean_logits(adapted, encoded, Passes(adapted, _BATCH))
    check_finite(logits, examples)
    return logits
