"""What a rerun of an unchanged suite costs, beyond loading the model and the data.

Two suites: four checks of a network with two convolutions on 500 digits of scikit-learn, in the profile release, and one
check of a linear classifier on 10,000 random 3x32x32 images. Each is run once, which attacks; then, in processes of their
own that take turns, again as it is, so that every check is found in ``.robust``, and with its tests ending as soon as they
have the model and the data: importing torch, reading weights and images. "added" is the median difference within a turn.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import sys
import tempfile
from pathlib import Path

import torch
from common import digits, middle, show, timed, train
from logit_scale import network

from pytest_robust.conformance.networks import seeded
from pytest_robust.pytest_plugin import plugin

HEAD = """
import os
import pytest, torch
from torch import nn

def check(robust, model, data, **options):
    if "LOAD_ONLY" not in os.environ:
        robust(model, data, **options)
"""
DIGITS = f"""{HEAD}
{inspect.getsource(network)}
@pytest.fixture(scope="module")
def model():
    net = network()
    net.load_state_dict(torch.load("model.pt", weights_only=True))
    return net.eval()

@pytest.fixture(scope="module")
def data():
    return torch.load("data.pt", weights_only=True)

def test_small(robust, model, data): check(robust, model, data, eps="0.05", min_accuracy=0.1)
def test_large(robust, model, data): check(robust, model, data, eps="0.1", min_accuracy=0.1)
def test_l2(robust, model, data): check(robust, model, data, eps="0.6", norm="l2")
def test_l1(robust, model, data): check(robust, model, data, eps="2.5", norm="l1")
"""
IMAGES = f"""{HEAD}
def test_many(robust):
    torch.manual_seed(0)
    images = torch.rand(10_000, 3, 32, 32)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)).eval()
    with torch.no_grad():
        labels = model(images).argmax(1)
    check(robust, model, (images, labels), eps="1/255", attacks="fgsm", profile="standard")
"""
SUITES = {"digits": (DIGITS, ("--robust-profile=release",)), "images": (IMAGES, ())}


def run(folder: Path, *options: str, load_only: bool = False) -> tuple[float, float, int]:
    """One run of the suite: wall-clock seconds, CPU seconds, and how many of its checks were found finished.

    Raises:
        RuntimeError: pytest failed.
    """
    report = folder / "report.json"
    command = [sys.executable, "-m", "pytest", "-q", "-p", plugin.__name__, "-p", "no:cacheprovider", "--robust-device=cpu"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "1"}
    if load_only:
        environment["LOAD_ONLY"] = "1"
    wall, cpu, _ = timed([*command, f"--robust-report={report}", *options], folder, environment)
    return wall, cpu, sum(check["cached"] for check in json.loads(report.read_text(encoding="utf-8"))["checks"])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="turns (default: 7)")
    parser.add_argument("--suites", default=",".join(SUITES), help="comma-separated names (default: all)")
    parser.add_argument("--target", type=float, default=2.0, help="exit status 1 above so many seconds (default: 2)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)

    rows, fine = [], True
    for name in args.suites.split(","):
        source, options = SUITES[name]
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            (folder / "test_suite.py").write_text(source, encoding="utf-8")
            (x, y), test = digits()
            torch.save(train(seeded(network), x, y, epochs=15).state_dict(), folder / "model.pt")
            torch.save(test, folder / "data.pt")
            first = run(folder, *options)
            pairs = [(run(folder, *options), run(folder, *options, load_only=True)) for _ in range(args.repeats)]
        checks = source.count("check(robust, ") - 1
        fine &= first[2] == 0 and all(again[2] == checks for again, _ in pairs)
        for clock, place in (("wall clock", 0), ("CPU", 1)):
            again, loading = ([turn[place] for turn in turns] for turns in zip(*pairs, strict=True))
            added, low, high = middle([one - other for one, other in zip(again, loading, strict=True)])
            cells = [first[place], middle(again)[0], middle(loading)[0], added]
            rows.append([name, clock, *(f"{seconds:.2f}" for seconds in cells), f"{low:.2f} - {high:.2f}"])
            fine &= added <= args.target
    show(rows, ["suite", "clock", "first run, s", "again, s", "loading, s", "added, s", "quartiles"],
         f"every check of every rerun was found finished; target {args.target:g} s" if fine else
         f"MISSED: more than {args.target:g} s added, or a check of a rerun was attacked again")  # fmt: skip
    return int(not fine)


if __name__ == "__main__":
    raise SystemExit(main())
