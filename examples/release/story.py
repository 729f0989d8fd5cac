"""Three releases of a network: the first is accepted, the second has lost robustness and is stopped, the third passes.

``python examples/release/story.py`` trains the three, and for each runs pytest as a release would. Half a minute on one
core; all files are in a scratch folder. Exit status 0 when each release came to what it should.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

HERE = Path(__file__).parent
DIGITS = HERE.parent / "digits"
sys.path.insert(0, str(DIGITS))
from train_digits import load, train  # noqa: E402  # the project next door

UPDATE, COMPARE = "--robust-update", "--robust-baseline"
CONFIGURATION = """[pytest]
# Of 500 digits one point is five: too few to rule a drop out that chance makes.
robust_clean_margin = 2pt
"""
EXPECTED = {"v1": (0, "pass", None), "v2": (1, "fail", "regressed"), "v3": (0, "pass", "pass")}
"""For each release pytest's exit status, the verdict, and that of the comparison with the baseline."""


def releases() -> Iterator[tuple[str, str, nn.Module, str]]:
    """Each release: its name, what was done, the network, and the option of pytest that it is run with."""
    torch.set_num_threads(1)
    images, labels = load()[0]
    v1 = train(images, labels, adversarial=True)
    yield "v1", "trained adversarially", v1, UPDATE
    v2 = train(images, labels, adversarial=False, epochs=10, model=copy.deepcopy(v1))
    yield "v2", "v1 trained on for 10 epochs, but as usual", v2, COMPARE
    v3 = train(images, labels, adversarial=True, epochs=20, model=copy.deepcopy(v1))
    yield "v3", "v1 trained on for 20 epochs, adversarially again", v3, COMPARE


def run(folder: Path, model: nn.Module, option: str) -> tuple[int, str | None, str | None]:
    """Put the model in its place and run pytest; exit status, verdict, and verdict of the comparison."""
    torch.save(model.state_dict(), folder / "model.pt")
    report = folder / "report.json"
    report.unlink(missing_ok=True)
    options = ["-p", "no:cacheprovider", "-p", "no:randomly", option, "--robust-report", report.name]
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    command = [sys.executable, "-m", "pytest", *options]
    status = subprocess.run(command, cwd=folder, env=environment, check=False).returncode
    if not report.is_file():
        return status, None, None
    (check,) = json.loads(report.read_text(encoding="utf-8"))["checks"]
    return status, check["verdict"], check["comparison"] and check["comparison"]["verdict"]


def main() -> int:
    """Run the story; 0 when it ends as it should."""
    outcomes = {}
    with tempfile.TemporaryDirectory(prefix="pytest-robust-release-") as scratch:
        folder = Path(scratch)
        (folder / "pytest.ini").write_text(CONFIGURATION, encoding="utf-8")
        for file in (HERE / "test_release.py", DIGITS / "train_digits.py"):
            shutil.copy(file, folder)
        for name, done, model, option in releases():
            print(f"\n== {name}: {done}\n$ pytest {option}", flush=True)
            outcomes[name] = run(folder, model, option)
    if outcomes != EXPECTED:
        print(f"\nNOT the outcome it should show: {outcomes}, where {EXPECTED} was expected", file=sys.stderr)
        return 1
    print("\nv1 was accepted, v2 was stopped for what it had lost, v3 may go out.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
