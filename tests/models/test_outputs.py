from __future__ import annotations

from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pytest_robust.errors import ModelError
from pytest_robust.models.outputs import as_logits, is_out_of_memory

Z = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


@pytest.mark.parametrize(
    "output",
    [
        Z,
        SimpleNamespace(logits=Z),
        {"logits": Z, "loss": None},
        OrderedDict(logits=Z),
        (Z, torch.zeros(5)),
        [Z],
        torch.distributions.Categorical(logits=Z).logits + torch.logsumexp(Z, 1, keepdim=True),
    ],
)
def test_logits_are_found_in_whatever_holds_them(output: Any) -> None:
    assert torch.allclose(as_logits(output, 2), Z)


def test_half_precision_becomes_float_and_float64_stays() -> None:
    assert as_logits(Z.half(), 2).dtype == torch.float32
    assert as_logits(Z.bfloat16(), 2).dtype == torch.float32
    assert as_logits(Z.double(), 2).dtype == torch.float64


@pytest.mark.parametrize("shape", [(3, 1), (3,)])
def test_a_single_logit_becomes_two_classes(shape: tuple[int, ...]) -> None:
    z = torch.tensor([-1.0, 0.5, 2.0]).view(shape)
    assert as_logits(z, 3).tolist() == [[0, -1], [0, 0.5], [0, 2]]


def test_a_squeezed_batch_of_one_is_a_row() -> None:
    assert as_logits(torch.tensor([1.0, 2.0, 3.0]), 1).shape == (1, 3)
    assert as_logits(torch.tensor(2.0), 1).tolist() == [[0, 2]]


def test_gradients_flow_through() -> None:
    z = torch.tensor([[1.0], [2.0]], requires_grad=True)
    as_logits(SimpleNamespace(logits=z), 2)[:, 1].sum().backward()
    assert z.grad is not None
    assert z.grad.tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (torch.tensor([1, 2]), ["int64", "argmax"]),
        (torch.zeros(3, 4), ["(3, 4)", "batch of 2", "first dimension"]),
        (torch.zeros(2, 7, 4), ["(2, 7, 4)", "sequence classifier"]),
        (torch.zeros(2, 4, 1, 1), ["flatten(1)"]),
        (torch.zeros(2, 4, 8, 8), ["segmentation"]),
        (torch.zeros(2, 0), ["no classes"]),
        (torch.tensor(1.0), ["keep the batch dimension"]),
        ({"scores": Z}, ["'scores'", "return the logits"]),
        ({}, ["nothing"]),
        (np.zeros((2, 3)), ["numpy", "torch tensor"]),
        (None, ["NoneType", "one row of logits"]),
        ((), ["tuple"]),
    ],
)
def test_other_outputs_say_what_to_return(output: Any, words: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        as_logits(output, 2)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_running_out_of_memory_is_recognised(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
