"""What replay finds: adversarial examples of one model tried on its successor, a forward pass each.

Two networks with two convolutions on scikit-learn's digits, one trained as usual and one on noisy images. What a run on
each of them left in ``.robust`` is tried on its successors, in the profile release: "more data" is the same network trained
on with the half of the images that it had not seen, "five more epochs" with those that it had, "from scratch" a new network
from another initialisation; "two before" had both the old one and the one trained on run before it. "broken" counts the
examples that the whole schedule breaks in the successor, "tried" those of which a run before has left a point, "found" is
the share of the broken that replay breaks: by one forward pass for each point, and one more that verifies it where it
breaks. "passes/tried" are those passes, "schedule" forward and backward passes of everything, per example.

With --zoo DIR, a folder as zoo.py asks for, each of its models is the predecessor of each other one for the same images:
these are other networks, trained otherwise, that never were successors of each other. Exit status 1 where of all that
the schedule breaks in the successors replay finds less than --target.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from common import digits, show, train
from logit_scale import network
from torch import Tensor, nn
from zoo import zoo_of

from pytest_robust import L2, Linf, evaluate
from pytest_robust.conformance.networks import seeded
from pytest_robust.evaluation.replay import REPLAY
from pytest_robust.store.folder import Folder
from pytest_robust.store.runs import add_run

HEADERS = ["model", "successor", "threat", "robust before", "robust", "broken", "tried", "found", "passes/tried", "schedule"]
THREATS = (Linf("0.1"), L2("0.6"))
EPOCHS, MORE = 15, 5


@dataclass(frozen=True)
class Step:
    """From one or more models to another, on the same examples."""

    model: str
    successor: str
    before: Sequence[nn.Module]
    after: nn.Module
    data: tuple[Tensor, Tensor]
    threats: Sequence[Linf | L2]
    counts: bool = True
    """Whether it is what the target is about."""


def of_digits() -> Iterator[Step]:
    """Successors of networks for the digits."""
    (x, y), test = digits()
    half = len(y) // 2
    for name, noise in (("usual", 0.0), ("noisy", 0.3)):
        young = train(seeded(network), x[:half], y[:half], epochs=EPOCHS, noise=noise)
        old = train(seeded(network), x, y, epochs=EPOCHS, noise=noise)
        grown = train(copy.deepcopy(young), x, y, epochs=EPOCHS, noise=noise, seed=1)
        yield Step(name, "more data", [young], grown, test, THREATS)
        longer = train(copy.deepcopy(old), x, y, epochs=MORE, noise=noise, seed=1)
        yield Step(name, "five more epochs", [old], longer, test, THREATS)
        fresh = train(seeded(network, 7), x, y, epochs=EPOCHS, noise=noise, seed=1)
        yield Step(name, "from scratch", [old], fresh, test, THREATS)
        yield Step(name, "from scratch, two before", [old, longer], fresh, test, THREATS, counts=False)


def of_zoo(folder: Path, n: int) -> Iterator[Step]:
    """Every model of the folder as predecessor of each other one that sees images of the same shape."""
    zoo = zoo_of(folder)
    for before, after in itertools.permutations(zoo.names(), 2):
        old, new = zoo.load(before), zoo.load(after)
        if old.images.shape[1:] == new.images.shape[1:]:
            data = (new.images[:n], new.labels[:n])
            yield Step(before, after, [old.model], new.model, data, [Linf(new.eps)], counts=False)


def row(step: Step, threat: Linf | L2) -> tuple[list[str], int, int]:
    """The table's row; how many the schedule breaks in the successor, and how many of them replay does."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for number, model in enumerate(step.before):
            earlier = evaluate(model, step.data, threat, profile="release", device="cpu", memory=Folder(root))
            assert earlier.identity is not None
            add_run(root, f"{number}", {"checks": [{"key": earlier.identity.check}]})
        whole = evaluate(step.after, step.data, threat, profile="release", device="cpu")
        again = evaluate(step.after, step.data, threat, profile="release", device="cpu", memory=Folder(root))
    broken = whole.correct & ~whole.robust
    found = sum(by == REPLAY and was for by, was in zip(again.broken_by, broken, strict=True))
    replays = [stage for stage in again.stages if stage.attack == REPLAY]  # none where no point was left
    tried, passes = sum(stage.attacked for stage in replays), sum(stage.cost.forward for stage in replays)
    spent = (whole.cost.forward + whole.cost.backward) / len(whole)
    cells = [
        step.model, step.successor, f"{whole.threat.norm} {whole.threat.value:.4g}", f"{100 * earlier.accuracy:.1f}",
        f"{100 * whole.accuracy:.1f}", f"{broken.sum()}", f"{tried}", f"{100 * found / max(1, broken.sum()):.0f}%",
        f"{passes / max(1, tried):.2f}", f"{spent:.0f}",
    ]  # fmt: skip
    return cells, int(broken.sum()), found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, help="also the models of this folder")
    parser.add_argument("--n", type=int, default=200, help="images of each model of the folder (default: 200)")
    parser.add_argument("--target", type=float, default=60.0, help="exit status 1 below so many percent (default: 60)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)

    rows, broken, found = [], 0, 0
    steps = itertools.chain(of_digits(), of_zoo(args.zoo, args.n) if args.zoo else ())
    for step in steps:
        for threat in step.threats:
            cells, breaks, finds = row(step, threat)
            rows.append(cells)
            broken, found = broken + step.counts * breaks, found + step.counts * finds
    share = 100 * found / max(1, broken)
    show(rows, HEADERS, f"of the successors' {broken} broken examples replay finds {share:.0f}%, target {args.target:g}%")
    return int(share < args.target)


if __name__ == "__main__":
    raise SystemExit(main())
