"""Files that a reader finds whole or not at all, and that know when they were damaged."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pytest_robust.errors import RobustError
from pytest_robust.evaluation.memory import Arrays

_DIGEST, _CONTENT = "digest", "content"


class DamagedError(RobustError):
    """A file that cannot be what was written: cut off, changed, or of another kind. The message names it."""


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a process killed meanwhile, leaves the old one or the new one.

    Raises:
        OSError: it cannot be written. What was there before stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not ``tempfile``: its files are private to the user, these have the permissions of any new file.
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


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


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that it is kept and no longer in the way; its new name."""
    other = path.with_name(f"{path.name}.damaged")
    path.replace(other)
    return other


def _digest(text: str, arrays: Arrays) -> str:
    state = hashlib.blake2b(text.encode(), digest_size=16)
    for name, array in sorted(arrays.items()):
        state.update(f"{name}:{array.dtype}:{array.shape}".encode())
        state.update(array.tobytes())
    return state.hexdigest()
