"""A plain function from a tensor to logits."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from pytest_robust.errors import ModelError
from pytest_robust.models.devices import resolve_device
from pytest_robust.models.torch_module import Normalize, TorchModel


def function_model(
    function: Callable[..., object],
    *,
    device: str = "auto",
    normalize: Normalize | None = None,
    classes: Sequence[str] | None = None,
) -> TorchModel:
    """A function (B, ...) tensor -> logits, differentiable by torch, as a ``Model``.

    The modules that it visibly calls (its object, what it closes over, a partial's arguments, globals) are isolated like any
    other; what else it changes is its own affair. With ``device="auto"`` it runs where these modules are, else on the CPU.

    Raises:
        ModelError: its modules are on another device than asked for: unlike a module, a function cannot be copied there.
    """
    module = _Function(function)
    name = getattr(function, "__name__", type(function).__name__)
    here = next((parameter.device for parameter in module.parameters()), None)
    if device == "auto":
        device = str(here or torch.device("cpu"))
    elif here is not None and here != resolve_device(device):
        raise ModelError(
            f"the function {name} calls modules that are on {here}, and was asked to run on {device}; "
            f"move them there, or use device='{here}'"
        )
    return TorchModel(module, device=device, normalize=normalize, classes=classes, name=name)


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
        yield from _modules_among((*function.args, *function.keywords.values()))
    elif inspect.ismethod(function):
        yield from _modules_among((function.__self__,))
        yield from _modules_of(function.__func__)
    elif inspect.isfunction(function):
        seen = inspect.getclosurevars(function)
        yield from _modules_among((*seen.nonlocals.values(), *seen.globals.values()))
    else:
        yield from _modules_among((function,))


def _modules_among(values: Sequence[object]) -> Iterator[nn.Module]:
    for value in values:
        if isinstance(value, nn.Module):
            yield value
        elif not inspect.ismodule(value):
            # An object that wraps a model, as the class around the model of a service does.
            yield from (part for part in getattr(value, "__dict__", {}).values() if isinstance(part, nn.Module))
