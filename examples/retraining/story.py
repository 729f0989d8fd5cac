"""Fail, retrain, pass: a network that fails its gate is retrained by the gate itself, and what comes out passes it.

``python examples/retraining/story.py`` trains a network as usual, runs pytest with ``--robust-retrain``, puts the retrained
weights in the place of the old ones, and runs pytest again. ``story.py typos`` does the same with a model of texts and
typing errors, in place of images and moved pixels. At most half a minute on one core; all files are in a scratch folder.
Exit status 0 when the first run fails and the second passes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

EXAMPLES = Path(__file__).parents[1]
MODEL = "model.safetensors"
STORIES = {
    "digits": ("retraining/test_gate.py", "digits/train_digits.py"),
    "typos": ("retraining/test_typos_gate.py", "text/train_bag.py", "text/reviews.py"),
}
"""The files of each: the gate, then the project around it."""


def trained(story: str) -> nn.Module:
    """The network, trained as usual."""
    if story == "digits":
        import train_digits

        return train_digits.train(*train_digits.load()[0], adversarial=False)
    import train_bag

    return train_bag.train()


def run(folder: Path, *options: str) -> int:
    """The exit status of pytest in the folder."""
    print(f"\n$ pytest {' '.join(options)}".rstrip(), flush=True)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", *options]
    return subprocess.run(command, cwd=folder, env={"OMP_NUM_THREADS": "1", **os.environ}, check=False).returncode


def main(story: str = "digits") -> int:
    """Run a story; 0 when it ends as it should."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="pytest-robust-retraining-") as scratch:
        folder = Path(scratch)
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        for file in STORIES[story]:
            shutil.copy(EXAMPLES / file, folder)
        sys.path.insert(0, scratch)
        save_file(trained(story).state_dict(), folder / MODEL)
        first = run(folder, "--robust-retrain")
        found = sorted((folder / ".robust" / "retrained").rglob(MODEL))
        if found:
            shutil.copy(found[0], folder / MODEL)
        second = run(folder)
    if (first, second, len(found)) != (1, 0, 1):
        print(f"\nNOT the outcome it should show: exit {first}, then {second}, {len(found)} models saved", file=sys.stderr)
        return 1
    print("\nThe network failed its gate, was retrained, and passes it.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
