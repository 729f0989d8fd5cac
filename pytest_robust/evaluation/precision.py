"""float32 products in full: what torch allows instead is switched off, and put back."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

_FULL = "ieee"
_INHERITED = "none"


@contextmanager
def full_precision() -> Iterator[None]:
    """Inside, float32 products are computed in float32: no TF32, no bfloat16 passes. The settings are put back.

    torch has two sets of settings: an old one, and since 2.9 ``fp32_precision``, one per backend and operation. Setting the
    old one writes to the new one, setting the new one leaves the old one as it is, and reading the old one raises where the
    two disagree. So both are set, which also lets a model read and set either of them in its forward pass.
    """
    restore_operations = _inherit_full_precision() if hasattr(torch.backends, "fp32_precision") else None
    with _quiet():
        products, convolutions = torch.get_float32_matmul_precision(), _convolutions_allow_tf32()
    try:
        _set_old("highest", False)
        yield
    finally:
        _set_old(products, convolutions)
        if restore_operations is not None:
            restore_operations()


def _set_old(products: str, convolutions: bool) -> None:
    with _quiet():
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions


def _convolutions_allow_tf32() -> bool:
    try:
        return torch.backends.cudnn.allow_tf32
    except RuntimeError:
        # The new settings say full precision by now; that torch sees a contradiction means that the old one allows TF32.
        return True


@contextmanager
def _quiet() -> Iterator[None]:
    """torch 2.9 and 2.10 warn, once, of any use of the old settings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _inherit_full_precision() -> Callable[[], None]:
    """Sets full precision for all backends and operations; gives what puts back how it was.

    What a setting reads as may be its parent's. Which ones were set themselves is found out by changing the parents: else
    all would be set themselves afterwards, and a later ``torch.backends.fp32_precision = ...`` would do nothing.
    """
    cudnn: Any = torch.backends.cudnn
    mkldnn: Any = torch.backends.mkldnn
    backends = (cudnn, mkldnn)
    operations = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn)
    every = (torch.backends, *backends, *operations)
    read = [_read(part) for part in every]
    own = [_read(torch.backends), *_own(backends)]
    for part in backends:
        _write(part, _INHERITED)
    own += _own(operations)
    for part in operations:
        _write(part, _INHERITED)
    _write(torch.backends, _FULL)

    def restore() -> None:
        for part, value, seen in zip(every, own, read, strict=True):
            _write(part, value)
            # torch's default for cuDNN gives way to a parent's setting, but cannot be set: it becomes what it reads as.
            if _read(part) != seen:
                _write(part, seen)

    return restore


def _own(parts: Sequence[Any]) -> list[str]:
    """What each part is set to itself: what it reads as whatever the topmost setting is."""
    seen = []
    for top in (_FULL, "tf32"):
        _write(torch.backends, top)
        seen.append([_read(part) for part in parts])
    return [one if one == other else _INHERITED for one, other in zip(*seen, strict=True)]


def _read(part: Any) -> str:
    return str(part.fp32_precision)


def _write(part: Any, value: str) -> None:
    if part is torch.backends.mkldnn:
        # Assigning to the attribute sets that of torch.backends instead (in 2.9 to 2.13, at least).
        part.set_flags(_fp32_precision=value)
    else:
        part.fp32_precision = value
