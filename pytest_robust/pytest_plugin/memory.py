"""What tests know from earlier runs: the folder ``.robust`` of the project."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_robust.reports.run import Run
from pytest_robust.store import runs

if TYPE_CHECKING:
    from pytest_robust.store.folder import Folder

_FOLDER: pytest.StashKey[Folder] = pytest.StashKey()


def root(config: pytest.Config) -> Path:
    return config.rootpath / runs.FOLDER


def folder(config: pytest.Config) -> Folder:
    """The folder, opened when the first check of the session asks for it."""
    if _FOLDER not in config.stash:
        from pytest_robust.store.folder import Folder

        config.stash[_FOLDER] = Folder(root(config))
    return config.stash[_FOLDER]


def keep(config: pytest.Config, run: Run) -> Path:
    """Keep a finished run, under its time and commit.

    Raises:
        OSError: it cannot be written.
    """
    commit = _commit(config.rootpath)
    name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + (f"-{commit}" if commit else "")
    return runs.add_run(root(config), name, run)


def _commit(folder: Path) -> str:
    """The abbreviated commit of the project, empty where there is none."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
