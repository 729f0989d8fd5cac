"""What must hold for every attack, whoever wrote it: a property-based test of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import hypothesis
import numpy as np
import torch
from hypothesis import Phase, given
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from torch import Tensor, nn

from pytest_robust.attacks import Attack
from pytest_robust.conformance.networks import Wrapped
from pytest_robust.conformance.subject import Subject
from pytest_robust.conformance.trace import changed, photograph
from pytest_robust.conformance.watched import Watched
from pytest_robust.evaluation.alone import Alone, attack_alone
from pytest_robust.objectives import lead
from pytest_robust.threats import Threat, make

_UNITS = {"linf": 1 / 32, "l2": 1 / 8, "l1": 1 / 4, "l0": 1}
"""Size of a level of the budget."""
_LEVELS = 6
_GRAIN = 16
"""Weights and inputs are multiples of 1 / 16, so that gradients are exact, and equal losses are equal."""
_SLACK = 1e-3
"""How far outside, in eps, a point may be that the engine projects: rounding makes far less."""
_SCALES = (2.0**-12, 2.0**12)
_WAIVED = dict.fromkeys(("chance", "one-class", "constant", "probabilities", "gradient"), "a random model of a property")
USUAL = hypothesis.settings(
    max_examples=30, deadline=None, derandomize=True, database=None, phases=(Phase.explicit, Phase.generate, Phase.shrink)
)


class ExactLinear(nn.Module):
    """A linear layer of which no bit depends on the batch: product by product, where a library chooses by the sizes."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        total = self.bias.expand(len(x), -1)
        for feature in range(x.shape[1]):
            total = total + x[:, feature : feature + 1] * self.weight[:, feature]
        return total


@dataclass(frozen=True)
class Problem:
    """A small model and data that it gets right, by a few numbers.

    Attributes:
        norm: of the threat. level: of its budget, 0 for none. classes, features, n: sizes. hidden: units of a ReLU layer, 0
            for a linear model. double: in float64. seed: of weights and inputs.
    """

    norm: str
    level: int
    classes: int = 2
    features: int = 1
    n: int = 1
    hidden: int = 0
    double: bool = False
    seed: int = 0

    @property
    def threat(self) -> Threat:
        return make(self.norm, self.level * _UNITS[self.norm])

    def model(self) -> nn.Sequential:
        """In eval mode. All classes are equally likely in the middle of the inputs, so that data has several of them."""
        rng = np.random.default_rng(self.seed)
        sizes = [self.features, *[self.hidden] * (self.hidden > 0), self.classes]
        layers: list[nn.Module] = []
        for size, following in itertools.pairwise(sizes):
            weight, bias = (
                torch.from_numpy(rng.integers(-_GRAIN, _GRAIN + 1, shape) / _GRAIN)
                for shape in ((following, size), (following,))
            )
            last = ExactLinear(weight, bias)
            layers += [*[nn.ReLU()] * bool(layers), last]
        network, middle = nn.Sequential(*layers), torch.full((1, self.features), 0.5, dtype=torch.float64)
        with torch.no_grad():
            last.bias.sub_(network(middle)[0])
        return network.to(self._dtype).eval()

    def data(self) -> tuple[Tensor, Tensor]:
        """(n, features) inputs in [0, 1], some of them at the bounds, and the model's own predictions."""
        rng = np.random.default_rng([self.seed, 1])
        x = torch.from_numpy(rng.integers(0, _GRAIN + 1, (self.n, self.features)) / _GRAIN).to(self._dtype)
        with torch.no_grad():
            return x, self.model()(x).argmax(1)

    @property
    def decided(self) -> bool:
        """Whether no two classes are equally likely at an input: there an attack could not say where to go."""
        with torch.no_grad():
            return bool((lead(self.model()(self.data()[0])) > 0).all())

    @property
    def _dtype(self) -> torch.dtype:
        return torch.float64 if self.double else torch.float32


def problems(norms: Sequence[str]) -> st.SearchStrategy[Problem]:
    """Problems under one of these norms; the simplest is a linear model of one feature and two classes, without a budget."""
    return st.builds(
        Problem,
        norm=st.sampled_from(list(norms)),
        level=st.integers(0, _LEVELS),
        classes=st.integers(2, 4),
        features=st.integers(1, 6),
        n=st.integers(1, 4),
        hidden=st.integers(0, 5),
        double=st.booleans(),
        seed=st.integers(0, 2**16),
    ).filter(lambda problem: problem.decided)


def check_attack(
    new_attack: Callable[[], Attack],
    *,
    norms: Sequence[str] | None = None,
    settings: hypothesis.settings | None = None,
) -> None:
    """Look for a small model on which an attack does what no attack may, and shrink it to the smallest.

    Points stay in ball and box, up to rounding, and nowhere else without a budget; clean points are read only; the seed
    decides, and no global generator is drawn from or moved; a batch comes out as its examples one by one, a scaled model as
    the model itself; weights, modes and gradients stay. How strong an attack is, is another question.

    Args:
        new_attack: makes the attack, a class say. norms: those it is for; left out, all for which it raises no ThreatError.
        settings: of Hypothesis. Left out: 30 problems, the same ones every time.

    Raises:
        AssertionError: the first of these that does not hold, with the problem on which it does not.
    """
    __tracebackhide__ = True
    known = Subject(new_attack().name, new_attack).norms if norms is None else norms

    @hypothesis.settings(settings or USUAL, report_multiple_bugs=False)
    @given(problem=problems(known))
    def holds(problem: Problem) -> None:
        for fault in _faults(new_attack, problem):
            raise AssertionError(fault)

    try:
        holds()
    except Flaky as error:
        # Models and data are the same each time.
        raise AssertionError("it does not do the same twice: its randomness must be that of live.key alone") from error


def _faults(new_attack: Callable[[], Attack], problem: Problem) -> Iterator[str]:
    """What does not hold on this problem, in sentences."""
    model, (x, y), watched = problem.model(), problem.data(), Watched(new_attack())
    before = photograph(model, x, y)
    found = _attacked(model, (x, y), problem, watched)
    if left := changed(before, photograph(model, x, y)):
        yield f"it changes what is not its own: {', '.join(left)}"
    if watched.rewrites:
        yield "it writes into the clean points (live.region.origin), which are only to be read"
    if watched.draws:
        yield "it draws from a global random generator: use the streams of live.key (pytest_robust.keyed)"
    if not problem.level and watched.farthest:
        yield f"without a budget it moves by {watched.farthest:.3g}: end in threat.project(...)"
    if watched.farthest > _SLACK:
        yield f"it goes {watched.farthest:.3g} eps outside: end in threat.project(...)"

    if not _same(found, _attacked(model, (x, y), problem, new_attack())):
        yield "it does not do the same twice: its randomness must be that of live.key alone"
    if not _same(found, _attacked(model, (x, y), problem, new_attack(), batch_size=1)):
        yield "its examples come out otherwise one by one than in a batch: none may look at its neighbours"
    for scale in _SCALES:
        scaled = Wrapped(model, lambda inner, x, by=scale: inner(x) * by).eval()  # type: ignore[misc]
        if not _same(found, _attacked(scaled, (x, y), problem, new_attack())):
            yield f"it comes out otherwise with logits x {scale:g}: where a model stands has nothing to do with their scale"


def _attacked(
    model: nn.Module, data: tuple[Tensor, Tensor], problem: Problem, attack: Attack, batch_size: int = 64
) -> Alone:
    return attack_alone(
        model, data, problem.threat, attack, seed=problem.seed, batch_size=batch_size, device="cpu", waive=_WAIVED
    )


def _same(one: Alone, other: Alone) -> bool:
    """To the last bit of every adversarial example."""
    points = one.witnesses
    return one.broken_by == other.broken_by and all(torch.equal(points[i], other.witnesses[i]) for i in points)
