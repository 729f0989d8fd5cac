"""What git knows of a project."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git(folder: Path, *arguments: str, timeout: float | None = None) -> str | None:
    """What git says in ``folder``; None where it fails.

    Args:
        timeout: seconds to wait for it; None: as long as it takes.

    Raises:
        OSError: git cannot be run. subprocess.TimeoutExpired: it did not answer in time.
    """
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=timeout)
    return done.stdout if done.returncode == 0 else None
