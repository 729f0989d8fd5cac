"""Annotations of a pull request: workflow commands that GitHub Actions reads from the log."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pytest_robust.reports import words
from pytest_robust.reports.record import Record

MOST = 10
"""GitHub shows so many of one kind per step."""
Location = tuple[str, int | None, str]
"""File relative to the root, line from 0, name: pytest's."""


def annotated(
    failed: Iterable[tuple[Location, str, str]], checks: Iterable[tuple[Location, Record]], root: Path
) -> list[str]:
    """An error for each failed test, a warning for each check that is suspicious and did not fail; ten of each at most.

    Args:
        failed: location, id and sentence. checks: with the location of their test. root: what files are relative to.
    """
    errors = [_command("error", where, id, sentence, root) for where, id, sentence in failed]
    warnings = [
        _command("warning", where, check["id"], words.suspicion(check), root)
        for where, check in checks
        if check["health"]["level"] == "suspicious" and check["verdict"] != "fail"
    ]
    return errors[:MOST] + warnings[:MOST]


def _command(level: Literal["error", "warning"], where: Location, title: str, message: str, root: Path) -> str:
    file, line, _ = where
    # In the repository, which may hold the project in a folder of its own.
    shown = os.path.relpath(root / file, os.environ.get("GITHUB_WORKSPACE") or root).replace(os.sep, "/")
    properties = {"file": shown} | ({} if line is None else {"line": str(line + 1)}) | {"title": title}
    return f"::{level} {','.join(f'{name}={_property(value)}' for name, value in properties.items())}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
