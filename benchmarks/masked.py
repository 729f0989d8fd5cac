"""Models that only look robust: a weak network behind wrappers that fool attacks by gradient.

Each wrapper leaves the decisions of the network (nearly) as they are, and hides, distorts or randomises its gradients. "at
most" is what adversarial examples of the unwrapped network leave of its accuracy: the truth is not above. A wrapper must get
no PASS of a floor above the truth, by the finding that is meant for it. The network itself, and changes that hide nothing,
must pass a floor at the truth without an alarm. Exit status 1 when it is otherwise.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from common import digits, show, train
from logit_scale import network
from peers import Peer, chosen
from torch import Tensor, nn
from zoo import zoo_of

from pytest_robust import Linf, evaluate
from pytest_robust.conformance.legality import surviving
from pytest_robust.conformance.masked import WRAPPERS, judged
from pytest_robust.conformance.networks import Wrapped, seeded

EPS = 0.1

HONEST: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "the network": lambda model, x: model(x),
    "logits x 10000": lambda model, x: model(x) * 1e4,
    "logits x 0.0001": lambda model, x: model(x) * 1e-4,
}


def weak_network() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """A standard network of the digits, and 500 test images."""
    (x, y), test = digits()
    return train(seeded(network), x, y, epochs=15), test


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
        fooled = Wrapped(model, function).eval()
        most = surviving(fooled, x, y, moved, "linf", EPS).double().mean().item()
        # An honest model is asked for what it has, so that a PASS is possible and only an alarm could take it away.
        judgement = judged(fooled, (x, y), Linf(EPS), args.profile, floor if finding else floor - 0.05)
        if (judgement.verdict == "pass") == bool(finding) or (finding or "nothing") not in (*judgement.findings, "nothing"):
            wrong.append(name)
        others = (reported(peer, fooled, x, y) for peer in peers)
        rows.append([name, f"{100 * most:.1f}", *judgement.cells, *others])
    zoo = None if args.zoo is None else zoo_of(args.zoo)
    for name in [] if zoo is None else zoo.names():
        entry = zoo.load(name)
        data = (entry.images[: args.n], entry.labels[: args.n])
        judgement = judged(entry.model, data, Linf(entry.eps), args.profile, 0)
        if judgement.findings:
            wrong.append(name)
        rows.append([name, "-", *judgement.cells, *("-" for _ in peers)])
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
