"""Every norm's projection and maximiser against an independent answer, and the promises of a sealed point."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from pytest_robust.threats import L0, L1, L2, Ball, Linf

NORMS = {"linf": Linf, "l2": L2, "l1": L1, "l0": L0}


def instance(seed: int, features: int, dtype: torch.dtype = torch.float64):
    """Origins in [0, 1], a few of them at a bound, and a direction with ties and zeros."""
    rng = np.random.default_rng(seed)
    origin = rng.random(features)
    origin[rng.random(features) < 0.2] = rng.integers(0, 2)
    direction = rng.normal(size=features).round(1) * rng.choice([0.01, 1, 3])
    return (torch.tensor(a, dtype=dtype).unsqueeze(0) for a in (origin, direction))


def lengths(norm: str, delta: np.ndarray) -> float:
    return {
        "linf": np.abs(delta).max(),
        "l2": np.sqrt((delta**2).sum()),
        "l1": np.abs(delta).sum(),
        "l0": (delta != 0).sum(),
    }[norm]


def best_linear(norm: str, g: np.ndarray, low: np.ndarray, high: np.ndarray, eps: float) -> float:
    """max <g, d> over the ball and low <= d <= high, by a route that the package does not take."""
    room = np.where(g > 0, high, -low)
    if norm == "linf":
        return float((np.abs(g) * np.minimum(room, eps)).sum())
    if norm == "l0":
        return float(np.sort(np.abs(g) * room)[::-1][: int(eps)].sum())
    if norm == "l1":
        n = len(g)  # d = p - q with p, q >= 0
        answer = linprog(
            np.concatenate([-g, g]),
            A_ub=np.ones((1, 2 * n)),
            b_ub=[eps],
            bounds=[*((0, h) for h in high), *((0, -b) for b in low)],
        )
        return float(-answer.fun)
    # l2: bisection on the scale t of clamp(t * g)
    at = lambda t: np.clip(t * g, low, high)  # noqa: E731
    if not g.any():
        return 0.0
    t_low, t_high = 0.0, 1e12
    for _ in range(200):
        t = (t_low * t_high) ** 0.5 if t_low > 0 else t_high / 2 if t_high < 1e-300 else t_high * 1e-3
        t_low, t_high = (t, t_high) if np.sqrt((at(t) ** 2).sum()) <= eps else (t_low, t)
    return float((g * at(t_low)).sum())


budgets = {"linf": 0.15, "l2": 0.6, "l1": 0.9, "l0": 3}
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=60)
@given(seed=seeds, features=st.integers(1, 12))
def test_the_maximiser_is_the_best_linear_answer(norm: str, seed: int, features: int):
    origin, g = instance(seed, features)
    threat: Ball = NORMS[norm](budgets[norm])
    region = threat.region(origin)
    best = threat.maximise(g, region)
    sealed = threat.seal(best, region)
    assert threat.contains(sealed, region).all()
    reached = float((g * (sealed - origin)).sum())
    exact = best_linear(norm, g[0].numpy(), -origin[0].numpy(), 1 - origin[0].numpy(), budgets[norm])
    assert reached == pytest.approx(exact, rel=1e-6, abs=1e-9)


@settings(max_examples=60)
@given(seed=seeds, features=st.integers(1, 12))
def test_a_short_l0_step_exchanges_one_feature_and_never_loses(seed: int, features: int):
    origin, g = instance(seed, features)
    threat = L0(3)
    region = threat.region(origin)
    x = threat.seal(threat.start(region, torch.tensor([seed])), region)
    moved = threat.step(x, g, torch.tensor([1 / 3], dtype=g.dtype), region)
    assert threat.contains(moved, region).all()
    assert int((moved != x).sum()) <= 2
    assert float((g * (moved - x)).sum()) >= -1e-9


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@settings(max_examples=60)
@given(seed=seeds, features=st.integers(1, 12))
def test_the_projection_is_the_nearest_point(norm: str, seed: int, features: int):
    origin, direction = instance(seed, features)
    point = origin + direction
    threat: Ball = NORMS[norm](budgets[norm])
    region = threat.region(origin)
    projected = threat.seal(threat.project(point, region), region)
    # q is the projection of p on a convex set exactly when no point of the set lies beyond q as seen from p:
    # max <p - q, y> over the set is <p - q, q>.
    beyond = (point - projected)[0].numpy()
    here = float((beyond * (projected - origin)[0].numpy()).sum())
    farthest = best_linear(norm, beyond, -origin[0].numpy(), 1 - origin[0].numpy(), budgets[norm])
    assert threat.contains(projected, region).all()
    assert here == pytest.approx(farthest, rel=1e-6, abs=1e-8)


@settings(max_examples=30)
@given(seed=seeds, features=st.integers(1, 6))
def test_the_l0_projection_is_the_best_of_all_choices_of_features(seed: int, features: int):
    origin, direction = instance(seed, features)
    point = origin + direction
    threat = L0(2)
    projected = threat.project(point, threat.region(origin))
    clamped = point.clamp(0, 1)
    choices = itertools.combinations(range(features), min(2, features))
    nearest = min(
        float((torch.where(torch.tensor([[i in chosen for i in range(features)]]), clamped, origin) - point).square().sum())
        for chosen in choices
    )
    assert float((projected - point).square().sum()) == pytest.approx(nearest, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=40)
@given(seed=seeds, features=st.integers(1, 40))
def test_a_sealed_point_is_strictly_inside(norm: str, dtype: torch.dtype, seed: int, features: int):
    origin, direction = instance(seed, features, dtype)
    threat: Ball = NORMS[norm](budgets[norm])
    region = threat.region(origin)
    keys = torch.tensor([seed % 2**31])
    size = torch.tensor([0.7], dtype=dtype)
    for x in (
        origin + direction,
        threat.start(region, keys),
        threat.step(origin, direction, size, region),
        threat.step(threat.start(region, keys), direction, size, region),
    ):
        sealed = threat.seal(x, region)
        delta = (sealed.double() - origin.double())[0].numpy()
        assert sealed.dtype == dtype
        assert ((sealed >= 0) & (sealed <= 1)).all()
        assert lengths(norm, delta) <= budgets[norm] * (1 + 1e-12)
        assert threat.contains(sealed, region).all()
        # Sealing changes nothing that was inside already.
        assert torch.equal(threat.seal(sealed, region), sealed) or norm in ("l2", "l1")


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=30)
@given(seed=seeds, scale=st.sampled_from([2.0**-100, 2.0**-30, 2.0**30, 2.0**100]))
def test_the_scale_of_the_gradient_does_not_matter(norm: str, seed: int, scale: float):
    origin, g = instance(seed, 9, torch.float32)
    threat: Ball = NORMS[norm](budgets[norm])
    region = threat.region(origin)
    size = torch.tensor([0.3])
    assert torch.allclose(threat.maximise(g * scale, region), threat.maximise(g, region), atol=1e-5)
    assert torch.allclose(threat.step(origin, g * scale, size, region), threat.step(origin, g, size, region), atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_a_zero_gradient_moves_nothing(norm: str):
    origin = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    threat: Ball = NORMS[norm](1)
    region = threat.region(origin)
    zero = torch.zeros_like(origin)
    assert torch.equal(threat.maximise(zero, region), origin)
    assert torch.equal(threat.step(origin, zero, torch.ones(3), region), origin)


@pytest.mark.parametrize("norm", NORMS)
def test_zero_budget_is_the_clean_point(norm: str):
    origin = torch.rand(3, 5, generator=torch.Generator().manual_seed(0))
    threat: Ball = NORMS[norm](0)
    region = threat.region(origin)
    moved = threat.seal(threat.maximise(torch.ones_like(origin), region), region)
    assert torch.equal(moved, origin)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@settings(max_examples=15)
@given(seed=seeds)
def test_sealed_points_are_inside_in_exact_arithmetic(norm: str, dtype: torch.dtype, offset: float, seed: int):
    rng = np.random.default_rng(seed)
    origin = torch.tensor(rng.random((4, 6)) + offset, dtype=dtype)
    threat: Ball = NORMS[norm]("0.1", bounds=None)
    region = threat.region(origin)
    sealed = threat.seal(origin + torch.tensor(rng.normal(size=(4, 6)), dtype=dtype), region)
    assert threat.contains(sealed, region).all()
    for a, b in zip(sealed.tolist(), origin.tolist(), strict=True):
        delta = [abs(Fraction(p) - Fraction(q)) for p, q in zip(a, b, strict=True)]
        eps = Fraction(1, 10)
        size = {"linf": max(delta), "l1": sum(delta), "l2": sum(d * d for d in delta)}[norm]
        assert size <= (eps * eps if norm == "l2" else eps)


def test_membership_of_one_does_not_depend_on_another():
    threat = L2("0.1", bounds=None)
    origin = torch.tensor([[0.0, 0.0], [1e15, 0.0]], dtype=torch.float64)
    assert not threat.contains(origin + 0.9, threat.region(origin))[0]


@pytest.mark.parametrize("eps", ["1e-20", "5", "1e18"])
def test_l2_takes_any_radius_and_a_zero_gradient(eps: str):
    threat = L2(eps, bounds=None)
    x = torch.zeros(2, 3)
    region = threat.region(x)
    grad = torch.tensor([[0.0, 0.0, 0.0], [3.0, 4.0, 0.0]])
    best = threat.maximise(grad, region)
    assert torch.equal(best[0], x[0])
    assert torch.allclose(best[1], float(eps) * torch.tensor([0.6, 0.8, 0.0]))
    assert torch.allclose(threat.project(2 * best, region), best)
