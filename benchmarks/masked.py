"""Models that only look robust: a weak network behind wrappers that fool attacks by gradient.

Each wrapper leaves the decisions of the network (nearly) as they are, and hides, distorts or randomises its gradients. "at
most" is what adversarial examples of the unwrapped network leave of its accuracy: the truth is not above. A wrapper must get
no PASS of a floor above the truth, by the finding that is meant for it. The network itself, and changes that hide nothing,
must pass a floor at the truth without an alarm. Exit status 1 when it is otherwise.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from common import digits, seeded, show, surviving, train
from logit_scale import network
from peers import Peer, chosen
from torch import Tensor, nn
from zoo import zoo_of

from pytest_robust import Linf, PreflightError, evaluate

EPS = 0.1
Function = Callable[[Tensor], Tensor]


class Fooled(nn.Module):
    """A network inside a function that calls it."""

    def __init__(self, inner: nn.Module, function: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.function = inner, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.inner, x)


class Backward(torch.autograd.Function):
    """The identity, with another gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, change: Function) -> Tensor:
        ctx.change = change
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.change(grads[0]), None


def _behind(change: Function) -> Callable[[nn.Module, Tensor], Tensor]:
    return lambda model, x: model(Backward.apply(x, change))


def _side_branch(model: nn.Module, x: Tensor) -> Tensor:
    """Gradients reach the input through a small linear branch only."""
    weights = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))
    return model(x).detach() + 0.1 * x.flatten(1) @ weights


def _partly(model: nn.Module, x: Tensor) -> Tensor:
    """Seven of eight rows of the image are quantised."""
    return model(torch.cat([(x[:, :, :7] * 16).round() / 16, x[:, :, 7:]], 2))


def _detached(model: nn.Module, x: Tensor) -> Tensor:
    """Two of eight rows of the image are cut off."""
    return model(torch.cat([x[:, :, :2].detach(), x[:, :, 2:]], 2))


def _winners(model: nn.Module, x: Tensor) -> Tensor:
    """k-winners-take-all in place of every ReLU: only the largest tenth of the activations stays."""
    for layer in model.children():
        x = _largest(x) if isinstance(layer, nn.ReLU) else layer(x)
    return x


def _largest(x: Tensor) -> Tensor:
    flat = x.flatten(1)
    least = flat.topk(flat.shape[1] // 10, 1).values[:, -1:]
    return torch.where(flat >= least, flat, 0.0).view_as(x)


def _dropping(model: nn.Module, x: Tensor) -> Tensor:
    """Dropout that knows no eval mode, before the last layer."""
    *first, last = model.children()
    return last(nn.functional.dropout(nn.Sequential(*first)(x), 0.3))


class InTraining(nn.Module):
    """A last layer that is in training mode, whatever the rest is in."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def train(self, mode: bool = True) -> InTraining:
        return super().train()

    def forward(self, model: nn.Module, x: Tensor) -> Tensor:
        return self.layer(model(x))


def _one_hot(model: nn.Module, x: Tensor) -> Tensor:
    return nn.functional.one_hot(model(x).argmax(1), 10).float()


def _alternating(x: Tensor) -> Tensor:
    return x * torch.tensor([1.0, -1.0]).repeat(4)


WRAPPERS: dict[str, tuple[Callable[[nn.Module, Tensor], Tensor], str]] = {
    "killed gradients": (_behind(torch.zeros_like), "gradient"),
    "flipped gradients": (_behind(torch.neg), "slope"),
    "random gradients": (_behind(torch.randn_like), "slope"),
    "alternating signs": (_behind(_alternating), "black-box"),
    "shattered gradients": (lambda model, x: model(x + 0.01 * torch.sin(500 * x)), "slope"),
    "finely shattered": (lambda model, x: model(x + 0.01 * torch.sin(5000 * x)), "slope"),
    "linear side branch": (_side_branch, "black-box"),
    "quantised input": (lambda model, x: model((x * 16).round() / 16), "gradient"),
    "partly quantised": (_partly, "cut-off"),
    "partly detached": (_detached, "cut-off"),
    "rounded logits": (lambda model, x: model(x).round(), "gradient"),
    "one-hot output": (_one_hot, "probabilities"),
    "softmax output": (lambda model, x: model(x).softmax(1), "probabilities"),
    "k winners take all": (_winners, "slope"),
    "dropout left on": (_dropping, "determinism"),
    "Dropout in training": (InTraining(nn.Dropout(0.1)), "mode"),
    "BatchNorm in training": (InTraining(nn.BatchNorm1d(10)), "mode"),
    "noise": (lambda model, x: model(x + 0.05 * torch.randn_like(x)), "determinism"),
    "batch statistics": (lambda model, x: model(x) - 0.3 * model(x).mean(0, keepdim=True), "batch-independence"),
}
"""By name: what is done, and the finding that must say so."""

HONEST: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "the network": lambda model, x: model(x),
    "logits x 10000": lambda model, x: model(x) * 1e4,
    "logits x 0.0001": lambda model, x: model(x) * 1e-4,
}


def weak_network() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """A standard network of the digits, and 500 test images."""
    (x, y), test = digits()
    return train(seeded(network), x, y, epochs=15), test


def judged(
    model: nn.Module, data: tuple[Tensor, Tensor], profile: str, floor: float, eps: float = EPS
) -> tuple[str, str, list[str]]:
    """Verdict, robust accuracy as reported, and the findings against it."""
    try:
        # Without the floor: a miss that is certain early would need no findings.
        result = evaluate(model, data, Linf(eps), profile=profile, device="cpu")
    except PreflightError as error:
        return "refused", "-", [str(error).split(":")[0]]
    findings = [check.name for check in result.health.checks if check.level != "trusted"]
    result = replace(result, floor=Fraction(floor).limit_denominator(1000))
    return result.verdict, f"{100 * float(result.accuracy):.1f}", findings


def reported(peer: Peer, model: nn.Module, x: Tensor, y: Tensor) -> str:
    """Robust accuracy in percent by another library's PGD."""
    try:
        moved = peer.attack(model, "linf", EPS, 40)(x, y)
    except RuntimeError:  # an output that is cut off from the input
        return "error"
    return f"{100 * surviving(model, x, y, moved, 'linf', EPS).double().mean().item():.1f}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="standard", help="of pytest-robust (default: standard)")
    parser.add_argument("--n", type=int, default=200, help="test images, at most 500 (default: 200)")
    parser.add_argument(
        "--zoo", type=Path, help="folder of other honest models, see zoo.py: they must raise no alarm either"
    )
    parser.add_argument("--no-peers", action="store_true", help="leave other libraries out")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.manual_seed(0)

    model, (x, y) = weak_network()
    x, y = x[: args.n], y[: args.n]
    plain = evaluate(model, (x, y), Linf(EPS), device="cpu")
    moved = torch.stack([plain.witnesses.get(i, x[i]) for i in range(len(y))])
    floor = float(plain.accuracy) + 0.05
    peers, said = ([], "peers: left out") if args.no_peers else chosen(("pgd",))
    rows, wrong = [], []
    cases = [(name, f, "") for name, f in HONEST.items()] + [(name, *case) for name, case in WRAPPERS.items()]
    for name, function, finding in cases:
        fooled = Fooled(model, function).eval()
        most = surviving(fooled, x, y, moved, "linf", EPS).double().mean().item()
        # An honest model is asked for what it has, so that a PASS is possible and only an alarm could take it away.
        verdict, accuracy, findings = judged(fooled, (x, y), args.profile, floor if finding else floor - 0.05)
        if (verdict == "pass") == bool(finding) or (finding or "nothing") not in (*findings, "nothing"):
            wrong.append(name)
        others = (reported(peer, fooled, x, y) for peer in peers)
        rows.append([name, f"{100 * most:.1f}", verdict, accuracy, ", ".join(findings) or "-", *others])
    zoo = None if args.zoo is None else zoo_of(args.zoo)
    for name in [] if zoo is None else zoo.names():
        entry = zoo.load(name)
        data = (entry.images[: args.n], entry.labels[: args.n])
        verdict, accuracy, findings = judged(entry.model, data, args.profile, 0, entry.eps)
        if findings:
            wrong.append(name)
        rows.append([name, "-", verdict, accuracy, ", ".join(findings) or "-", *("-" for _ in peers)])
    headers = ["wrapper", "at most", "verdict", "robust", "findings", *(peer.name for peer in peers)]
    show(
        rows,
        headers,
        said,
        f"floor {100 * floor:.1f} %, 5 points above the truth; judged wrongly: {', '.join(wrong) or 'none'}",
    )
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
