"""Every module inside a module or another value, also those that torch does not see: in lists, dictionaries, objects."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from torch import Tensor, nn

_LEVELS = 4
"""How many containers inside one another are looked into."""
_OF_TORCH = frozenset(vars(nn.Module()))
"""Attributes in which torch keeps its own: parameters, buffers, registered modules, hooks."""


def named_submodules(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Each module once, with its name: ``module`` itself as ``""``, then all inside it.

    As ``named_modules()``, and besides those in plain attributes that are lists, tuples, sets or dictionaries, which torch
    does not register, but which take part in the forward pass all the same.
    """
    seen: set[int] = set()
    waiting = [("", module)]
    while waiting:
        name, current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield name, current
        inside = [*current.named_children(), *_unregistered(current)]
        waiting.extend((f"{name}.{part}" if name else part, child) for part, child in reversed(inside))


def submodules(module: nn.Module) -> list[nn.Module]:
    """``module`` and all modules inside it, each once."""
    return [part for _, part in named_submodules(module)]


def parameters(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of ``module`` and of all modules inside it, each once."""
    own = [parameter for part in submodules(module) for parameter in part.parameters(recurse=False)]
    return list({id(parameter): parameter for parameter in own}.values())


def tensors(module: nn.Module) -> list[Tensor]:
    """The parameters of ``module`` and of all modules inside it, then their buffers."""
    return [*parameters(module), *(buffer for part in submodules(module) for buffer in part.buffers(recurse=False))]


def modules_in(value: object) -> Iterator[nn.Module]:
    """The outermost modules in ``value``: itself, in containers, or in the attributes of an object, as that of a service."""
    yield from (module for _, module in _contained(value, _LEVELS))
    if not isinstance(value, (nn.Module, type)) and not inspect.ismodule(value):
        yield from (module for _, module in _contained(getattr(value, "__dict__", None), _LEVELS))


def _unregistered(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, value in vars(module).items():
        if name not in _OF_TORCH:
            yield from ((f"{name}{part}", child) for part, child in _contained(value, _LEVELS))


def _contained(value: object, levels: int) -> Iterator[tuple[str, nn.Module]]:
    """The modules in ``value``, and where: ``".1.head"``. A container that holds itself ends at ``levels``."""
    if isinstance(value, nn.Module):
        yield "", value
    elif levels and isinstance(value, (list, tuple, set, frozenset, dict)):
        inside = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in inside:
            yield from ((f".{key}{part}", module) for part, module in _contained(item, levels - 1))
