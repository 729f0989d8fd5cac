"""Float32 products computed in float32: an adversarial example must not owe its life to TF32 or bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def full_precision() -> Iterator[None]:
    """Inside, no TF32 and no bfloat16 passes on any backend. The settings are put back, also after an exception."""
    settings = _settings()
    before = [getattr(where, name) for where, name, _ in settings]
    try:
        for where, name, exact in settings:
            setattr(where, name, exact)
        yield
    finally:
        for (where, name, _), value in zip(settings, before, strict=True):
            setattr(where, name, value)


def _settings() -> list[tuple[Any, str, object]]:
    """Objects, attributes and their exact values. torch 2.9 has a setting per operation, and refuses a mix with the old."""
    backends = torch.backends
    if hasattr(backends.cuda.matmul, "fp32_precision"):
        operations = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]  # type: ignore[attr-defined]
        one_dnn = [getattr(backends.mkldnn, name, None) for name in ("matmul", "conv", "rnn")]
        return [(where, "fp32_precision", "ieee") for where in (*operations, *filter(None, one_dnn))]
    return [(backends.cuda.matmul, "allow_tf32", False), (backends.cudnn, "allow_tf32", False)]
