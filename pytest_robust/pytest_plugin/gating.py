"""What is compared with what, and what fails: the options of baselines and gates, joined."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_robust.store.baseline import FOLDER, BaselineError, Source

_MARGIN, _CLEAN_MARGIN = 0.02, 0.01


@dataclass(frozen=True)
class Gating:
    """How checks are held against baselines.

    Attributes:
        source: of the baselines; None: nothing is compared, or written. update: write them, instead of comparing.
        gate: ``"off"``, ``"no-regression"`` or ``"release"``. margin, clean_margin: drops that are too much.
    """

    source: Source | None = None
    update: bool = False
    gate: str = "off"
    margin: float = _MARGIN
    clean_margin: float = _CLEAN_MARGIN

    @classmethod
    def of(
        cls,
        config: pytest.Config,
        *,
        gate: str | None,
        folder: str | None,
        margin: float | None,
        clean_margin: float | None,
    ) -> Gating:
        """What the command line and, for what is given here, the ini file ask for.

        Raises:
            pytest.UsageError: options that contradict each other, or baselines that are asked for and not there.
        """
        named, margins = config.getoption("robust_baseline"), (margin or _MARGIN, clean_margin or _CLEAN_MARGIN)
        if config.getoption("robust_update"):
            _check_update(config, named)
            return cls(Source(config.rootpath, Path(named or folder or FOLDER)), True, "off", *margins)
        if named is None and gate in (None, "off"):
            return cls(None, False, "off", *margins)
        try:
            source = Source.named(named or "", config.rootpath, folder)
            found = source.all()
        except BaselineError as error:
            raise pytest.UsageError(f"--robust-baseline: {error}") from None
        if not found:
            hint = ""
            if named and source.revision is None:
                hint = f"; was {named!r} meant as a test path? Write --robust-baseline=PATH, or the test paths first"
            raise pytest.UsageError(f"--robust-baseline: there are no baselines in {source}{hint}")
        return cls(source, False, gate or "no-regression", *margins)


def _check_update(config: pytest.Config, named: str | None) -> None:
    """Raises UsageError where ``--robust-update`` cannot be meant."""
    if (named or "").startswith("git:"):
        raise pytest.UsageError(
            f"--robust-update writes files, and {named} is a revision: leave one out, then commit the files"
        )
    if config.getoption("maxfail", 0):
        raise pytest.UsageError("--robust-update needs a whole run: leave out -x and --maxfail")
    if config.getoption("robust_gate"):
        raise pytest.UsageError("--robust-update accepts what is, --robust-gate judges it: give one of them")
