"""A torch module may be run inside, and on leaving nothing of it has changed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from pytest_robust.models.submodules import parameters, submodules
from pytest_robust.random_state import preserved_random_state


@contextmanager
def isolated(module: nn.Module) -> Iterator[None]:
    """Run ``module`` in eval mode, without parameter gradients; then put everything back as it was.

    On leaving, also by an exception, these are byte-identical to what they were: the train flag of every submodule, its
    buffers (also those not persistent, replaced, added or removed), ``requires_grad`` and ``.grad`` of every parameter,
    and the global random states. That holds for modules in its lists and dictionaries, too. Hooks are neither added nor
    removed. Inside, autocast and inference mode are off and gradients with respect to inputs can be taken, whatever
    the caller has set.
    """
    with ExitStack() as stack:
        stack.enter_context(preserved_random_state())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        parts, tensors = submodules(module), parameters(module)
        for kind in {"cpu", *(p.device.type for p in tensors)} - {"meta"}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        stack.callback(_buffers_of(parts))
        stack.callback(_parameters_of(tensors))
        stack.callback(_train_flags_of(parts))
        for submodule in parts:
            # Not .eval(): it calls train(), which users override with side effects (merged LoRA weights, say).
            if getattr(submodule, "training", False):
                submodule.training = False
        for parameter in tensors:
            # Input gradients are all that is needed; this saves the memory and time of the others.
            if parameter.requires_grad:
                parameter.requires_grad_(False)
        yield


def uncompiled() -> AbstractContextManager[None]:
    """Inside, what ``torch.compile`` compiled runs as it is written: compiled code misses new hooks, or keeps them."""
    if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):
        eager: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
        return eager
    return nullcontext()


def _train_flags_of(parts: Sequence[nn.Module]) -> Callable[[], None]:
    # Frozen TorchScript has no such flag.
    flags = [(submodule, submodule.training) for submodule in parts if hasattr(submodule, "training")]

    def restore() -> None:
        for submodule, flag in flags:
            if submodule.training != flag:
                submodule.training = flag

    return restore


def _parameters_of(tensors: Sequence[nn.Parameter]) -> Callable[[], None]:
    saved = [(parameter, parameter.requires_grad, parameter.grad) for parameter in tensors]

    def restore() -> None:
        for parameter, required, grad in saved:
            if parameter.requires_grad != required:
                parameter.requires_grad_(required)
            if parameter.grad is not grad:
                parameter.grad = grad

    return restore


def _buffers_of(parts: Sequence[nn.Module]) -> Callable[[], None]:
    saved = [(submodule, dict(submodule._buffers), set(submodule._non_persistent_buffers_set)) for submodule in parts]
    values = {id(t): (t, t.detach().clone()) for _, buffers, _ in saved for t in buffers.values() if t is not None}

    def restore() -> None:
        for submodule, buffers, non_persistent in saved:
            if {k: id(t) for k, t in submodule._buffers.items()} != {k: id(t) for k, t in buffers.items()}:
                submodule._buffers.clear()
                submodule._buffers.update(buffers)
            if submodule._non_persistent_buffers_set != non_persistent:
                submodule._non_persistent_buffers_set.clear()
                submodule._non_persistent_buffers_set.update(non_persistent)
        with torch.no_grad():
            for tensor, value in values.values():
                if tensor.shape != value.shape or tensor.dtype != value.dtype or tensor.device != value.device:
                    tensor.data = value
                elif not _same_bytes(tensor, value):
                    tensor.copy_(value)

    return restore


def _same_bytes(a: Tensor, b: Tensor) -> bool:
    if a.is_meta:
        return True
    if a.layout != torch.strided or a.is_quantized:
        return False
    a, b = (t.detach().contiguous().view(-1).view(torch.uint8) for t in (a, b))
    return torch.equal(a, b)
