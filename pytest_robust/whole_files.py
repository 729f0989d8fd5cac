"""Files that a reader finds whole or not at all."""

from __future__ import annotations

import glob
import os
import time
from contextlib import suppress
from pathlib import Path

_ABANDONED = 3600.0
"""Seconds after which a draft is nobody's: to write one takes no minute, even on a slow network."""


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a process killed meanwhile, leaves the old one or the new one.

    Raises:
        OSError: it cannot be written. What was there before stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, glob.escape(path.name))
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


def sweep(folder: Path, names: str = "*") -> None:
    """Remove the drafts of files of these names (a pattern) that processes left behind which were killed while writing."""
    for draft in folder.glob(f".{names}.*.tmp"):
        # Another process may do the same, or its clock be another.
        with suppress(OSError):
            if time.time() - draft.stat().st_mtime > _ABANDONED:
                draft.unlink()


def unwritten(error: OSError) -> str:
    """Why a file could not be written, and what to do."""
    return f"{error.strerror or error}; make room there, or permit writing"


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that it is kept and no longer in the way; its new name."""
    other = path.with_name(f"{path.name}.damaged")
    path.replace(other)
    return other
