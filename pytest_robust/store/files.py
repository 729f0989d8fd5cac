"""Files of plain values and arrays that know when they were damaged. No torch here, as in ``runs``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pytest_robust.errors import DamagedError
from pytest_robust.whole_files import write_whole

if TYPE_CHECKING:
    from pytest_robust.evaluation.memory import Arrays

_DIGEST, _CONTENT = "digest", "content"
SHOWN = "shown."
"""In a finished check, the arrays of the examples to draw: their rows follow."""


def write_arrays(path: Path, content: Mapping[str, Any], arrays: Arrays) -> None:
    """A safetensors file of plain JSON values and arrays, with a digest of both.

    Raises:
        OSError: it cannot be written.
    """
    text = json.dumps(content, sort_keys=True)
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_whole(path, save(arrays, {_CONTENT: text, _DIGEST: _digest(text, arrays)}))


def read_arrays(path: Path) -> tuple[dict[str, Any], Arrays]:
    """What ``write_arrays`` wrote.

    Raises:
        FileNotFoundError: there is no such file. OSError: it cannot be read. DamagedError: it is not whole.
    """
    path.stat()  # safetensors raises its own error, or none that says so
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
        text = metadata[_CONTENT]
        whole = metadata[_DIGEST] == _digest(text, arrays)
        content = json.loads(text)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise DamagedError(f"{path}: {type(error).__name__}: {error}") from None
    if not whole or not isinstance(content, dict):
        raise DamagedError(f"{path}: its content is not what was written")
    return content, arrays


def _digest(text: str, arrays: Arrays) -> str:
    state = hashlib.blake2b(text.encode(), digest_size=16)
    for name, array in sorted(arrays.items()):
        state.update(f"{name}:{array.dtype}:{array.shape}".encode())
        state.update(array.tobytes())
    return state.hexdigest()
