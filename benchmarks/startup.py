"""What the plugin adds to pytest where nobody uses it.

``pytest --collect-only`` of a project of 20 files without robust tests, in processes of their own that take turns: with
the plugin, and with ``-p no:robust``; all other plugins are off. Given are the medians, and the median difference within
a turn. Bytecode is cached in a folder of the benchmark's own, whatever the environment says: compiling the plugin anew in
each process would be measured else. At the end of collection, torch must not have been imported.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from importlib.metadata import entry_points
from pathlib import Path

from common import middle, show, timed

HEAVY = ("torch", "numpy", "scipy", "tabulate", "transformers")
_RUN = f"""
import sys, pytest
status = pytest.main(sys.argv[1:])
heavy = [name for name in {HEAVY} if name in sys.modules]
print("loaded:", *heavy, "pytest_robust" if "pytest_robust.pytest_plugin.plugin" in sys.modules else "")
sys.exit(status)
"""


def project(folder: Path, files: int = 20) -> None:
    """Test files that import nothing."""
    for i in range(files):
        (folder / f"test_{i}.py").write_text("def test_a():\n    pass\n\n\ndef test_b():\n    pass\n", encoding="utf-8")


def collect(folder: Path, *options: str) -> tuple[float, float, list[str]]:
    """One ``pytest --collect-only``: wall-clock seconds, CPU seconds, and which of ``HEAVY`` and the plugin it imported.

    Raises:
        RuntimeError: pytest failed.
    """
    others = {entry.name for entry in entry_points(group="pytest11")} - {"robust"}
    off = [option for name in ("cacheprovider", *sorted(others)) for option in ("-p", f"no:{name}")]
    command = [sys.executable, "-c", _RUN, "--collect-only", "-q", *off, *options]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    wall, cpu, printed = timed(command, folder, environment)
    return wall, cpu, printed.rpartition("loaded:")[2].split()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30, help="turns (default: 30)")
    parser.add_argument("--target", type=float, default=20.0, help="exit status 1 above so many ms (default: 20)")
    args = parser.parse_args(argv)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project(folder)
        # The first run of each writes bytecode, and is not counted.
        loaded, otherwise = collect(folder)[2], collect(folder, "-p", "no:robust")[2]
        turns = []
        for turn in range(args.repeats):
            first = collect(folder) if turn % 2 else None
            without = collect(folder, "-p", "no:robust")
            turns.append((first or collect(folder), without))

    if "pytest_robust" not in loaded:
        raise SystemExit("the plugin was not loaded: install pytest-robust into this environment (pip install -e .)")
    rows = []
    for clock, place in (("wall clock", 0), ("CPU", 1)):
        with_, without_ = ([1000 * float(run[place]) for run in runs] for runs in zip(*turns, strict=True))
        added, low, high = middle([one - other for one, other in zip(with_, without_, strict=True)])
        base, whole = middle(without_)[0], middle(with_)[0]
        rows.append([clock, f"{base:.0f}", f"{whole:.0f}", f"{added:.1f}", f"{low:.1f} - {high:.1f}"])
    heavy = [name for name in loaded if name in HEAVY and name not in otherwise]
    show(rows, ["clock", "without, ms", "with, ms", "added, ms", "quartiles"],
         f"imported because of the plugin: {', '.join(heavy) or 'none of ' + ', '.join(HEAVY)}",
         f"pytest-robust: {added:.1f} ms of CPU time added, target {args.target:g} ms")  # fmt: skip
    return int(added > args.target or "torch" in heavy)


if __name__ == "__main__":
    raise SystemExit(main())
