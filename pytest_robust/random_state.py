"""The global random states of Python, numpy and torch: seeded, saved, and put back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_random_state(seed: int) -> None:
    """Set every global random state, to be called inside ``preserved_random_state``."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    # Not torch.manual_seed: where CUDA is not in use it would be seeded, too, once it is.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        for generator in torch.cuda.default_generators:
            generator.manual_seed(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """On leaving, also by an exception, every global random state is what it was on entering.

    Covers ``random``, ``numpy.random``, torch on the CPU, on every CUDA device once CUDA is in use, and on MPS.
    """
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    cpu_state = torch.get_rng_state()
    # Asking for the states would start CUDA, which a run on the CPU must not do: it costs seconds and memory.
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    mps_state = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(cpu_state)
        if cuda_states is not None:
            torch.cuda.set_rng_state_all(cuda_states)
        elif torch.cuda.is_available() and torch.cuda.is_initialized():
            # CUDA was started meanwhile: seeding again gives the state that it started with.
            for generator in torch.cuda.default_generators:
                generator.manual_seed(generator.initial_seed())
        if mps_state is not None:
            torch.mps.set_rng_state(mps_state)
