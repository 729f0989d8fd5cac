"""What models return, turned into one row of logits per example."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pytest_robust.errors import ModelError

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "defaultcpuallocator")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out, on any device: a smaller batch may then succeed."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _OUT_OF_MEMORY)


def as_logits(output: object, batch_size: int) -> Tensor:
    """The logits in a model's output, (B, C) float32 or float64 with C >= 2, still on the autograd graph.

    Unwraps objects with ``.logits`` (Hugging Face, torchvision's Inception), mappings with ``"logits"`` and tuples or lists
    that begin with a tensor. A single logit z, (B, 1) or (B,), becomes the two classes [0, z]: class 1 iff z > 0.

    Args:
        output: what the model returned for ``batch_size`` examples.

    Raises:
        ModelError: not one row of logits per example; says what came instead and what to return.
    """
    logits = _unwrap(output)
    if not logits.is_floating_point():
        raise ModelError(
            f"the model returned {logits.dtype} values of shape {tuple(logits.shape)}, which look like predicted labels; "
            "return the floating-point logits, before any argmax"
        )
    if logits.dtype not in (torch.float32, torch.float64):
        logits = logits.float()
    shape = tuple(logits.shape)
    if batch_size == 1 and (logits.ndim == 0 or (logits.ndim == 1 and shape[0] > 1)):
        # A model that ends in squeeze() loses the batch dimension of a batch of one.
        logits = logits.unsqueeze(0)
    if logits.ndim == 0 or logits.ndim > 2:
        raise ModelError(_wrong_rank(shape, batch_size))
    if logits.shape[0] != batch_size:
        raise ModelError(
            f"the model returned shape {shape} for a batch of {batch_size}; the first dimension must be the batch, "
            "so that there is one row of logits per example"
        )
    if logits.ndim == 1:
        logits = logits.unsqueeze(1)
    if logits.shape[1] == 0:
        raise ModelError(f"the model returned shape {shape}: no classes; return one logit per class")
    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits


def _unwrap(output: object) -> Tensor:
    if isinstance(output, Tensor):
        return output
    found = getattr(output, "logits", None)
    if isinstance(found, Tensor):
        return found
    if isinstance(output, Mapping):
        if isinstance(output.get("logits"), Tensor):
            return _unwrap(output["logits"])
        keys = ", ".join(repr(key) for key in output)
        raise ModelError(
            f"the model returned a mapping with {keys or 'nothing'} and no 'logits'; return the logits, "
            "or wrap the model in a module that does"
        )
    if isinstance(output, (tuple, list)) and output and isinstance(output[0], Tensor):
        return output[0]
    if type(output).__module__.partition(".")[0] == "numpy":
        raise ModelError(
            "the model returned a numpy array, through which no gradient can flow; return a torch tensor of logits"
        )
    raise ModelError(
        f"the model returned {type(output).__qualname__}, not logits; return a tensor with one row of logits per example, "
        "or an object with .logits"
    )


def _wrong_rank(shape: tuple[int, ...], batch_size: int) -> str:
    what = f"the model returned shape {shape} for a batch of {batch_size}, where (batch, classes) is needed"
    if len(shape) == 3:
        return (
            f"{what}; (batch, tokens, classes) is what language models and token classifiers return: "
            "use a sequence classifier, or wrap the model to return one row per example"
        )
    if len(shape) >= 4 and all(size == 1 for size in shape[2:]):
        return f"{what}; end the model with .flatten(1)"
    if len(shape) >= 4:
        return (
            f"{what}; a map of logits is what segmentation models return: pool it to one row per example, "
            "or wrap the model to return one"
        )
    return f"{what}; keep the batch dimension"
