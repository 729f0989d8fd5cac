"""``pytest-robust merge``: the verdict on a suite that was run in shards."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_robust.store.shards import Shards


def merge(folders: Sequence[str], more: Sequence[str]) -> int:
    """Run pytest as the first shard was run, on what all shards came to; 0: pass, 1: fail, 2: it cannot be decided.

    Args:
        more: arguments for pytest, after those of the shard.

    Raises:
        ShardError: the folders do not hold all the shards of one run.
    """
    arguments = [*Shards.gathered([Path(folder) for folder in folders]).arguments, *more]
    print(f"pytest {shlex.join(arguments)}", flush=True)
    status = run_pytest([*arguments, *(f"--robust-merge={Path(folder).absolute()}" for folder in folders)])
    # Every other status of pytest says that something did not run.
    return status if status in (0, 1) else 2


def run_pytest(arguments: Sequence[str]) -> int:
    """Run pytest in a process of its own; its exit status."""
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], check=False).returncode
