"""Which parts of a torch module act differently in training mode."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from pytest_robust.models.submodules import named_submodules

_DROPS_PATHS = ("DropPath", "StochasticDepth")
"""Stochastic depth, by the names that timm, transformers and torchvision give it."""


def training_parts(module: nn.Module) -> tuple[str, ...]:
    """The submodules in training mode that act differently in it, such as ``"1.drop (Dropout)"``, in the module's order.

    A training flag alone is harmless; dropout that drops, normalisation by batch statistics and stochastic depth are not.
    """
    return tuple(_in_training(module, lambda part: _uses_batch_statistics(part) or _acts_at_random(part)))


def random_parts(module: nn.Module | None) -> dict[str, nn.Module]:
    """Those of the ``training_parts`` that act at random in training mode, by the same names."""
    return {} if module is None else _in_training(module, _acts_at_random)


def _in_training(module: nn.Module, acts: Callable[[nn.Module], bool]) -> dict[str, nn.Module]:
    return {
        f"{name or 'the model itself'} ({type(part).__name__})": part
        for name, part in named_submodules(module)
        if getattr(part, "training", False) and acts(part)
    }


def _uses_batch_statistics(part: nn.Module) -> bool:
    # Without running statistics both modes use those of the batch.
    return isinstance(part, _NormBase) and bool(part.track_running_stats) and part.running_mean is not None


def _acts_at_random(part: nn.Module) -> bool:
    if isinstance(part, _DropoutNd):
        return bool(part.p > 0)
    if isinstance(part, nn.MultiheadAttention):
        return bool(part.dropout > 0)
    if isinstance(part, nn.RNNBase):
        return part.dropout > 0 and part.num_layers > 1
    if type(part).__name__ in _DROPS_PATHS:
        return bool(getattr(part, "drop_prob", getattr(part, "p", 0)))
    return isinstance(part, nn.RReLU)
