"""Gradients through parts that have none: forward the user's, backward the approximation, and nothing is left behind."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from pytest_robust import ModelError
from pytest_robust.models import adapt


class Quantise(nn.Module):
    def forward(self, x):
        return (8 * x).round() / 8


class Sign(nn.Module):
    def forward(self, x):
        return x.sign()


def soft_sign(x):
    return torch.tanh(3 * x)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 6), Sign(), nn.Linear(6, 3))
    model = nn.Sequential()
    model.add_module("quantise", Quantise())
    model.add_module("net", net)
    return model.eval()


X = torch.rand(5, 4, generator=torch.Generator().manual_seed(1))


def gradient(model, x=X):
    """Logits, and the gradient of their first column, by the adapted model."""
    x = x.clone().requires_grad_()
    with model.isolated():
        logits = model.logits(x, {})
        (grad,) = torch.autograd.grad(logits[:, 0].sum(), x, allow_unused=True)
    return logits.detach(), grad


def by_hand(model):
    """The same by the chain rule: the exact activations, the derivative of tanh in place of that of the sign."""
    linear, _, head = model.net
    z = linear(model.quantise(X)).detach()
    slope = 3 * (1 - torch.tanh(3 * z) ** 2)
    return (head.weight[0] * slope) @ linear.weight


@pytest.mark.parametrize("by", ["name", "module", "mixed"])
def test_forward_is_exact_and_backward_is_the_approximation(by):
    model = network()
    chosen = {
        "name": {"quantise": None, "net.1": soft_sign},
        "module": {model.quantise: None, model.net[1]: soft_sign},
        "mixed": {"quantise": None, model.net[1]: soft_sign},
    }[by]
    adapted = adapt(model, device="cpu", non_differentiable=chosen)
    logits, grad = gradient(adapted)
    assert torch.equal(logits, model(X).detach())
    torch.testing.assert_close(grad, by_hand(model).detach())
    assert adapted.approximated == ("quantise", "net.1")


def test_without_it_there_is_no_gradient():
    _, grad = gradient(adapt(network(), device="cpu"))
    assert grad is None or not grad.any()


def test_a_list_means_the_identity():
    model = nn.Sequential(Quantise(), nn.Linear(4, 3))
    logits, grad = gradient(adapt(model, device="cpu", non_differentiable=["0"]))
    assert torch.equal(logits, model(X).detach())
    assert torch.equal(grad, model[1].weight[0].detach().expand(5, 4))


def test_an_approximation_may_be_a_module_whose_mode_and_buffers_stay():
    soft = nn.Sequential(nn.BatchNorm1d(6), nn.Tanh()).train()
    state = {key: value.clone() for key, value in soft.state_dict().items()}
    _, grad = gradient(adapt(network(), device="cpu", non_differentiable={"quantise": None, "net.1": soft}))
    assert grad.any()
    assert soft.training
    assert soft[0].training
    assert all(torch.equal(value, state[key]) for key, value in soft.state_dict().items())


def hooks(model):
    names = [name for name in vars(model) if "hooks" in name]
    return [[list(getattr(part, name).items()) for name in names] for part in model.modules()]


@pytest.mark.parametrize("raises", [False, True])
def test_hooks_are_there_only_inside(raises):
    model = network()
    model.net[1].register_forward_hook(lambda *_: None)
    adapted = adapt(model, device="cpu", non_differentiable={"net.1": soft_sign})
    before = hooks(model)
    try:
        with adapted.isolated():
            assert hooks(model) != before
            adapted.logits(X, {})
            if raises:
                raise KeyError
    except KeyError:
        pass
    assert hooks(model) == before


def test_hooks_of_the_user_belong_to_what_is_approximated():
    model = nn.Sequential(nn.Identity(), nn.Linear(4, 3))
    model[0].register_forward_pre_hook(lambda _, args: (args[0].round(),))
    model[0].register_forward_hook(lambda _, __, output: output.sign())
    logits, grad = gradient(adapt(model, device="cpu", non_differentiable=["0"]))
    assert torch.equal(logits, model(X).detach())
    assert torch.equal(grad, model[1].weight[0].detach().expand(5, 4))


def test_layers_that_follow_may_write_in_place():
    model = nn.Sequential(Quantise(), nn.ReLU(inplace=True), nn.Linear(4, 3))
    logits, grad = gradient(adapt(model, device="cpu", non_differentiable=["0"]))
    assert torch.equal(logits, model(X).detach())
    assert grad.any()


def test_a_module_may_be_called_more_than_once():
    quantise = Quantise()
    model = nn.Sequential(quantise, nn.Linear(4, 4), quantise, nn.Linear(4, 3))
    _, grad = gradient(adapt(model, device="cpu", non_differentiable=["0"]))
    torch.testing.assert_close(grad, (model[3].weight[0] @ model[1].weight).detach().expand(5, 4))


def test_a_function_names_its_modules_by_themselves():
    quantise, layer = Quantise(), nn.Linear(4, 3)
    adapted = adapt(lambda x: layer(quantise(x)), non_differentiable=[quantise])
    assert torch.equal(gradient(adapted)[1], layer.weight[0].detach().expand(5, 4))


class InPlace(nn.Module):
    def forward(self, x):
        return x.round_()


class Half(nn.Module):
    def forward(self, x):
        return x[:, :2].round()


class Bytes(nn.Module):
    def forward(self, x):
        return (255 * x).to(torch.uint8)


class Pair(nn.Module):
    def forward(self, x):
        return x.round(), x


class Unused(nn.Module):
    """Computes with a submodule's weights instead of calling it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return nn.functional.linear(x, self.layer.weight)


def bad(x):
    raise ValueError("no such luck")


@pytest.mark.parametrize(
    ("first", "given", "words"),
    [
        (Quantise(), ["quantize"], ["no submodule 'quantize'", "did you mean 'quantise'"]),
        (Quantise(), ["x"], ["no submodule 'x'", "it has 'quantise', 'rest'"]),
        (Quantise(), [""], ["no submodule ''"]),
        (Quantise(), [nn.ReLU()], ["no submodule that is this ReLU"]),
        (Quantise(), "quantise", ["non_differentiable='quantise'", "[...]"]),
        (Quantise(), {"quantise": 3}, ["'quantise'", "a int", "None for the identity"]),
        (Half(), ["quantise"], ["(5, 4)", "(5, 2)", "identity cannot stand"]),
        (Half(), {"quantise": lambda x: x}, ["(5, 2)", "(5, 4)", "same shape"]),
        (Quantise(), {"quantise": lambda x: None}, ["a NoneType", "same shape"]),
        (Quantise(), {"quantise": bad}, ["approximation of 'quantise' raised ValueError: no such luck"]),
        (Bytes(), ["quantise"], ["torch.uint8", "floats"]),
        (Pair(), ["quantise"], ["a tuple", "floats"]),
        (InPlace(), ["quantise"], ["writes into its input"]),
        (Unused(), ["quantise.layer"], ["did not call 'quantise.layer'"]),
    ],
)
def test_errors_say_what_to_do(first, given, words):
    model = nn.Sequential()
    model.add_module("quantise", first)
    model.add_module("rest", nn.Flatten())
    with pytest.raises(ModelError, match="non_differentiable") as caught:
        gradient(adapt(model, device="cpu", non_differentiable=given))
    assert [word for word in words if not re.search(re.escape(word), str(caught.value))] == []


def test_a_model_adapted_already_is_not_changed_silently():
    adapted = adapt(network(), device="cpu")
    with pytest.raises(ModelError, match="non_differentiable"):
        adapt(adapted, non_differentiable=["quantise"])


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("inner", [False, True])
def test_compiled_models_and_parts(backend, inner):
    model = network()
    exact = gradient(adapt(model, device="cpu", non_differentiable={"quantise": None, "net.1": soft_sign}))
    if inner:
        model.net = torch.compile(model.net, backend=backend)
        compiled = model
    else:
        compiled = torch.compile(model, backend=backend)
    with torch.no_grad():
        compiled(X)  # compiled before there are any hooks
    for sign in ("net.1", "net._orig_mod.1" if inner else "_orig_mod.net.1"):
        adapted = adapt(compiled, device="cpu", non_differentiable={"quantise": None, sign: soft_sign})
        logits, grad = gradient(adapted)
        assert adapted.name == "Sequential"
        torch.testing.assert_close(logits, exact[0])
        torch.testing.assert_close(grad, exact[1])
