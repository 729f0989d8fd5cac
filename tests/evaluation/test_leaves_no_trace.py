"""After a run, also one that raised, everything of the user's is byte for byte what it was."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from pytest_robust import Linf, ModelError, evaluate


class Awkward(nn.Module):
    """Mixed modes, a frozen parameter, a hook, gradients, a counter buffer, and a failure on demand."""

    def __init__(self, trained: nn.Module) -> None:
        super().__init__()
        self.body = copy.deepcopy(trained)
        self.norm = nn.BatchNorm1d(5)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.fail_after: int | None = None
        self.body[0].bias.requires_grad_(False)
        self.body[0].register_forward_hook(lambda module, args, out: None)
        for parameter in self.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.ones_like(parameter)
        self.eval()
        self.body.train()  # harmless: nothing in it depends on the mode

    def forward(self, x):
        self.calls += 1
        if self.fail_after is not None and self.calls > self.fail_after:
            raise RuntimeError("the model gave up")
        return self.body(x) + 0 * self.norm(self.body(x))


def photograph(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> dict[str, object]:
    return {
        "training": [m.training for m in model.modules()],
        "hooks": [len(m._forward_hooks) + len(m._backward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grad": [None if p.grad is None else p.grad.numpy().tobytes() for p in model.parameters()],
        "state": {k: v.numpy().tobytes() for k, v in model.state_dict().items()},
        "identity": [id(t) for t in (*model.parameters(), *model.buffers())],
        "device": [t.device for t in (*model.parameters(), *model.buffers())],
        "inputs": (x.numpy().tobytes(), y.numpy().tobytes(), x.requires_grad),
        "rng": (random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes()),
        "modes": (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.get_float32_matmul_precision()),
        "tf32": torch.backends.cudnn.allow_tf32,
    }


@pytest.mark.parametrize(
    "options",
    [{}, {"non_differentiable": {"body.1": nn.functional.softplus}}, {"draws": 2, "attacks": "fgsm"}],
    ids=["plain", "bpda", "draws"],
)
@pytest.mark.parametrize("fail_after", [None, 1, 4, 30])
def test_nothing_of_the_users_changes(trained, data, fail_after, options):
    model, (x, y) = Awkward(trained), data
    model.fail_after = fail_after
    before = photograph(model, x, y)
    if fail_after is None:
        evaluate(model, (x, y), Linf("0.05"), **options)
    else:
        with pytest.raises(ModelError, match="the model gave up"):
            evaluate(model, (x, y), Linf("0.05"), **options)
    after = photograph(model, x, y)
    assert {name for name in before if before[name] != after[name]} == set()


def test_nor_when_the_user_interrupts(trained, data):
    model, (x, y) = Awkward(trained), data
    before = photograph(model, x, y)

    def interrupt(progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(model, (x, y), Linf("0.05"), progress=interrupt)
    after = photograph(model, x, y)
    assert {name for name in before if before[name] != after[name]} == set()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_the_callers_mode_changes_no_outcome(trained, data, context):
    plain = evaluate(trained, data, Linf("0.08"), attacks="pgd-margin")
    with context():
        inside = evaluate(trained, data, Linf("0.08"), attacks="pgd-margin")
    assert inside.broken_by == plain.broken_by


def test_a_model_that_writes_into_its_input_spoils_nothing(data):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Threshold(0.05, 0.0, inplace=True), nn.Linear(12, 5)).eval()
    x, y = data
    copy_of_x = x.clone()
    result = evaluate(model, (x, y), Linf("0.05"), waive={"chance": "random weights"})
    assert torch.equal(x, copy_of_x)
    assert all((result.adversarial(i) - x[i]).abs().max() <= 0.05 for i in result.witnesses)
