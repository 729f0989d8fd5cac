"""Files that a reader finds whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


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


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that it is kept and no longer in the way; its new name."""
    other = path.with_name(f"{path.name}.damaged")
    path.replace(other)
    return other
