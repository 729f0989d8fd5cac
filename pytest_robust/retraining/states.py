"""Everything of a training in one file of numbers and JSON, so that it goes on as if it had never stopped."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pytest_robust.errors import DamagedError, RobustError
from pytest_robust.store.files import read_arrays, write_arrays

Plain = Any
Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write mappings, lists and tuples of tensors, arrays, numbers, texts and None, whole or not at all; never pickled.

    Raises:
        RobustError: there is something else in it. OSError: it cannot be written.
    """
    arrays: Arrays = {}
    write_arrays(path, {"state": _packed(dict(state), arrays, "")}, arrays)


def read_state(path: Path) -> dict[str, Any]:
    """What ``write_state`` wrote, equal in types and in every bit; tensors on the CPU, wherever they were.

    Raises:
        FileNotFoundError: there is no such file. OSError: it cannot be read. DamagedError: it is not whole, or not of that
            kind.
    """
    content, arrays = read_arrays(path)
    try:
        state = _unpacked(content["state"], arrays)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedError(f"{path}: it is no state of a training ({type(error).__name__}: {error})") from None
    if not isinstance(state, dict):
        raise DamagedError(f"{path}: it is no state of a training")
    return state


def _packed(value: object, arrays: Arrays, name: str) -> Plain:
    if value is None or isinstance(value, (bool, str)) or type(value) in (int, float):
        return value
    if isinstance(value, Tensor):
        dtype, raw = str(value.dtype).removeprefix("torch."), value.detach().cpu().contiguous()
        # numpy has no bfloat16, and other types to come: bytes are all that has to be kept.
        arrays[name] = raw.view(-1).view(torch.uint8).numpy() if raw.numel() else np.zeros(0, np.uint8)
        return {"tensor": name, "dtype": dtype, "shape": list(value.shape)}
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {"array": name}
    if isinstance(value, np.generic):
        return _packed(value.item(), arrays, name)
    if isinstance(value, (list, tuple)):
        items = [_packed(item, arrays, f"{name}.{i}") for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, Mapping):
        pairs = enumerate(value.items())
        return {"items": [[_packed(key, arrays, ""), _packed(item, arrays, f"{name}.{i}")] for i, (key, item) in pairs]}
    raise RobustError(
        f"the state of the training holds a {type(value).__name__}, which cannot be kept in a file of numbers and texts; "
        "leave checkpoint out, or use an optimizer and a scheduler whose state_dict() has none"
    )


def _unpacked(plain: Plain, arrays: Mapping[str, Any]) -> Any:
    if isinstance(plain, list):
        return [_unpacked(item, arrays) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if "items" in plain:
        return {_unpacked(key, arrays): _unpacked(item, arrays) for key, item in plain["items"]}
    if "tuple" in plain:
        return tuple(_unpacked(item, arrays) for item in plain["tuple"])
    if "array" in plain:
        return np.array(arrays[plain["array"]])
    dtype = getattr(torch, plain["dtype"])
    raw = torch.from_numpy(np.array(arrays[plain["tensor"]]))
    flat = raw.view(dtype) if raw.numel() else torch.zeros(0, dtype=dtype)
    return flat.view(plain["shape"])


def random_state() -> dict[str, Any]:
    """Of Python, numpy and torch, on the CPU and on each CUDA device in use."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    return {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put back what ``random_state`` gave."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
