"""Robust accuracy on models whose per-image outcome under AutoAttack is known.

The folder holds zoo.py with ``names()`` and ``load(name)`` (``.model .images .labels .eps``, under Linf), and per model a
NAME.reference.npz with ``clean``, ``robust`` and ``broken_by`` (1: APGD-CE, 2 and 3: a later stage, 0: wrong without
attack, -1: survived). An image counts as missed when it survives here and the reference broke it, as beyond when it is the
other way round. Passes are forward and backward together: of the attacks on a surviving image, on average and as a share
of what AutoAttack spends on one (7,820 and 1,910, counted from its code for ten classes), and of the health checks as a
share of the attacks'. Exit status 1 when accuracy is above the reference: in profile release at all, else by more than a
point.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from common import show
from tabulate import tabulate

from pytest_robust import Linf, evaluate
from pytest_robust.evaluation.result import Stage

HEADERS = ["model", "n", "eps", "clean", "robust", "reference", "missed", "beyond", "passes/survivor", "of AutoAttack's",
           "passes/image", "health passes", "seconds", "health"]  # fmt: skip
AUTOATTACK = 7820 + 1910
"""Passes of AutoAttack's standard version on an image that survives it."""


def zoo_of(folder: Path) -> ModuleType:
    """The module zoo.py of the folder."""
    spec = importlib.util.spec_from_file_location("benchmark_zoo", folder / "zoo.py")
    if spec is None or spec.loader is None or not (folder / "zoo.py").is_file():
        raise SystemExit(f"{folder} has no zoo.py; --zoo names the folder that holds it")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def gains(stages: dict[str, list[Stage]]) -> str:
    """A table of what each attack broke for what it spent."""
    rows = []
    for name, parts in stages.items():
        attacked, broken = sum(part.attacked for part in parts), sum(part.broken for part in parts)
        spent = sum(part.cost.forward + part.cost.backward for part in parts)
        rows.append([name, attacked, broken, spent, f"{spent / broken:.0f}" if broken else "-"])
    return tabulate(rows, ["attack", "attacked", "broken", "passes", "passes/broken"], disable_numparse=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True, help="folder with zoo.py and the references")
    parser.add_argument("--profile", default="standard", help="of pytest-robust (default: standard)")
    parser.add_argument("--models", help="comma-separated names (default: all)")
    parser.add_argument("--n", type=int, help="only the first N images (default: all that the reference has)")
    parser.add_argument(
        "--stages", action="store_true", help="also what each attack broke for what it spent, all models together"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--autocast", action="store_true", help="search in bfloat16")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default: 1)")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)

    zoo = zoo_of(args.zoo)
    rows, weak, stages = [], [], {}
    for name in args.models.split(",") if args.models else zoo.names():
        entry = zoo.load(name)
        with np.load(args.zoo / f"{name}.reference.npz") as reference:
            survived = reference["robust"][: args.n]
        x, y = entry.images[: args.n], entry.labels[: args.n]
        result = evaluate(
            entry.model, (x, y), Linf(entry.eps), profile=args.profile, device=args.device, name=name, autocast=args.autocast
        )
        rates = (float(result.clean_accuracy), float(result.accuracy), survived.mean())
        slack = 0 if args.profile == "release" else len(y) // 100
        if result.accuracy.k > survived.sum() + slack:
            weak.append(name)
        for stage in result.stages:
            stages.setdefault(stage.attack, []).append(stage)
        attacks = sum(stage.cost.forward + stage.cost.backward for stage in result.stages)
        spent = float(result.passes[result.robust].mean()) if result.accuracy.k else math.nan
        checks = result.cost.forward + result.cost.backward - attacks - len(y)
        rows.append([name, len(y), f"{entry.eps:.4g}", *(f"{100 * rate:.1f}" for rate in rates),
                     int((result.robust & ~survived).sum()), int((survived & ~result.robust).sum()), f"{spent:.0f}",
                     f"1/{AUTOATTACK / spent:.0f}", f"{attacks / len(y):.0f}", f"{100 * checks / max(1, attacks):.0f}%",
                     f"{result.cost.seconds:.0f}", result.health.level])  # fmt: skip
    if args.stages:
        print(gains(stages), end="\n\n")
    show(rows, HEADERS, f"profile {args.profile}; above the reference: {', '.join(weak) or 'none'}")
    return int(bool(weak))


if __name__ == "__main__":
    raise SystemExit(main())
