from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pytest_robust.data import load
from pytest_robust.errors import ModelError
from pytest_robust.models import Randomised, adapt
from pytest_robust.models.torch_module import TorchModel
from pytest_robust.models.transformed import Transformed

X = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
NET = nn.Linear(3, 2)
NETS = {"all": [NET]}


class Service:
    """A model inside an object, as a service has it."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def __call__(self, x: Tensor) -> Tensor:
        return self.net(x)

    def predict(self, x: Tensor) -> Tensor:
        return self.net(x)


class Ensemble:
    """Models in the containers of an object."""

    def __init__(self, *nets: nn.Module) -> None:
        self.stages = {"last": nets}

    def __call__(self, x: Tensor) -> Tensor:
        return sum(net(x) for net in self.stages["last"])


def with_net(net: nn.Module, x: Tensor) -> Tensor:
    return net(x)


def uses_global(x: Tensor) -> Tensor:
    return NET(x)


def uses_global_container_inside(x: Tensor) -> Tensor:
    return (lambda x: sum(net(x) for net in NETS["all"]))(x)


def last_of(x: Tensor, *, nets: list[nn.Module]) -> Tensor:
    return nets[-1](x)


def test_a_module_becomes_a_model_once() -> None:
    model = adapt(nn.Linear(3, 2), classes=["a", "b"])
    assert isinstance(model, TorchModel)
    assert adapt(model) is model
    assert adapt(model, classes=["a", "b"], device="cpu") is model


@pytest.mark.parametrize("given", [{"normalize": (0.5, 0.5)}, {"classes": ["a", "b"]}])
def test_what_was_settled_is_not_silently_ignored(given: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"adapted already; give it to adapt\(\)"):
        adapt(adapt(nn.Linear(3, 2)), **given)


def test_a_model_of_the_users_own_kind_is_taken_as_it_is() -> None:
    class Own:
        name, space, device, classes, notes = "own", "input", torch.device("cpu"), None, ()
        training_parts = approximated = dtype = read = encode = batch = logits = isolated = None

    own = Own()
    assert adapt(own) is own


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Linear, ["the class Linear", "give an instance"]),
        ("resnet18", ["a str", "torch.nn.Module", "tokenizer"]),
        (None, ["a NoneType"]),
        (3, ["a int"]),
        ((nn.Linear(3, 2), None), ["begins with a Linear", "(model, tokenizer)"]),
        (("resnet", None), ["begins with a str"]),
    ],
)
def test_anything_else_says_what_is_accepted(model: Any, words: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        adapt(model)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_classes_must_be_several() -> None:
    with pytest.raises(ModelError, match="list of names"):
        adapt(nn.Linear(3, 2), classes="cat")


@pytest.mark.parametrize(
    "form",
    [
        "lambda", "global", "partial", "object", "method", "forward",
        "closure over a list", "nested lambdas", "global in containers", "partial of a list", "object of containers",
    ],
)  # fmt: skip
def test_functions_are_models_and_their_modules_are_isolated(form: str) -> None:
    uses_net = form.startswith("global")
    net = NET if uses_net else nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
    nets = [net]
    function = {
        "lambda": lambda x: net(x),
        "global": uses_global,
        "partial": functools.partial(with_net, net),
        "object": Service(net),
        "method": Service(net).predict,
        "forward": net.forward,
        "closure over a list": lambda x: nets[0](x),
        "nested lambdas": lambda x: (lambda y: (lambda z: nets[0](z))(y))(x),
        "global in containers": uses_global_container_inside,
        "partial of a list": functools.partial(last_of, nets=nets),
        "object of containers": Ensemble(net),
    }[form]
    net.train()
    model = adapt(function)
    batch = model.batch(load((X.double(), [0, 1, 0, 1])).take([0, 1, 2, 3]))
    assert batch.x.dtype == torch.float32
    assert len(model.training_parts()) == (0 if uses_net else 1)
    with model.isolated():
        assert not net.training
        assert not any(p.requires_grad for p in net.parameters())
        x = batch.x.requires_grad_()
        logits = model.logits(x, {})
        assert torch.equal(logits, net(X))
        (grad,) = torch.autograd.grad(logits.sum(), x)
        assert grad.abs().sum() > 0
    assert net.training
    assert all(p.requires_grad for p in net.parameters())


def test_a_function_has_its_name_and_takes_normalisation() -> None:
    model = adapt(uses_global, normalize=(0.5, 2.0), classes=["a", "b"])
    assert (model.name, model.classes) == ("uses_global", ("a", "b"))
    assert torch.allclose(model.logits(X, {}), NET((X - 0.5) / 2))
    assert adapt(Service(NET)).name == "Service"


def test_a_function_without_modules_runs_on_the_cpu() -> None:
    weight = torch.ones(3, 2)
    model = adapt(lambda x: x @ weight)
    assert model.device == torch.device("cpu")
    assert model.logits(X, {}).shape == (4, 2)


def test_a_name_that_has_no_value_yet_is_passed_over() -> None:
    def function(x: Tensor) -> Tensor:
        return later(x)

    model = adapt(function)
    later = nn.Linear(3, 2)
    assert torch.equal(model.logits(X, {}), later(X))


def test_a_function_cannot_be_moved() -> None:
    far = nn.Linear(3, 2, device="meta")
    holder = nn.Identity()
    holder.nets = [far]
    for function in (lambda x: far(x), lambda x: holder.nets[0](x)):
        with pytest.raises(ModelError, match="modules that are on meta"):
            adapt(function, device="cpu")


def test_every_model_reads_data() -> None:
    net = nn.Linear(3, 2).double()
    data = (torch.zeros(2, 3, 1, 1), [0, 1])
    seen = Transformed(adapt(net, classes=["cat", "dog"]), lambda images: images[:, :1, 0, 0], lambda images, _: images)
    for model in (adapt(net, classes=["cat", "dog"]), Randomised(adapt(net, classes=["cat", "dog"]), 2, 0), seen):
        examples = model.read(data)
        assert examples.ids == load(data).ids
        assert examples.classes == ("cat", "dog")
        assert model.dtype == torch.float64
