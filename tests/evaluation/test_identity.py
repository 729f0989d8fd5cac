"""Digests: equal for what is equal, different for what may act differently, refused for what cannot be seen through."""

from __future__ import annotations

import collections
import functools
import subprocess
import sys
import threading
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from pytest_robust import Linf
from pytest_robust.attacks import PGD
from pytest_robust.evaluation.identity import UnknownError, code_digest, digest
from pytest_robust.models import adapt


class Net(nn.Module):
    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.temperature = temperature
        self.extra = [nn.Linear(1, 1)]
        nn.init.ones_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        nn.init.ones_(self.extra[0].weight)
        nn.init.zeros_(self.extra[0].bias)

    def forward(self, x):
        return self.layer(x) / self.temperature


class Other(Net):
    def forward(self, x):
        return self.layer(x) * self.temperature


def changed(change):
    net = Net()
    with torch.no_grad():
        change(net)
    return net


ALIKE = [
    lambda: Net(),
    lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm1d(2)),
    lambda: {"b": [1, 2.5], "a": (None, True, "x", b"y", Fraction(1, 3))},
    lambda: {1, 2, 3},
    lambda: np.arange(4),
    lambda: torch.arange(4),
    lambda: PGD("margin", n_steps=7),
    lambda: Linf("8/255", mask=torch.tensor([True, False])),
    lambda: functools.partial(max, 3),
    lambda: torch.ones(2, dtype=torch.bfloat16),
]


@pytest.mark.parametrize("make", ALIKE)
def test_made_again_is_the_same(make):
    assert digest(make()) == digest(make())


DIFFERENT = [
    Net(),
    Net(2.0),
    Other(),
    changed(lambda net: net.layer.bias.add_(1e-7)),
    changed(lambda net: net.extra[0].weight.add_(1)),
    changed(lambda net: net.register_buffer("b", torch.ones(1))),
    changed(lambda net: net.register_forward_hook(lambda *_: None)),
    nn.Sequential(Net()),
    1,
    1.0,
    True,
    "1",
    [1],
    (1,),
    {1: 1},
    torch.ones(2),
    torch.ones(2, dtype=torch.float64),
    torch.ones(2, 1),
    np.ones(2),
    PGD(),
    PGD(n_steps=41),
    Linf(0.1),
    Linf(0.1, bounds=None),
    lambda x: x,
    lambda x: x + 1,
    functools.partial(max, 3),
    functools.partial(min, 3),
]


def test_what_differs_has_another_digest():
    digests = [digest(value) for value in DIFFERENT]
    assert len(set(digests)) == len(digests)


def test_how_a_tensor_lies_in_memory_does_not_count():
    rows = torch.arange(12.0).view(3, 4)
    for view in (rows[1:2, 2], rows[1, 2:3], rows[:, 1], rows[2]):
        assert digest(view) == digest(view.clone(memory_format=torch.contiguous_format))
    assert digest(rows[1:2, 2]) != digest(rows[1:2, 3])


def test_what_a_function_closes_over_counts():
    def scaled(by):
        return lambda x: by * x

    assert digest(scaled(2)) == digest(scaled(2)) != digest(scaled(3))


def test_mode_gradients_and_compilation_do_not_count():
    net = Net()
    before = digest(net)
    net.eval()
    net.layer.weight.requires_grad_(False)
    assert digest(net) == before
    compiled = torch.compile(net, backend="eager")
    compiled(torch.rand(1, 2))
    assert digest(compiled) == digest(torch.compile(Net(), backend="eager"))


def test_an_adapted_model_counts_with_what_it_was_adapted_with():
    plain, scaled = adapt(Net().eval()), adapt(Net().eval(), normalize=(0.5, 2.0))
    assert digest(plain) == digest(adapt(Net().eval())) != digest(scaled)


def test_an_object_that_holds_itself_ends():
    a, b = Net(), Net()
    for net in (a, b):
        net.self = [net]
        net.circle = {}
        net.circle["again"] = net.circle
    assert digest(a) == digest(b)


@pytest.mark.parametrize(
    "value", [object(), threading.Lock(), iter([1]), collections.deque([1]), torch.ones(2).to_sparse(), torch, [object()]]
)
def test_what_cannot_be_seen_through_is_refused(value):
    with pytest.raises(UnknownError):
        digest(value)


def test_another_process_finds_the_same_digests():
    code = (
        "import torch; from torch import nn; from pytest_robust import Linf; from pytest_robust.attacks import PGD;"
        "from pytest_robust.evaluation.identity import digest, code_digest;"
        "net = nn.Linear(2, 2); nn.init.ones_(net.weight); nn.init.zeros_(net.bias);"
        "print(digest(net, {'a', 'b', 'c'}, Linf(0.1), PGD()), code_digest())"
    )
    net = nn.Linear(2, 2)
    nn.init.ones_(net.weight)
    nn.init.zeros_(net.bias)
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert told == [digest(net, {"a", "b", "c"}, Linf(0.1), PGD()), code_digest()]
