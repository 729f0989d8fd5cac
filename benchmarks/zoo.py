"""Robust accuracy on models whose per-image outcome under AutoAttack is known.

The folder holds zoo.py with ``names()`` and ``load(name)`` (``.model .images .labels .eps``, under Linf), and per model a
NAME.reference.npz with ``clean``, ``robust`` and ``broken_by`` (1: APGD-CE, 2 and 3: a later stage, 0: wrong without
attack, -1: survived). An image counts as missed when it survives here and the reference broke it. Passes are those of one
surviving image, forward and backward together. Exit status 1 when a model seems more robust here than under APGD-CE alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from common import show

from pytest_robust import Evaluation, Linf, evaluate

HEADERS = ["model", "n", "eps", "clean", "robust", "APGD-CE", "reference", "missed", "passes/survivor", "passes/image",
           "seconds", "health"]  # fmt: skip
_ALONE = dict.fromkeys(("one-class", "constant", "chance"), "one surviving image, to count its passes")


def zoo_of(folder: Path) -> ModuleType:
    """The module zoo.py of the folder."""
    spec = importlib.util.spec_from_file_location("benchmark_zoo", folder / "zoo.py")
    if spec is None or spec.loader is None or not (folder / "zoo.py").is_file():
        raise SystemExit(f"{folder} has no zoo.py; --zoo names the folder that holds it")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def spent_on_survivor(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, result: Evaluation) -> int | None:
    """Passes of the attacks on the first survivor, run alone; None when there is none."""
    survivors = np.flatnonzero(result.robust)
    if not len(survivors):
        return None
    row = survivors[:1]
    threat = Linf(result.threat.value)
    alone = evaluate(model, (x[row], y[row]), threat, profile=result.profile, device="cpu", waive=_ALONE)
    return sum(stage.cost.forward + stage.cost.backward for stage in alone.stages)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True, help="folder with zoo.py and the references")
    parser.add_argument("--profile", default="standard", help="of pytest-robust (default: standard)")
    parser.add_argument("--models", help="comma-separated names (default: all)")
    parser.add_argument("--n", type=int, help="only the first N images (default: all that the reference has)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default: 1)")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)

    zoo = zoo_of(args.zoo)
    rows, weak = [], []
    for name in args.models.split(",") if args.models else zoo.names():
        entry = zoo.load(name)
        with np.load(args.zoo / f"{name}.reference.npz") as reference:
            survived, by = reference["robust"][: args.n], reference["broken_by"][: args.n]
        first_stage = survived | np.isin(by, (2, 3))
        x, y = entry.images[: args.n], entry.labels[: args.n]
        result = evaluate(entry.model, (x, y), Linf(entry.eps), profile=args.profile, device="cpu", name=name)
        rates = (float(result.clean_accuracy), float(result.accuracy), first_stage.mean(), survived.mean())
        if result.accuracy > first_stage.mean():
            weak.append(name)
        per_image = (result.cost.forward + result.cost.backward) / len(y)
        rows.append([name, len(y), f"{entry.eps:.4g}", *(f"{100 * rate:.1f}" for rate in rates),
                     int((result.robust & ~survived).sum()), spent_on_survivor(entry.model, x, y, result) or "-",
                     f"{per_image:.0f}", f"{result.cost.seconds:.0f}", result.health.level])  # fmt: skip
    show(rows, HEADERS, f"profile {args.profile}; too weak, above APGD-CE: {', '.join(weak) or 'none'}")
    return int(bool(weak))


if __name__ == "__main__":
    raise SystemExit(main())
