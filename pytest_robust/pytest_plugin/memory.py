"""What tests know from earlier runs: the folder ``.robust`` of the project."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_robust.reports.record import Record
from pytest_robust.reports.run import Run
from pytest_robust.store import runs
from pytest_robust.store.git import git

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
    found = commit(config)
    name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + (f"-{found['id'][:7]}" if found else "")
    return runs.add_run(root(config), name, run)


def pictures(config: pytest.Config, run: Run) -> dict[str, Record]:
    """By check id, what there is to see of the examples that attacks broke, of the checks that failed."""
    from pytest_robust.store.pictures import pictures as drawn

    failed = (check for check in run["checks"] if check["verdict"] == "fail" and check["broken_by"].keys() - {"clean"})
    return {check["id"]: drawn(root(config), check) for check in failed}


def commit(config: pytest.Config) -> dict[str, Any] | None:
    """The project's commit, and whether files have changed since; None where there is none."""
    id = _git(config.rootpath, "rev-parse", "HEAD")
    return None if not id else {"id": id, "dirty": bool(_git(config.rootpath, "status", "--porcelain", "-uno"))}


def _git(folder: Path, *arguments: str) -> str:
    """What git says, empty where it fails: a run is kept under its commit where there is one, and without where not."""
    try:
        return (git(folder, *arguments, timeout=10) or "").strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
