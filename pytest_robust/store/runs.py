"""The runs kept in ``.robust``. No torch here: the process that gathers a run does not evaluate."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytest_robust.errors import RobustError
from pytest_robust.reports.run import SCHEMA
from pytest_robust.whole_files import set_aside, sweep, write_whole

FOLDER = ".robust"
_KEPT, _REPLAYED = 20, 3


class StoreWarning(UserWarning):
    """Something in the folder could not be used; the run goes on without."""


class RunError(RobustError):
    """A run that is asked for and cannot be had. The message says where it was looked for, and what to do."""


def make(root: Path) -> None:
    """The folder, which git and others ignore.

    Raises:
        OSError: it cannot be made.
    """
    root.mkdir(parents=True, exist_ok=True)
    ignore = root / ".gitignore"
    if not ignore.is_file():
        write_whole(ignore, b"# Made by pytest-robust: what it found, to be found again. May be deleted.\n*\n")


def check_file(root: Path, key: str) -> Path:
    """Where the finished check of this key is kept."""
    return root / "checks" / f"{key}.safetensors"


def add_run(root: Path, name: str, run: Mapping[str, Any]) -> Path:
    """Keep a run as ``runs/NAME.json``; the oldest go, and with them what no run needs any more.

    Raises:
        OSError: it cannot be written.
    """
    make(root)
    path = root / "runs" / f"{name}.json"
    write_whole(path, (json.dumps(run, sort_keys=True) + "\n").encode())
    _prune(root)
    return path


def _prune(root: Path) -> None:
    """Remove the oldest runs, what is older than all others and named by none, and what killed processes left."""
    paths = runs(root)
    for old in paths[_KEPT:]:
        old.unlink(missing_ok=True)
    if len(paths) > _KEPT:
        named = {key for kept in paths[:_KEPT] for key in _keys(kept)}
        for part in ("checks", "unfinished"):
            for check in (root / part).glob("*.safetensors"):
                # A run that was killed, or still goes on, names nothing yet: what it has finished is younger.
                if check.stem not in named and _older(check, paths[_KEPT - 1]):
                    check.unlink(missing_ok=True)
    for check in (root / "unfinished").glob("*.safetensors"):
        if _older(check, check_file(root, check.stem)):
            check.unlink(missing_ok=True)
    for part in ("checks", "unfinished", "runs"):
        sweep(root / part)


def _older(path: Path, than: Path) -> bool:
    """Whether it was written before the other, and both are still there."""
    with suppress(FileNotFoundError):
        return path.stat().st_mtime_ns < than.stat().st_mtime_ns
    return False


def runs(root: Path) -> list[Path]:
    """The files of the runs kept, the latest first."""
    return sorted((root / "runs").glob("*.json"), key=lambda path: path.name, reverse=True)


def find_run(name: str, root: Path) -> tuple[str, dict[str, Any]]:
    """A run, and what to call it.

    Args:
        name: of a run kept in the folder ``root``, the beginning of one, ``"last"``, or the path of a JSON report.

    Raises:
        RunError: there is none of this name, or more than one, or it cannot be read.
    """
    path = Path(name) if name.endswith(".json") or Path(name).is_file() else _kept(name, root)
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read as a run or a JSON report: {error}") from None
    if not isinstance(run, dict) or run.get("schema") != SCHEMA or not isinstance(run.get("checks"), list):
        raise RunError(f"{path} is no JSON report of pytest-robust, or of a schema that this version does not know")
    return path.stem, run


def _kept(name: str, root: Path) -> Path:
    kept = runs(root)
    if not kept:
        raise RunError(f"there are no runs in {root / 'runs'}; run pytest here first, or name a JSON report")
    found = kept[:1] if name == "last" else [path for path in kept if path.stem.startswith(name)]
    found = [path for path in found if path.stem == name] or found
    if len(found) == 1:
        return found[0]
    which = f"several runs begin with {name!r}" if found else f"no run is called {name!r}"
    raise RunError(f"{which} in {root / 'runs'}; there is: {', '.join(path.stem for path in kept)}, or last")


def recent_keys(root: Path) -> list[str]:
    """Keys of the checks of the last runs, whose adversarial examples are tried first."""
    return list(dict.fromkeys(key for path in runs(root)[:_REPLAYED] for key in _keys(path)))


def give_up(path: Path, error: Exception) -> None:
    """Name a file that cannot be used, and set it aside."""
    aside = ""
    with suppress(OSError):
        aside = f", and is kept as {set_aside(path).name}" if path.is_file() else ""
    warnings.warn(StoreWarning(f"{path} cannot be used{aside}: {error}"), stacklevel=2)


def _keys(path: Path) -> list[str]:
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        return [check["key"] for check in run["checks"] if check.get("key")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        give_up(path, error)
        return []
