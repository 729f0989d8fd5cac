"""Is the attack as strong as it can be, and no stronger? Where robust accuracy is known, it must come out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from itertools import pairwise

from torch import Tensor, nn

from pytest_robust.conformance.check import Check, Outcome, percent
from pytest_robust.conformance.linear import linear_data, linear_model, margins
from pytest_robust.conformance.networks import CLASSES, Wrapped, blobs, trained
from pytest_robust.conformance.relu import relu_data, relu_margins, relu_network
from pytest_robust.conformance.subject import Flags, Subject, decidable
from pytest_robust.objectives import Targeted
from pytest_robust.threats import make

LINEAR_EPS = {"linf": 0.12, "l2": 0.45, "l1": 1.1, "l0": 2}
"""They break about half of the examples."""
RELU_EPS = {"linf": 0.1, "l1": 0.2}
NETWORK_EPS = {"linf": 0.12, "l2": 0.45, "l1": 1.2, "l0": 2}
GREY_LEVELS = 256
"""A power of two, so that the scaled problem is the same to the last bit."""
N = 80
_Solved = tuple[nn.Module, Tensor, Tensor, Flags]
"""A model, its data, and which examples are robust."""


@lru_cache(maxsize=4)
def linear(norm: str) -> _Solved:
    """A linear model of five classes and twenty features, data in [0, 1], and which examples are robust."""
    layer = linear_model(5, 20, seed=1)
    x, y = linear_data(layer, seed=1, n=N)
    return layer, *decidable(x, y, margins(layer, x.double().numpy(), y.numpy(), norm, LINEAR_EPS[norm]))


@lru_cache(maxsize=2)
def relu(norm: str) -> _Solved:
    """A network of three inputs and ten hidden units, data in [0, 1], and which examples are robust."""
    network = relu_network(3, 10, 4, seed=4)
    x, y = relu_data(network, seed=4, n=60)
    return network, *decidable(x, y, relu_margins(network, x.double().numpy(), y.numpy(), norm, RELU_EPS[norm]))


def compared(subject: Subject, standing: Flags, exact: Flags) -> Outcome:
    """Every example must come out as the exact answer has it; a lone attack may leave a few standing."""
    missed, invented = int((standing & ~exact).sum()), int((exact & ~standing).sum())
    expected = f"{percent(exact.mean())} robust, exactly"
    if subject.tolerance:
        expected += f", or {100 * subject.tolerance:g} points above"
    said = [f"{100 * missed / len(exact):.1f} points too high"] if missed else []
    said += [f"{invented} robust examples called broken"] if invented else []
    got = ", ".join([percent(standing.mean()), *said])
    return Outcome.of(not invented and missed <= subject.tolerance * len(exact), expected, got)


def _known(problem: Callable[[str], _Solved], budgets: Mapping[str, float], norm: str, subject: Subject) -> Outcome:
    """A problem whose answer is known, in one norm."""
    if norm not in subject.norms:
        return Outcome("-", f"not for this norm: {subject.refusal(norm)}", "skip")
    model, x, y, exact = problem(norm)
    return compared(subject, subject.attack(model, (x, y), make(norm, budgets[norm])).standing, exact)


def units(subject: Subject) -> Outcome:
    """A linear model of inputs in [0, 256]: what is absolute in an attack is wrong there."""
    norm = subject.norms[0]
    layer, x, y, exact = linear(norm)
    eps = LINEAR_EPS[norm] * (1 if norm == "l0" else GREY_LEVELS)
    model = Wrapped(layer, lambda inner, grey: inner(grey / GREY_LEVELS)).eval()
    result = subject.attack(model, (x * GREY_LEVELS, y), make(norm, eps, bounds=(0, GREY_LEVELS)))
    return compared(subject, result.standing, exact)


def no_budget(subject: Subject) -> Outcome:
    model, data = trained(), blobs(N, seed=2)
    wrong = []
    for norm in subject.norms:
        result = subject.attack(model, data, make(norm, 0))
        count = int((result.standing != result.correct).sum())
        wrong += [f"{count} examples differ under {norm}"] if count else []
    return Outcome.of(not wrong, "eps 0 gives clean accuracy", ", ".join(wrong) or "it does")


def larger_budgets(subject: Subject) -> Outcome:
    norm = subject.norms[0]
    model, data = trained(), blobs(N, seed=2)
    shares = (1, 2, 3, 4) if norm == "l0" else (0.25, 0.5, 1, 1.5)
    budgets = [share if norm == "l0" else share * NETWORK_EPS[norm] for share in shares]
    rates = [float(subject.attack(model, data, make(norm, eps)).standing.mean()) for eps in budgets]
    fine = all(after <= before + subject.tolerance for before, after in pairwise(rates))
    return Outcome.of(fine and rates[-1] < rates[0], f"a larger {norm} budget breaks more", ", ".join(map(percent, rates)))


def targets(subject: Subject) -> Outcome:
    norm = subject.norms[0]
    model, (x, y), threat = trained(), blobs(N, seed=2), make(norm, NETWORK_EPS[norm])
    standing = subject.attack(model, (x, y), threat).standing
    reached, missed = 0, 0
    for target in range(CLASSES):
        others = (y != target).numpy()  # the rest is left out
        hit = ~subject.attack(model, (x, y), threat, objective=Targeted(target)).standing
        reached += int(hit.sum())
        missed += int((hit & standing[others]).sum())
    got = f"{reached} reached a target, {missed} of them untargeted unbroken"
    return Outcome.of(missed <= subject.tolerance * len(standing), "what reaches a target is broken untargeted", got)


CHECKS = (
    *(Check(f"linear-{norm}", partial(_known, linear, LINEAR_EPS, norm)) for norm in LINEAR_EPS),
    *(Check(f"relu-{norm}", partial(_known, relu, RELU_EPS, norm)) for norm in RELU_EPS),
    Check("units", units),
    Check("no-budget", no_budget),
    Check("larger-budgets", larger_budgets),
    Check("targets", targets),
)
