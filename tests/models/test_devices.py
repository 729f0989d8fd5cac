from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_robust.errors import ModelError
from pytest_robust.models import devices
from pytest_robust.models.devices import placed, resolve_device

CUDA = torch.cuda.is_available()


@pytest.mark.skipif(CUDA, reason="for machines without CUDA")
def test_auto_is_the_cpu_where_there_is_nothing_else() -> None:
    assert resolve_device("auto") == torch.device("cpu")


def test_cpu_has_no_index() -> None:
    assert resolve_device("cpu") == resolve_device("cpu:0") == torch.device("cpu")


@pytest.mark.parametrize(
    ("spec", "words"),
    [("gpu", "no device is called 'gpu'"), ("cpux", "no device"), ("xla", "not supported"), ("meta", "not supported")],
)
def test_unknown_devices_are_named(spec: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        resolve_device(spec)


@pytest.mark.skipif(CUDA, reason="for machines without CUDA")
@pytest.mark.parametrize("spec", ["cuda", "cuda:1"])
def test_cuda_without_cuda_says_so(spec: str) -> None:
    with pytest.raises(ModelError, match="use 'cpu' or 'auto'"):
        resolve_device(spec)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="for machines without MPS")
def test_mps_without_mps_says_so() -> None:
    with pytest.raises(ModelError, match="use 'cpu' or 'auto'"):
        resolve_device("mps")


@pytest.mark.skipif(not CUDA, reason="needs CUDA")
def test_cuda_is_resolved_to_an_index_and_the_users_module_stays() -> None:
    assert resolve_device("cuda").index is not None
    with pytest.raises(ModelError, match="CUDA devices"):
        resolve_device("cuda:99")
    module = nn.Linear(2, 2)
    copy, device = placed(module, "cuda")
    assert device.type == "cuda"
    assert copy.weight.device == device
    assert module.weight.device.type == "cpu"


def test_modules_in_lists_move_with_the_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    meta = torch.device("meta")
    monkeypatch.setattr(devices, "resolve_device", lambda spec: meta)
    module = nn.Linear(2, 2)
    module.heads = [nn.Linear(2, 2)]
    copy, _ = placed(module, "meta")
    assert copy.weight.device == copy.heads[0].weight.device == meta
    assert module.heads[0].weight.device.type == "cpu"


def test_a_module_already_there_is_itself() -> None:
    module = nn.Linear(2, 2)
    assert placed(module, "cpu") == (module, torch.device("cpu"))


def test_a_module_without_tensors_runs_on_the_cpu() -> None:
    module = nn.ReLU()
    assert placed(module, "auto") == (module, torch.device("cpu"))


def test_a_module_that_cannot_be_copied_says_what_to_do() -> None:
    module = nn.Linear(2, 2, device="meta")
    with pytest.raises(ModelError, match=r"Linear is on meta .*model\.to\('cpu'\)"):
        placed(module, "cpu")
