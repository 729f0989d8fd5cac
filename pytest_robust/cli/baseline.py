"""``pytest-robust baseline prune``: baselines whose check is no more."""

from __future__ import annotations

from pathlib import Path

from pytest_robust.errors import RobustError
from pytest_robust.reports.run import Run
from pytest_robust.store import runs
from pytest_robust.store.baseline import BaselineError, Source


def prune(name: str, folder: str | None, *, remove: bool) -> int:
    """List the baselines that have no check in a run of all checks; with ``remove``, remove them.

    Raises:
        RobustError: the run was cut short, or there are no baselines.
    """
    label, run = runs.find_run(name, Path(runs.FOLDER))
    if not run["complete"]:
        raise RobustError(f"{label} was cut short, so it does not say which checks there are; name a complete run")
    source = Source.named(folder or "", Path.cwd())
    gone = [found.id for found in source.all() if not _known(found.id, run)]
    if not gone:
        print(f"every baseline in {source} has its check in {label}")
        return 0
    for id in gone:
        path = source.file(id)
        if remove:
            _unlink(path)
        print(f"{'removed' if remove else 'not in the run'}: {path}  ({id})")
    if not remove:
        print(f"\n{label} has {len(run['checks'])} checks. If that is all there are, --yes removes these {len(gone)} files.")
    return 0


def _known(id: str, run: Run) -> bool:
    """Whether the check ran, or its test did without coming to a result."""
    tests = [*(error["id"] for error in run["errors"]), *run["missing"], *run.get("skipped", ())]
    known = {check["id"] for check in run["checks"]}
    return id in known or any(id == test or id.startswith((f"{test}::", f"{test}#", f"{test}@")) for test in tests)


def _unlink(path: Path) -> None:
    try:
        path.unlink()
    except OSError as error:
        raise BaselineError(f"{path} cannot be removed: {error.strerror or error}") from None
