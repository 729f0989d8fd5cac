"""``pytest-robust demo``: what a failure and a pass look like."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

_PACKAGED, _IN_REPOSITORY = Path(__file__).parents[1] / "demo", Path(__file__).parents[2] / "examples" / "digits"
_EXPECTED = {"test_standard_training": "fail", "test_adversarial_training": "pass"}
"""The demo's checks and the verdicts it is there to show."""


def demo() -> int:
    """Run pytest on the digits example; 0 when the outcome is the one that the example is meant to show."""
    if find_spec("sklearn") is None:
        print("pytest-robust demo needs scikit-learn for its digits: pip install 'pytest-robust[demo]'", file=sys.stderr)
        return 2
    source = _PACKAGED if _PACKAGED.is_dir() else _IN_REPOSITORY
    print("Two networks are trained on handwritten digits, then pytest attacks both: about half a minute.\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="pytest-robust-demo-") as scratch:
        # A copy in a folder of its own: no configuration of the caller's project applies, nothing is left behind.
        folder = shutil.copytree(source, Path(scratch) / "digits", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        options = ["-p", "no:cacheprovider", "-p", "no:randomly", "--robust-report", "demo.json"]
        # For networks this small, threads cost more than they bring, above all on a busy machine.
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        command = [sys.executable, "-m", "pytest", *options]
        status = subprocess.run(command, cwd=folder, env=environment, check=False).returncode
        verdicts = _verdicts(folder / "demo.json")
    if status != 1 or verdicts != _EXPECTED:
        print(f"\ndemo: NOT the outcome it should show; pytest's exit status {status}, {verdicts}", file=sys.stderr)
        return 1
    print(
        "\nThis is what the demo is to show: the network trained as usual FAILS a check that the same network, trained"
        f"\nadversarially, passes. The files: {source}"
    )
    return 0


def _verdicts(report: Path) -> dict[str, str]:
    """The verdict by test function in a JSON report; empty when pytest wrote none."""
    if not report.is_file():
        return {}
    checks = json.loads(report.read_text(encoding="utf-8"))["checks"]
    return {check["id"].split("::")[-1].split("[")[0]: check["verdict"] for check in checks}
