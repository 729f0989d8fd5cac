"""What the engine adds to embedding PGD on a sentence encoder.

PGD of ten steps in an L2 ball around each token, on sentences that all survive (a tiny radius), with a random head of two
classes on the encoder in the folder given: seconds as a multiple of a bare loop of forward, input gradient, step and
projection on the same padded batches. The runs take turns; each ratio is of two runs of the same turn, in CPU seconds. The
engine looks at the last point once more, which is one forward pass in thirty. Exit status 1 above the target.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import quiet, show
from overhead import BARE, OURS, Run, measure, middle, ratios
from text import sentences
from torch import Tensor, nn

from pytest_robust import PGD, EmbeddingBall, Untargeted
from pytest_robust.data import load
from pytest_robust.data.examples import Examples
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.precision import full_precision
from pytest_robust.evaluation.search import Observed, Search
from pytest_robust.evaluation.subjects import Subjects
from pytest_robust.models import adapt
from pytest_robust.models.protocol import Batch, Model

EPS = 1e-4
"""Too small to break anything."""
_BATCH = 32


def bare(model: nn.Module, batches: list[tuple[Batch, Tensor]], steps: int) -> None:
    """Embedding PGD as nobody can write it with less."""
    for batch, labels in batches:
        origin, free = batch.x, batch.free
        assert free is not None
        moved = torch.zeros_like(origin)
        mask = {"attention_mask": batch.context["attention_mask"]}
        for _ in range(steps):
            moved.requires_grad_()
            logits = model(inputs_embeds=origin + moved, **mask).logits
            (grad,) = torch.autograd.grad(nn.functional.cross_entropy(logits, labels, reduction="sum"), moved)
            grad = grad / grad.norm(dim=2, keepdim=True).clamp_min(1e-30)
            moved = (moved.detach() + 2.5 * EPS / steps * grad) * free
            moved = moved * (EPS / moved.norm(dim=2, keepdim=True).clamp_min(EPS))


def ours(adapted: Model, examples: Examples, logits: Tensor, steps: int) -> Run:
    """The search of the evaluation, entering and leaving the user's model included."""

    def run() -> None:
        survivors: list[int] = []
        with full_precision(), adapted.isolated():
            subjects = Subjects(adapted, examples, EmbeddingBall(EPS), Untargeted(), logits, seed=0)
            search = Search(
                subjects, Passes(adapted, _BATCH), PGD("ce", n_steps=steps, random_start=False),
                confirm=lambda live, rows: [True] * len(rows), survived=survivors.append, stop=lambda: False,
                observed=Observed(), spent=np.zeros(len(examples), dtype=np.int64),
            )  # fmt: skip
            for group in examples.groups(range(len(examples))):
                search.over(group)
        assert len(survivors) == len(examples), "some sentences were broken: their passes would be missing"

    return run


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="a BERT encoder with its tokenizer")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with sst2/dev.txt, lines LABEL TEXT")
    parser.add_argument("--n", type=int, default=100, help="sentences (100)")
    parser.add_argument("--steps", type=int, default=10, help="gradient steps (10)")
    parser.add_argument("--repeats", type=int, default=5, help="turns (5)")
    parser.add_argument("--target", type=float, default=1.15, help="exit status 1 above this ratio (1.15)")
    args = parser.parse_args(argv)
    quiet()

    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(0)
    network: Any = AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=2).eval()
    adapted = adapt((network, AutoTokenizer.from_pretrained(args.model)), device="cpu")
    texts = [text for text, _ in sentences(args.data / "sst2" / "dev.txt")[: args.n]]
    examples = adapted.encode(load([(text, 0) for text in texts]))
    batches, logits = [], torch.zeros(len(texts), 2)
    for group in examples.groups(range(len(texts))):
        for start in range(0, len(group), _BATCH):
            rows = group[start : start + _BATCH]
            batch = adapted.batch(examples.take(rows))
            with torch.no_grad():
                logits[rows] = adapted.logits(batch.x, batch.context)
            batches.append((batch, logits[rows].argmax(1)))
    examples.labels.copy_(logits.argmax(1))

    frozen = network.requires_grad_(False)
    runs: dict[str, Run] = {
        BARE: lambda: bare(frozen, batches, args.steps),
        f"{BARE}, again": lambda: bare(frozen, batches, args.steps),
        OURS: ours(adapted, examples, logits, args.steps),
    }
    runs[OURS]()  # warms up
    seconds = measure(runs, args.repeats)
    rows, worst = [], 0.0
    for name, spent in seconds.items():
        ratio, low, high = ratios(spent, seconds[BARE], 1)
        rows.append([name, f"{middle([cpu for _, cpu in spent])[0]:.2f}", f"{ratio:.3f}", f"{low:.3f} - {high:.3f}"])
        worst = max(worst, ratio if name == OURS else 0.0)
    about = f"{len(texts)} sentences, {args.steps} steps, target {args.target:g}"
    show(rows, ["attack", "CPU s", "x bare loop", "quartiles"], about)
    return int(worst > args.target)


if __name__ == "__main__":
    sys.exit(main())
