"""What the engine adds to the passes that an attack cannot do without.

Fixed-step PGD of 40 steps under Linf on examples that all survive, so that nothing leaves the batch: seconds as a multiple
of a bare loop of forward, input gradient, sign step and clamp on the same model, batch and steps. The bare loop runs on
a copy of the model with frozen parameters, the fastest there is; the others get the model as a user hands it over. The
runs take turns; each ratio is of two runs of the same turn. The ratio of CPU seconds is what is judged: what else runs on
the machine counts in the wall clock. Forward and backward passes are counted by hooks.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from common import middle, show
from peers import chosen
from torch import Tensor, nn

from pytest_robust import PGD, Linf, Untargeted, evaluate
from pytest_robust.conformance.networks import seeded
from pytest_robust.data import load
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.precision import full_precision
from pytest_robust.evaluation.search import Observed, Search
from pytest_robust.evaluation.subjects import Subjects
from pytest_robust.models import adapt

EPS = 1e-4
"""Too small to break anything, large enough to move every pixel."""
BARE = "bare loop"
OURS = "pytest-robust"
Run = Callable[[], object]


def cnn(width: int = 32) -> nn.Module:
    """Six 3x3 convolutions on 3x32x32."""
    layers: list[nn.Module] = []
    channels = 3
    for stage in range(3):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width << stage, 3, padding=1), nn.ReLU()]
            channels = width << stage
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * 16, 10))


class Block(nn.Module):
    """Two convolutions with batch normalisation around a shortcut (He et al., CVPR 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet(width: int = 16) -> nn.Module:
    """Three stages of one residual block on 3x32x32."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        Block(width, width, 1), Block(width, 2 * width, 2), Block(2 * width, 4 * width, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10),
    )  # fmt: skip


MODELS: dict[str, Callable[[], nn.Module]] = {"cnn": cnn, "resnet": resnet}


def data(model: nn.Module, batch: int) -> tuple[Tensor, Tensor]:
    """Random images with the model's own labels, of many those that lie farthest from a decision boundary."""
    x = torch.rand(8 * batch, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        top = model(x).topk(2)
    rows = (top.values[:, 0] - top.values[:, 1]).argsort(descending=True)[:batch]
    return x[rows].clone(), top.indices[rows, 0]


def bare(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> Tensor:
    """PGD as nobody can write it with less."""
    low, high = (x - EPS).clamp(0, 1), (x + EPS).clamp(0, 1)
    moved = torch.lerp(low, high, torch.rand_like(x))
    for _ in range(steps):
        moved.requires_grad_()
        loss = nn.functional.cross_entropy(model(moved), y, reduction="sum")
        (grad,) = torch.autograd.grad(loss, moved)
        moved = grad.sign_().mul_(2.5 * EPS / steps).add_(moved.detach()).clamp_(low, high)
    return moved


def ours(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> Run:
    """The search of the evaluation over one batch, entering and leaving the user's model included."""
    adapted, examples = adapt(model, device="cpu"), load((x, y))
    with torch.no_grad():
        logits = model(x)

    def run() -> None:
        survivors: list[int] = []
        with full_precision(), adapted.isolated():
            subjects = Subjects(adapted, examples, Linf(EPS), Untargeted(), logits, seed=0)
            attack = PGD("ce", n_steps=steps)
            search = Search(
                subjects,
                Passes(adapted, len(x)),
                attack,
                confirm=lambda live, rows: [True] * len(rows),
                survived=survivors.append,
                stop=lambda: False,
                observed=Observed(),
                spent=np.zeros(len(x), dtype=np.int64),
            )
            search.over(range(len(x)))
        assert len(survivors) == len(x), "some examples were broken: their passes would be missing"

    return run


def whole(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> Run:
    """The public entry: preflight, attack, health."""
    waive = {"one-class": "random weights", "unit": "too small on purpose"}
    attack = PGD("ce", n_steps=steps)
    return lambda: evaluate(model, (x, y), Linf(EPS), attacks=attack, batch_size=len(x), device="cpu", waive=waive)


def contenders(model: nn.Module, x: Tensor, y: Tensor, steps: int, *, peers: bool) -> dict[str, Run]:
    """What is compared, by name; ``BARE`` twice, to show the noise."""
    frozen = copy.deepcopy(model).requires_grad_(False)
    runs: dict[str, Run] = {
        BARE: partial(bare, frozen, x, y, steps),
        f"{BARE}, again": partial(bare, frozen, x, y, steps),
        OURS: ours(model, x, y, steps),
        f"{OURS} evaluate()": whole(model, x, y, steps),
    }
    for peer in chosen(("pgd",))[0] if peers else ():
        runs[peer.name] = partial(peer.attack(model, "linf", EPS, steps), x, y)
    return runs


def passes(models: list[nn.Module], run: Run, n: int) -> tuple[float, float]:
    """Forward and backward passes per example, counted at the last layer: not every library calls the model as a whole."""
    counts = {"forward": 0, "backward": 0}

    def came_back(grad: Tensor) -> None:
        counts["backward"] += len(grad)

    def went(module: nn.Module, inputs: object, output: Tensor) -> None:
        counts["forward"] += len(output)
        if output.requires_grad:
            output.register_hook(came_back)

    handles = [list(model.children())[-1].register_forward_hook(went) for model in models]
    run()
    for handle in handles:
        handle.remove()
    return counts["forward"] / n, counts["backward"] / n


def measure(runs: dict[str, Run], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """(wall-clock, CPU) seconds of each contender in each turn; who begins changes from turn to turn."""
    names = list(runs)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for turn in range(repeats):
        at = turn % len(names)
        for name in names[at:] + names[:at]:
            wall, cpu = time.perf_counter(), time.process_time()
            runs[name]()
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return seconds


def ratios(mine: list[tuple[float, float]], bare: list[tuple[float, float]], clock: int) -> tuple[float, float, float]:
    """Median and quartiles of the ratios within a turn; clock 0 is the wall's, 1 the CPU's."""
    return middle([own[clock] / its[clock] for own, its in zip(mine, bare, strict=True)])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="cnn,resnet", help="of cnn, resnet (default: both)")
    parser.add_argument("--batch", type=int, default=64, help="examples (default: 64)")
    parser.add_argument("--steps", type=int, default=40, help="gradient steps (default: 40)")
    parser.add_argument("--repeats", type=int, default=9, help="turns (default: 9)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default: 1)")
    parser.add_argument("--no-peers", action="store_true", help="leave other libraries out")
    parser.add_argument("--target", type=float, default=1.05, help="exit status 1 above this ratio (default: 1.05)")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)

    rows, worst = [], 0.0
    for kind in args.models.split(","):
        model = seeded(MODELS[kind])
        x, y = data(model, args.batch)
        runs = contenders(model, x, y, args.steps, peers=not args.no_peers)
        frozen = runs[BARE].args[0]  # type: ignore[attr-defined]
        counted = {name: passes([model, frozen], run, args.batch) for name, run in runs.items()}  # this warms up as well
        seconds = measure(runs, args.repeats)
        for name, spent in seconds.items():
            ratio, low, high = ratios(spent, seconds[BARE], 1)
            figures = [f"{middle([cpu for _, cpu in spent])[0]:.2f}", f"{ratio:.3f}", f"{low:.3f} - {high:.3f}"]
            wall = f"{ratios(spent, seconds[BARE], 0)[0]:.2f}"
            rows.append([kind, name, *figures, wall, *(f"{count:g}" for count in counted[name])])
            worst = max(worst, ratio if name == OURS else 0.0)
    headers = ["model", "attack", "CPU s", "x bare loop", "quartiles", "wall clock", "forward/example", "backward/example"]
    peers = "peers: left out" if args.no_peers else f"peers: {chosen(('pgd',))[1]}"
    show(rows, headers, peers, f"{OURS}: at most {worst:.3f} x the bare loop, target {args.target:g}")
    return int(worst > args.target)


if __name__ == "__main__":
    raise SystemExit(main())
