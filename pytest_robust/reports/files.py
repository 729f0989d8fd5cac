"""Report files, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pytest_robust.reports import html, json_report, markdown
from pytest_robust.reports.record import Record
from pytest_robust.reports.run import Run
from pytest_robust.whole_files import write_whole

RENDERERS = {".json": json_report.render, ".md": markdown.render}


def write(run: Run, path: Path, pictures: Mapping[str, Record] | None = None) -> None:
    """Write the report that the suffix asks for; a reader never sees half of it.

    Args:
        pictures: for an HTML report, see there.

    Raises:
        OSError: the path cannot be written. What was there before stays.
    """
    text = html.render(run, pictures) if path.suffix == ".html" else RENDERERS[path.suffix](run)
    write_whole(path, text.encode())


def append_markdown(run: Run, path: Path) -> None:
    """Append the Markdown report to a file that others write to as well, as GitHub's step summary is.

    Raises:
        OSError: the path cannot be written.
    """
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(markdown.render(run))
