from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pytest_robust.models.isolation import isolated
from pytest_robust.random_state import preserved_random_state


class Mischief(nn.Module):
    """Does to itself in forward what a well-behaved module would not, and then some."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.norm = nn.BatchNorm1d(3)
        self.drop = nn.Dropout(0.5).eval()
        self.register_buffer("counter", torch.zeros((), dtype=torch.int64))
        self.register_buffer("scratch", torch.full((2,), float("nan")), persistent=False)
        self.register_buffer("empty", None)
        self.register_buffer("replaced", torch.ones(2))
        self.register_buffer("resized", torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        self.counter += 1
        self.scratch.zero_()
        self.empty = torch.ones(1)
        self.replaced = torch.zeros(5)
        self.resized.data = torch.zeros(7)
        self.register_buffer("added", torch.ones(1))
        self.norm.running_mean.add_(1)
        self.drop.train()
        self.train()
        self.norm(x)
        torch.rand(1)
        return self.frozen(self.linear(x))


def snapshot(module: nn.Module) -> dict[str, Any]:
    def raw(t: Tensor | None) -> Any:
        if t is None:
            return None
        return id(t), t.dtype, tuple(t.shape), t.detach().contiguous().view(-1).view(torch.uint8).tolist()

    return {
        "train": [(name, part.training) for name, part in module.named_modules()],
        "parameters": [(name, p.requires_grad, raw(p), raw(p.grad)) for name, p in module.named_parameters()],
        "buffers": [(name, raw(b)) for part_name, part in module.named_modules() for name, b in part._buffers.items()],
        "non-persistent": [sorted(part._non_persistent_buffers_set) for part in module.modules()],
        "state": sorted(module.state_dict()),
        "hooks": [
            (len(part._forward_hooks), len(part._forward_pre_hooks), len(part._backward_hooks)) for part in module.modules()
        ],
        "random": torch.get_rng_state().tolist(),
    }


@pytest.fixture
def module() -> Mischief:
    with preserved_random_state():
        module = Mischief()
        module.linear(torch.ones(1, 3)).sum().backward()
    module.linear.register_forward_hook(lambda *_: None)
    return module


@pytest.mark.parametrize("raises", [False, True])
def test_nothing_has_changed_afterwards(module: Mischief, raises: bool) -> None:
    before = snapshot(module)
    try:
        with isolated(module):
            assert snapshot(module) != before
            x = torch.rand(4, 3).requires_grad_()
            module(x).sum().backward()
            if raises:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert snapshot(module) == before


def test_inside_it_is_in_eval_mode_without_parameter_gradients(module: Mischief) -> None:
    with isolated(module):
        assert not any(part.training for part in module.modules())
        assert not any(parameter.requires_grad for parameter in module.parameters())
        x = torch.rand(4, 3).requires_grad_()
        (grad,) = torch.autograd.grad(module.linear(x).sum(), x)
    assert grad.abs().sum() > 0


def test_modules_that_torch_does_not_register_are_isolated_too(module: Mischief) -> None:
    outer = nn.Linear(3, 3)
    outer.stages = [{"second": module}]
    before = snapshot(module)
    with isolated(outer):
        assert not any(part.training for part in module.modules())
        assert not any(parameter.requires_grad for parameter in module.parameters())
        module.frozen.requires_grad_(True)
        module(outer(torch.rand(4, 3))).sum().backward()
        assert module.frozen.weight.grad is not None
        module.linear.weight.grad = None
    assert snapshot(module) == before


def test_a_train_method_with_side_effects_is_not_called() -> None:
    class Loud(nn.Module):
        def train(self, mode: bool = True) -> Loud:
            raise AssertionError("called")

    with isolated(Loud()):
        pass


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_the_callers_context_neither_disturbs_nor_is_disturbed(around: Any) -> None:
    module = nn.Linear(3, 2)
    with around():
        outside = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
        with isolated(module):
            x = torch.rand(4, 3).requires_grad_()
            logits = module(x)
            (grad,) = torch.autograd.grad(logits.sum(), x)
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")) == outside
    assert logits.dtype == torch.float32
    assert grad.abs().sum() > 0


def test_it_can_be_nested(module: Mischief) -> None:
    before = snapshot(module)
    with isolated(module), isolated(module):
        module(torch.rand(4, 3))
    assert snapshot(module) == before


def test_buffers_of_odd_kinds_survive() -> None:
    module = nn.Module()
    module.register_buffer("expanded", torch.ones(1).expand(5))
    module.register_buffer("meta", torch.ones(2, device="meta"))
    module.register_buffer("flags", torch.tensor([True, False]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        module.register_buffer("sparse", torch.eye(2).to_sparse())
    before = {name: id(buffer) for name, buffer in module.named_buffers()}
    with isolated(module):
        module.flags.logical_not_()
    assert {name: id(buffer) for name, buffer in module.named_buffers()} == before
    assert module.flags.tolist() == [True, False]
    assert module.sparse.to_dense().tolist() == [[1, 0], [0, 1]]
