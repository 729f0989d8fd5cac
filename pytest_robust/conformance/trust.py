"""Models behind which no attack by gradient works get no PASS; a model that hides nothing gets it."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache, partial

import torch
from torch import Tensor

from pytest_robust.conformance.check import Check, Outcome, percent
from pytest_robust.conformance.legality import surviving
from pytest_robust.conformance.masked import WRAPPERS, judged
from pytest_robust.conformance.networks import Wrapped, blobs, trained
from pytest_robust.conformance.subject import Subject
from pytest_robust.evaluation import evaluate
from pytest_robust.random_state import preserved_random_state
from pytest_robust.threats import Linf

_EPS = 0.1
_N = 60
_MASKED = tuple(name for name in WRAPPERS if name != "k winners take all")
"""With the few units of this network the left-out one hides nothing: attacks break it as far as can be."""


@lru_cache(maxsize=1)
def _weak() -> tuple[Tensor, Fraction]:
    """(n, features) adversarial examples of the network itself, where there are any, and its robust accuracy."""
    x, y = blobs(_N, seed=2)
    result = evaluate(trained(), (x, y), Linf(_EPS), device="cpu")
    return torch.stack([result.witnesses.get(i, x[i]) for i in range(_N)]), Fraction(result.accuracy.k, _N)


def honest(subject: Subject) -> Outcome:
    """A floor at what the network has, so that nothing but an alarm could take the PASS away."""
    _, floor = _weak()
    judgement = judged(trained(), blobs(_N, seed=2), Linf(_EPS), subject.profile, floor)
    got = ", ".join((judgement.verdict, *judgement.findings))
    fine = judgement.verdict == "pass" and not judgement.findings
    return Outcome.of(fine, f"PASS of {percent(float(floor))}, no finding", got)


def masked(name: str, subject: Subject) -> Outcome:
    """A floor above the truth: adversarial examples of the bare network say how many the wrapped one loses at least."""
    function, finding = WRAPPERS[name]
    moved, _ = _weak()
    model, (x, y) = Wrapped(trained(), function).eval(), blobs(_N, seed=2)
    with preserved_random_state():
        torch.manual_seed(0)  # some models draw from the global generator
        most = surviving(model, x, y, moved, "linf", _EPS).double().mean().item()
        judgement = judged(model, (x, y), Linf(_EPS), subject.profile, most + 0.05)
    got = f"{judgement.verdict}: {', '.join(judgement.findings) or 'no finding'}"
    fine = judgement.verdict != "pass" and finding in judgement.findings
    return Outcome.of(fine, f"no PASS above {percent(most)}: {finding}", got)


CHECKS = (
    Check("honest-network", honest, engine_only=True),
    *(Check(f"masked-{name.lower().replace(' ', '-')}", partial(masked, name), engine_only=True) for name in _MASKED),
)
