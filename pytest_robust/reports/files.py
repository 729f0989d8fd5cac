"""Report files, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_robust.reports import json_report, markdown
from pytest_robust.reports.run import Run

RENDERERS = {".json": json_report.render, ".md": markdown.render}


def write(run: Run, path: Path) -> None:
    """Write the report that the suffix asks for; a reader never sees half of it.

    Raises:
        OSError: the path cannot be written. What was there before stays.
    """
    text = RENDERERS[path.suffix](run)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not ``tempfile``: its files are private to the user, a report has the permissions of any new file.
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_text(text, encoding="utf-8", newline="\n")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def append_markdown(run: Run, path: Path) -> None:
    """Append the Markdown report to a file that others write to as well, as GitHub's step summary is.

    Raises:
        OSError: the path cannot be written.
    """
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(markdown.render(run))
