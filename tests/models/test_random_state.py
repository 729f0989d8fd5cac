from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from pytest_robust.random_state import preserved_random_state


def states() -> tuple[object, list[int], list[int]]:
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


@pytest.mark.parametrize("raises", [False, True])
def test_every_global_state_is_put_back(raises: bool) -> None:
    before = states()
    try:
        with preserved_random_state():
            random.random()
            np.random.rand()
            torch.manual_seed(1)
            torch.rand(1)
            assert states() != before
            if raises:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert states() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without CUDA")
def test_cuda_is_not_started() -> None:
    with preserved_random_state():
        pass
    assert not torch.cuda.is_initialized()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_state_of_cuda_is_put_back() -> None:
    torch.cuda.init()
    before = torch.cuda.get_rng_state().tolist()
    with preserved_random_state():
        torch.rand(1, device="cuda")
    assert torch.cuda.get_rng_state().tolist() == before


def test_cuda_started_inside_is_left_as_freshly_started(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(7)
    fresh = generator.get_state().tolist()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "default_generators", (generator,))
    with preserved_random_state():
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        torch.rand(1, generator=generator)
    assert generator.get_state().tolist() == fresh
