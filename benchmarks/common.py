"""What the benchmarks share: the table, the machine it was made on, and small networks and data."""

from __future__ import annotations

import logging
import os
import platform
import resource
import subprocess
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from tabulate import tabulate
from torch import Tensor, nn

import pytest_robust


def show(rows: Sequence[Sequence[object]], headers: Sequence[str], *notes: str) -> None:
    """Print the table, what it was made with, and what to know about it."""
    print(tabulate(rows, headers, disable_numparse=True))
    versions = f"pytest-robust {pytest_robust.__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    print(
        "", f"{versions}, {os.cpu_count()} CPU cores, {torch.get_num_threads()} torch threads", *notes, sep="\n", flush=True
    )


def quiet() -> None:
    """One torch thread, and nothing said but the table: transformers talks of every model it loads."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")


def middle(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, lower and upper quartile."""
    low, median, high = np.percentile(values, [25, 50, 75])
    return float(median), float(low), float(high)


def timed(command: Sequence[str | Path], folder: Path, environment: Mapping[str, str]) -> tuple[float, float, str]:
    """Run a program in the folder: wall-clock seconds, CPU seconds of it and of its children, and its standard output.

    Raises:
        RuntimeError: it failed.
    """
    before, began = _cpu(), time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=dict(environment), capture_output=True, text=True, check=False)
    wall, cpu = time.perf_counter() - began, _cpu() - before
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return wall, cpu, done.stdout


def _cpu() -> float:
    """CPU seconds of all child processes so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def digits() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The digits of scikit-learn, (n, 1, 8, 8) in [0, 1]: 1,297 images to train on, 500 to test on."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    x = torch.tensor(images[order] / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    y = torch.tensor(labels[order], dtype=torch.int64)
    return (x[500:], y[500:]), (x[:500], y[:500])


def train(model: nn.Module, x: Tensor, y: Tensor, *, epochs: int, noise: float = 0.0, seed: int = 0) -> nn.Module:
    """Minimise the cross-entropy with Adam, on inputs with uniform noise of this size; back in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(y), generator=generator).split(64):
            moved = x[rows] + noise * (2 * torch.rand(x[rows].shape, generator=generator) - 1)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(moved.clamp(0, 1)), y[rows]).backward()
            optimizer.step()
    model.zero_grad(set_to_none=True)
    return model.eval()
