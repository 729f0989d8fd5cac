"""Does it stay inside the threat, and leave alone what is not its own?"""

from __future__ import annotations

import random

import numpy as np
import torch

from pytest_robust.conformance.check import Check, Outcome
from pytest_robust.conformance.legality import excess
from pytest_robust.conformance.networks import blobs, trained
from pytest_robust.conformance.strength import NETWORK_EPS, N
from pytest_robust.conformance.subject import Attacked, Subject
from pytest_robust.conformance.trace import Awkward, changed, photograph
from pytest_robust.conformance.watched import Watched
from pytest_robust.errors import ModelError
from pytest_robust.random_state import preserved_random_state
from pytest_robust.threats import make

_ROUNDING = 1e-3
"""How far outside, in eps, a point may be that is still to be projected: rounding in float32 makes far less."""


def inside(subject: Subject) -> Outcome:
    """Every adversarial example that counts, to the last bit; every point on the way, up to rounding."""
    wrong, counted = [], 0
    for norm in subject.norms:
        result, watched = _watched(subject, norm)
        x = blobs(N, seed=2)[0]
        found = sorted(result.witnesses)
        counted += len(found)
        if found:
            points = torch.stack([result.witnesses[i] for i in found])
            outside = int((excess(norm, float(make(norm, NETWORK_EPS[norm]).budget), x[found], points) > 0).sum())
            wrong += [f"{outside} of {len(found)} adversarial examples are outside under {norm}"] if outside else []
        farthest = max(attack.farthest for attack in watched)
        wrong += [f"goes {farthest:.2g} eps outside under {norm}"] if farthest > _ROUNDING else []
        wrong += [f"writes into the clean points under {norm}"] if any(attack.rewrites for attack in watched) else []
    expected = "adversarial examples are in ball and box"
    return Outcome.of(not wrong, expected, ", ".join(wrong) or f"all {counted} are, in float64")


def own_randomness(subject: Subject) -> Outcome:
    """No global generator is moved, and none has a say."""
    norm = subject.norms[0]
    runs = []
    for seed in (1, 2):
        with preserved_random_state():
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            runs.append(_watched(subject, norm))
    draws = any(attack.draws for _, watched in runs for attack in watched)
    outcomes = [result.standing for result, _ in runs]
    count = int((outcomes[0] != outcomes[1]).sum())
    wrong = ["a global random state moves"] if draws else []
    wrong += [f"{count} of {N} outcomes depend on the global seed"] if count else []
    return Outcome.of(not wrong, "randomness of its own", ", ".join(wrong) or "global generators have no part in it")


def no_trace(subject: Subject) -> Outcome:
    return _traces(subject, fails=False)


def no_trace_of_failure(subject: Subject) -> Outcome:
    return _traces(subject, fails=True)


def _traces(subject: Subject, *, fails: bool) -> Outcome:
    """Photographs of everything before and after; with a model that raises, halfway through its forward passes."""
    norm, model, (x, y) = subject.norms[0], Awkward(trained()), blobs(N, seed=2)
    threat = make(norm, NETWORK_EPS[norm])
    before = photograph(model, x, y)
    subject.attack(model, (x, y), threat)
    if fails:
        model.fail_after, model.passes = model.passes // 2, 0
        try:
            subject.attack(model, (x, y), threat)
        except ModelError:
            pass
        else:
            return Outcome("an error of the model is reported", "it was not", "FAIL")
    what = changed(before, photograph(model, x, y))
    return Outcome.of(
        not what, "model, data, random states unchanged", f"changed: {', '.join(what)}" if what else "byte for byte"
    )


def _watched(subject: Subject, norm: str) -> tuple[Attacked, list[Watched]]:
    watched = [Watched(attack) for attack in subject.attacks()]
    result = subject.attack(trained(), blobs(N, seed=2), make(norm, NETWORK_EPS[norm]), attacks=[*watched])
    return result, watched


CHECKS = (
    Check("inside", inside),
    Check("own-randomness", own_randomness),
    Check("no-trace", no_trace),
    Check("no-trace-of-failure", no_trace_of_failure),
)
