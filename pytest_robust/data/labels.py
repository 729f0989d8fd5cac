"""Labels as users have them, turned into one class number per example."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pytest_robust.errors import PreflightError


def as_labels(values: object, classes: Sequence[str] | None) -> Tensor:
    """(n,) int64 class numbers, on the CPU.

    Args:
        values: tensor, array or sequence of integers, integral floats, booleans, or names found in ``classes``.
        classes: class names by label, where known.

    Raises:
        PreflightError: one-hot or soft labels, fractions, NaN, negative or unnamed labels, or more than one dimension.
    """
    if not isinstance(values, Tensor):
        named = _as_names(values)
        if named is not None:
            return _numbers_of(named, classes)
    labels = _as_tensor(values)
    _check_shape(labels)
    if labels.is_complex():
        raise PreflightError(f"labels: they are {labels.dtype}; give one whole number per example, 0 for the first class")
    if labels.is_floating_point():
        _check_whole(labels)
    labels = labels.to(torch.int64)
    negative = (labels < 0).nonzero().flatten()
    if len(negative):
        i = int(negative[0])
        raise PreflightError(
            f"labels: example {i} has label {int(labels[i])}, and {len(negative)} of {len(labels)} are negative; "
            "labels count from 0, and a data set without labels (-1 or -100 in their place) cannot be evaluated"
        )
    if classes is not None and len(labels) and int(labels.max()) >= len(classes):
        i = int(labels.argmax())
        raise PreflightError(
            f"labels: example {i} has label {int(labels[i])}, but {len(classes)} classes are named, 0 to {len(classes) - 1}"
            "; name every class in classes=[...], or let labels count from 0"
        )
    return labels


def _as_names(values: object) -> list[str] | None:
    """The labels as strings, None where they are not."""
    if isinstance(values, np.ndarray):
        values = values.tolist() if values.dtype.kind in "USO" else []
    if not isinstance(values, (list, tuple)):
        return None
    return [str(v) for v in values] if values and all(isinstance(v, str) for v in values) else None


def _numbers_of(names: list[str], classes: Sequence[str] | None) -> Tensor:
    found = sorted(set(names))
    shown = ", ".join(repr(name) for name in found[:10]) + (", ..." if len(found) > 10 else "")
    if classes is None:
        raise PreflightError(
            f"labels: they are names ({shown}), and which output of the model each stands for is not known; "
            "pass classes=[...] in the order of the model's outputs"
        )
    number_of = {name: i for i, name in enumerate(classes)}
    missing = [name for name in found if name not in number_of]
    if missing:
        raise PreflightError(
            f"labels: {missing[0]!r} is not among the classes {', '.join(classes)}; add it to classes=[...], "
            "in the order of the model's outputs"
        )
    return torch.tensor([number_of[name] for name in names], dtype=torch.int64)


def _as_tensor(values: object) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().cpu()
    try:
        if isinstance(values, (list, tuple)):
            # One by one: a list of arrays or of zero-dimensional tensors is as common as a list of integers.
            return torch.stack([torch.as_tensor(v).detach().cpu() for v in values]) if values else torch.empty(0)
        array = np.array(values)
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
    except (TypeError, ValueError, RuntimeError) as error:
        raise PreflightError(
            f"labels: {type(values).__name__} cannot be read as one whole number per example ({error}); "
            "give a 1-d tensor, array or list of integers"
        ) from None


def _check_shape(labels: Tensor) -> None:
    shape = tuple(labels.shape)
    if len(shape) == 1:
        return
    if not shape:
        fix = "for one example, give inputs.unsqueeze(0) and a list with its label"
    elif len(shape) == 2 and shape[1] == 1:
        fix = "use labels.squeeze(1)"
    elif len(shape) == 2:
        fix = "one-hot or soft labels: use labels.argmax(1); several labels per example are not supported"
    else:
        fix = "give one label per example; (inputs, labels) is the order"
    raise PreflightError(f"labels: their shape is {shape}, where (n,) is needed; {fix}")


def _check_whole(labels: Tensor) -> None:
    for bad, what in (
        (~labels.isfinite(), "labels are missing or not finite; drop these examples"),
        (labels != labels.round(), "labels are fractions; regression and soft labels are not supported, use class numbers"),
    ):
        where = bad.nonzero().flatten()
        if len(where):
            i = int(where[0])
            raise PreflightError(f"labels: example {i} has label {float(labels[i])}; {len(where)} of {len(labels)} {what}")
