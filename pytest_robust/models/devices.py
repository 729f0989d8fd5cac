"""Where a model runs: device names, and a copy of a module where it is asked for elsewhere."""

from __future__ import annotations

import copy

import torch
from torch import nn

from pytest_robust.errors import ModelError
from pytest_robust.models.submodules import submodules, tensors


def resolve_device(spec: str) -> torch.device:
    """``auto`` (the first CUDA device, else the CPU), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; CUDA with its index.

    Raises:
        ModelError: not the name of a device, or not one that this machine has.
    """
    if spec == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(spec)
    except RuntimeError:
        raise ModelError(f"no device is called {spec!r}; use 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'") from None
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise ModelError(f"device {spec!r} was asked for, but torch sees no CUDA device here; use 'cpu' or 'auto'")
        index = torch.cuda.current_device() if device.index is None else device.index
        if index >= count:
            raise ModelError(f"device {spec!r} was asked for, but there are {count} CUDA devices, 0 to {count - 1}")
        return torch.device("cuda", index)
    if device.type == "mps":
        if not torch.backends.mps.is_available():
            raise ModelError("device 'mps' was asked for, but torch has no MPS here; use 'cpu' or 'auto'")
        return torch.device("mps", 0)
    raise ModelError(f"device {spec!r} is not supported; use 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'")


def placed(module: nn.Module, spec: str) -> tuple[nn.Module, torch.device]:
    """``module`` itself where it is on the device asked for, else a deep copy of it there; the user's never moves.

    With ``auto`` a module that is on an accelerator already stays there, also when spread over several; one that holds no
    tensors runs on the CPU.

    Raises:
        ModelError: no such device, or the module cannot be copied to it.
    """
    here = list(dict.fromkeys(t.device for t in tensors(module)))
    if spec == "auto":
        accelerated = [device for device in here if device.type not in ("cpu", "meta")]
        if accelerated:
            return module, accelerated[0]
        if not here:
            return module, torch.device("cpu")
    device = resolve_device(spec)
    if not here or here == [device]:
        return module, device
    try:
        moved = copy.deepcopy(module).to(device)
        for part in submodules(moved):
            # One in a list, which to() does not reach.
            if any(t.device != device for t in tensors(part)):
                part.to(device)
        return moved, device
    except Exception as error:
        raise ModelError(
            f"{type(module).__name__} is on {', '.join(map(str, here))} and could not be copied to {device} "
            f"({type(error).__name__}: {error}); move it there yourself with model.to('{device}'), "
            f"or run where it is: device='{here[0]}'"
        ) from error
