from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pytest_robust.data import load
from pytest_robust.errors import ModelError, PreflightError
from pytest_robust.models.torch_module import TorchModel

X = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 0, 1, 0])


class Net(nn.Module):
    """Mean over space, then linear; what ``act`` does to the input first is the test's."""

    def __init__(self, act: Any = None) -> None:
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.linear = nn.Linear(3, 2)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.act is None else self.act(x)
        return self.linear(x.mean((2, 3)))


class Listed(nn.Module):
    """Keeps a network where torch does not look for it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.nets = [net]

    def forward(self, x: Tensor) -> Tensor:
        return self.nets[0](x)


class Mapped(Net):
    def forward(self, pixel_values: Tensor, weights: Tensor) -> Any:  # type: ignore[override]
        logits = super().forward(pixel_values) * weights.unsqueeze(1)
        weights.zero_()
        return SimpleNamespace(logits=logits)


def first(model: TorchModel, data: Any = (X, Y)) -> Any:
    examples = model.encode(load(data))
    return model.batch(examples.take(range(len(examples))))


def test_logits_are_the_modules() -> None:
    net = Net()
    model = TorchModel(net, classes=["a", "b"])
    batch = first(model)
    assert (model.name, model.space, model.device, model.classes) == ("Net", "input", torch.device("cpu"), ("a", "b"))
    assert batch.context == {}
    assert batch.free is None
    assert torch.equal(model.logits(batch.x, {}), net(X))


def test_gradients_reach_the_point() -> None:
    model = TorchModel(Net())
    x = first(model).x.requires_grad_()
    (grad,) = torch.autograd.grad(model.logits(x, {})[:, 0].sum(), x)
    assert torch.allclose(grad, (model.module.linear.weight[0] / 16).view(1, 3, 1, 1).expand_as(x))


def test_a_column_of_floats_is_the_point_and_the_others_go_along() -> None:
    net = Mapped()
    model = TorchModel(net)
    data = ({"weights": torch.arange(5), "pixel_values": X}, Y)
    batch = first(model, data)
    assert torch.equal(batch.x, X)
    assert list(batch.context) == ["weights"]
    expected = Net()(X) * torch.arange(5).unsqueeze(1)
    assert torch.equal(model.logits(batch.x, batch.context), expected)
    # The module zeroes its argument: what the attack holds must not change.
    assert torch.equal(model.logits(batch.x, batch.context), expected)


@pytest.mark.parametrize("shape", [(3,), (1, 3, 1, 1)])
def test_normalisation_is_folded_in(shape: tuple[int, ...]) -> None:
    net, mean, std = Net(), torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7])
    model = TorchModel(net, normalize=(mean.view(shape), std.view(shape).tolist()))
    batch = first(model)
    assert torch.equal(batch.x, X)
    expected = net((X - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))
    assert torch.allclose(model.logits(batch.x, {}), expected)


def test_normalisation_by_numbers_and_of_flat_features() -> None:
    linear = nn.Linear(3, 2)
    flat = torch.rand(4, 3)
    assert torch.allclose(TorchModel(linear, normalize=(0.5, 2.0)).logits(flat, {}), linear((flat - 0.5) / 2))
    model = TorchModel(linear, normalize=([0, 0, 1], [1, 1, 2]))
    expected = linear((flat - torch.tensor([0, 0, 1.0])) / torch.tensor([1, 1, 2.0]))
    assert torch.allclose(model.logits(first(model, (flat, [0, 1, 0, 1])).x, {}), expected)


@pytest.mark.parametrize(
    "normalize",
    [(0.5, 0.0), (0.5, -1.0), ([[0.1, 0.2], [0.1, 0.2]], 1.0), ("a", "b"), (float("nan"), 1.0), (1.0, 2.0, 3.0), 3.0],
)
def test_unusable_normalisation_is_refused(normalize: Any) -> None:
    with pytest.raises(ModelError, match="normalize="):
        TorchModel(Net(), normalize=normalize)


def test_normalisation_must_fit_the_channels() -> None:
    model = TorchModel(Net(), normalize=([0.1, 0.2], [1.0, 1.0]))
    with pytest.raises(PreflightError, match=r"2 channels.*\(5, 3, 4, 4\)"):
        first(model)


@pytest.mark.parametrize(
    ("module", "point"), [(torch.float64, torch.float64), (torch.float32, torch.float32), (torch.bfloat16, torch.float32)]
)
@pytest.mark.parametrize("data", [torch.float64, torch.float32, torch.float16])
def test_the_point_is_as_fine_as_the_module_and_at_least_float32(
    module: torch.dtype, point: torch.dtype, data: torch.dtype
) -> None:
    model = TorchModel(Net().to(module))
    x = first(model, (X.to(data).numpy(), Y)).x
    assert x.dtype == point
    x.requires_grad_()
    logits = model.logits(x, {})
    (grad,) = torch.autograd.grad(logits.sum(), x)
    assert logits.dtype == point
    assert grad.dtype == point
    assert grad.abs().sum() > 0


def test_the_type_of_a_module_in_a_list_counts() -> None:
    model = TorchModel(Listed(Net().double()))
    assert torch.equal(model.logits(first(model).x, {}), Net().double()(X.double()))


def test_float64_data_runs_in_a_module_without_parameters() -> None:
    model = TorchModel(nn.Flatten())
    assert first(model, (np.eye(3), [0, 1, 2])).x.dtype == torch.float32


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("act", [nn.ReLU(inplace=True), lambda x: x.sub_(0.5), lambda x: x.unsqueeze(0).mul_(-1).squeeze(0)])
def test_a_module_that_writes_into_its_input_does_not_reach_ours(act: Any, requires_grad: bool) -> None:
    model = TorchModel(Net(act))
    x = (X - 0.5).requires_grad_(requires_grad)
    kept = x.detach().clone()
    expected = Net(act)(kept.clone())
    for _ in range(2):
        logits = model.logits(x, {})
        assert torch.equal(x, kept)
        assert torch.equal(logits, expected)
        if requires_grad:
            (grad,) = torch.autograd.grad(logits.sum(), x)
            assert grad.abs().sum() > 0


def test_a_point_on_the_graph_is_not_written_into_either() -> None:
    model = TorchModel(Net(lambda x: x.sub_(0.5)))
    leaf = X.clone().requires_grad_()
    x = leaf * 1
    kept = x.detach().clone()
    model.logits(x, {})
    assert torch.equal(x, kept)


def test_a_leaf_is_passed_without_a_copy() -> None:
    seen: list[int] = []
    model = TorchModel(Net(lambda x: seen.append(x.data_ptr()) or x))
    x = X.clone().requires_grad_()
    model.logits(x, {})
    assert seen == [x.data_ptr()]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (["a text", "another", "b", "c", "d"], ["Net", "texts", "(model, tokenizer)"]),
        (torch.arange(5).view(5, 1), ["torch.int64", "(model, tokenizer)", "inputs.float() / 255"]),
        ({"input_ids": torch.arange(5), "mask": torch.ones(5).bool()}, ["input_ids torch.int64", "mask torch.bool"]),
        ({"a": X, "b": X, "c": Y}, ["a and b", "only one can be attacked"]),
        (torch.zeros(5, 2, dtype=torch.complex64), ["complex64"]),
    ],
)
def test_inputs_without_one_point_are_refused(inputs: Any, words: list[str]) -> None:
    with pytest.raises(PreflightError) as caught:
        TorchModel(Net()).encode(load((inputs, Y)))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_module_that_raises_is_named_with_the_shape() -> None:
    model = TorchModel(Net())
    with pytest.raises(ModelError) as caught:
        model.logits(torch.zeros(2, 7, 4, 4), {})
    message = str(caught.value)
    assert all(word in message for word in ("Net raised RuntimeError", "(2, 7, 4, 4)", "torch.float32", "cpu", "by hand"))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_long_texts_of_errors_are_cut() -> None:
    def fail(x: Tensor) -> Tensor:
        raise ValueError("word " * 1000)

    with pytest.raises(ModelError) as caught:
        TorchModel(Net(fail)).logits(X, {})
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError("CUDA out of memory"), MemoryError(), KeyboardInterrupt()])
def test_memory_and_interruption_pass_through(error: BaseException) -> None:
    def fail(x: Tensor) -> Tensor:
        raise error

    with pytest.raises(type(error)) as caught:
        TorchModel(Net(fail)).logits(X, {})
    assert caught.value is error


def test_outputs_that_are_no_logits_are_refused() -> None:
    with pytest.raises(ModelError, match="flatten"):
        TorchModel(nn.AdaptiveAvgPool2d(1)).logits(X, {})


@pytest.mark.parametrize("module", [nn.LazyLinear(2), Listed(nn.LazyLinear(2))])
def test_lazy_parameters_are_refused(module: nn.Module) -> None:
    with pytest.raises(ModelError, match=f"{type(module).__name__} has lazy parameters"):
        TorchModel(module)


@pytest.mark.parametrize("around", [lambda net: net, Listed])
def test_parameters_of_inference_mode_are_refused_and_the_remedy_works(around: Any) -> None:
    with torch.inference_mode():
        module = around(Net())
    with pytest.raises(ModelError, match=r"inside torch\.inference_mode\(\).* give copy\.deepcopy\(model\)"):
        TorchModel(module)
    x = X.clone().requires_grad_()
    (grad,) = torch.autograd.grad(TorchModel(copy.deepcopy(module)).logits(x, {})[:, 0].sum(), x)
    assert grad.abs().sum() > 0


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("compiled", [torch.jit.script, lambda module: torch.jit.freeze(torch.jit.script(module))])
def test_torch_script_works_also_frozen(compiled: Any) -> None:
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 2)).eval()
    model = TorchModel(compiled(net))
    x = first(model).x.requires_grad_()
    with model.isolated():
        logits = model.logits(x, {})
        (grad,) = torch.autograd.grad(logits.sum(), x)
    assert torch.allclose(logits, net(X), atol=1e-6)
    assert grad.abs().sum() > 0
    assert model.training_parts() == ()


def test_isolation_is_that_of_the_module() -> None:
    net = Net().train()
    model = TorchModel(net)
    with model.isolated():
        assert not net.training
    assert net.training


@pytest.mark.parametrize(
    ("id2label", "expected"),
    [
        ({0: "no", 1: "yes"}, ("no", "yes")),
        ({"0": "no", "1": "yes"}, ("no", "yes")),
        ({0: "LABEL_0", 1: "LABEL_1"}, None),
        ({0: "no", 2: "yes"}, None),
        ({}, None),
    ],
)
def test_classes_come_from_a_hugging_face_configuration(id2label: dict[Any, str], expected: Any) -> None:
    net = Net()
    net.config = SimpleNamespace(id2label=id2label)
    assert TorchModel(net).classes == expected
    assert TorchModel(net, classes=["x", "y"]).classes == ("x", "y")


@pytest.mark.parametrize(
    ("part", "acts"),
    [
        (nn.Dropout(0.1), True),
        (nn.Dropout(0.0), False),
        (nn.Dropout2d(0.1), True),
        (nn.BatchNorm2d(3), True),
        (nn.BatchNorm2d(3, track_running_stats=False), False),
        (nn.InstanceNorm2d(3), False),
        (nn.LayerNorm(3), False),
        (nn.MultiheadAttention(4, 2, dropout=0.1), True),
        (nn.MultiheadAttention(4, 2), False),
        (nn.LSTM(2, 2, num_layers=2, dropout=0.1), True),
        (nn.GRU(2, 2), False),
        (nn.RReLU(), True),
        (type("DropPath", (nn.Module,), {"drop_prob": 0.1})(), True),
        (type("DropPath", (nn.Module,), {"drop_prob": 0.0})(), False),
        (type("StochasticDepth", (nn.Module,), {"p": 0.1})(), True),
    ],
)
def test_parts_that_act_differently_in_training_mode_are_found(part: nn.Module, acts: bool) -> None:
    model = TorchModel(nn.Sequential(nn.ReLU(), part))
    assert [name.partition(" ")[0] for name in model.training_parts()] == (["1"] if acts else [])
    part.eval()
    assert model.training_parts() == ()


def test_parts_in_training_mode_are_named_by_where_they_are() -> None:
    module = nn.Sequential(nn.Linear(3, 3), Listed(nn.Sequential(nn.ReLU(), nn.Dropout(0.5))))
    assert TorchModel(module).training_parts() == ("1.nets.0.1 (Dropout)",)
