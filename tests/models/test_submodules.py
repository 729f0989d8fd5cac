"""The modules inside modules, containers and objects: all of them, each once, by name."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import nn

from pytest_robust.models.submodules import modules_in, named_submodules, parameters, tensors


class Holder(nn.Module):
    """Has what it is given as attributes."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        for name, value in attributes.items():
            setattr(self, name, value)


def names(module: nn.Module) -> list[str]:
    return [name for name, _ in named_submodules(module)]


def test_modules_in_containers_have_names_and_shared_ones_the_first() -> None:
    shared = nn.ReLU()
    module = Holder(
        some={nn.ELU()},
        listed=[nn.Tanh(), (shared, nn.Linear(2, 2))],
        by_name={"head": Holder(inner=[nn.GELU()]), 3: shared},
        registered=nn.Sequential(nn.Linear(2, 2), shared),
        number=3,
    )
    assert names(module) == [
        "", "registered", "registered.0", "registered.1", "some.0", "listed.0", "listed.1.1", "by_name.head",
        "by_name.head.inner.0",
    ]  # fmt: skip


def test_registered_modules_are_those_of_torch() -> None:
    shared = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    module = nn.Sequential(nn.ModuleDict({"a": shared, "b": nn.ModuleList([shared, nn.Tanh()])}), shared, nn.Linear(2, 2))
    assert list(named_submodules(module)) == list(module.named_modules())


def test_what_contains_itself_ends() -> None:
    loop: list[Any] = [nn.ReLU()]
    loop += [loop, {"again": loop}]
    module = Holder(loop=loop, child=nn.Linear(2, 2))
    module.child.parents = [module, module.child]
    assert names(module) == ["", "child", "loop.0"]
    assert set(modules_in(loop)) == {loop[0]}


def test_parameters_and_buffers_of_all_parts_and_tied_ones_once() -> None:
    tied, other = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    other.weight = tied.weight
    norm = nn.BatchNorm1d(2)
    module = Holder(first=tied, others=[other, norm])
    assert [id(p) for p in parameters(module)] == [id(p) for p in (tied.weight, norm.weight, norm.bias)]
    assert [id(t) for t in tensors(module)] == [id(t) for t in (*parameters(module), *norm.buffers())]


def test_an_object_shows_its_outermost_modules() -> None:
    one, two = nn.Sequential(nn.Linear(2, 2)), nn.ReLU()
    assert list(modules_in(SimpleNamespace(net=one, others={"b": [two]}, size=3))) == [one, two]
    assert list(modules_in([(one,), {"b": two}])) == [one, two]
    assert list(modules_in(one)) == [one]
    imported = ModuleType("imported")
    imported.net = one
    for nothing in (None, 3, "text", imported, nn.Linear, torch.zeros(2), [1, {2: 3}]):
        assert list(modules_in(nothing)) == []
