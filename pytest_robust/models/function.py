"""A plain function from a tensor to logits."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from types import CodeType, FunctionType

import torch
from torch import nn

from pytest_robust.errors import ModelError
from pytest_robust.models.bpda import NonDifferentiable
from pytest_robust.models.devices import resolve_device
from pytest_robust.models.submodules import modules_in, parameters
from pytest_robust.models.torch_module import Normalize, TorchModel


def function_model(
    function: Callable[..., object],
    *,
    device: str = "auto",
    normalize: Normalize | None = None,
    classes: Sequence[str] | None = None,
    non_differentiable: NonDifferentiable | None = None,
) -> TorchModel:
    """A function (B, ...) tensor -> logits, differentiable by torch, as a ``Model``.

    The modules that it visibly calls (its object, what it closes over, a partial's arguments, globals, also in lists and
    dictionaries) are isolated like any other; what else it changes is its own affair. With ``device="auto"`` it runs where
    these modules are, else on the CPU.

    Raises:
        ModelError: its modules are on another device than asked for: unlike a module, a function cannot be copied there.
    """
    module = _Function(function)
    name = getattr(function, "__name__", type(function).__name__)
    here = next((parameter.device for parameter in parameters(module)), None)
    if device == "auto":
        device = str(here or torch.device("cpu"))
    elif here is not None and here != resolve_device(device):
        raise ModelError(
            f"the function {name} calls modules that are on {here}, and was asked to run on {device}; "
            f"move them there, or use device='{here}'"
        )
    return TorchModel(
        module, device=device, normalize=normalize, classes=classes, non_differentiable=non_differentiable, name=name
    )


class _Function(nn.Module):
    """Holds a function and the modules it calls, so that these are seen as submodules."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self._function = function
        self.calls = nn.ModuleList(dict.fromkeys(_modules_of(function)))

    def forward(self, *args: object, **kwargs: object) -> object:
        return self._function(*args, **kwargs)


def _modules_of(function: object) -> Iterator[nn.Module]:
    if isinstance(function, functools.partial):
        yield from _modules_of(function.func)
        yield from modules_in([*function.args, *function.keywords.values()])
        return
    if inspect.ismethod(function):
        yield from modules_in(function.__self__)
        function = function.__func__
    if inspect.isfunction(function):
        for value in _values_seen_by(function):
            yield from modules_in(value)
    else:
        yield from modules_in(function)


def _values_seen_by(function: FunctionType) -> Iterator[object]:
    """What the function closes over, and the globals that its code names."""
    for cell in function.__closure__ or ():
        # Empty where the name is given a value only later.
        with suppress(ValueError):
            yield cell.cell_contents
    for name in dict.fromkeys(_names_in(function.__code__)):
        if name in function.__globals__:
            yield function.__globals__[name]


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        # The code of a lambda or comprehension inside.
        if isinstance(constant, CodeType):
            yield from _names_in(constant)
