"""Report files, whole or not at all."""

from __future__ import annotations

from pathlib import Path

from pytest_robust.reports import json_report, markdown
from pytest_robust.reports.run import Run
from pytest_robust.whole_files import write_whole

RENDERERS = {".json": json_report.render, ".md": markdown.render}


def write(run: Run, path: Path) -> None:
    """Write the report that the suffix asks for; a reader never sees half of it.

    Raises:
        OSError: the path cannot be written. What was there before stays.
    """
    write_whole(path, RENDERERS[path.suffix](run).encode())


def append_markdown(run: Run, path: Path) -> None:
    """Append the Markdown report to a file that others write to as well, as GitHub's step summary is.

    Raises:
        OSError: the path cannot be written.
    """
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(markdown.render(run))
