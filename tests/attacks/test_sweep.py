"""The search of few numbers: everywhere first, then around the best; in the region, the same in every batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pytest_robust import L2, Linf, Spatial, Sweep, ThreatError
from pytest_robust.attacks import Live
from pytest_robust.threats import Threat

BOX = Linf(1, bounds=(-1, 1))


def searched(
    loss: Callable[[torch.Tensor], torch.Tensor], threat: Threat, x: torch.Tensor, attack: Sweep, key: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """All points that were tried, (queries, S, ...), and their losses."""
    n = len(x)
    zeros, ones = torch.zeros(n, dtype=torch.int64), torch.ones(n)
    live = Live(
        x, threat.region(x), {}, zeros, zeros, ones, torch.arange(n) + key, zeros, zeros, -ones, -ones, torch.zeros(n, 2)
    )
    attack.begin(threat, live)
    points = [live.x]
    for _ in range(attack.n_steps):
        attack.update(threat, live, loss(live.x), torch.zeros_like(live.x))
        live.step = live.step + 1
        points.append(live.x)
    return torch.stack(points), torch.stack([loss(point) for point in points])


def nowhere(x: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(x))


def test_ends_and_middles_come_first():
    points, _ = searched(nowhere, BOX, torch.zeros(2, 3), Sweep(n_steps=60))
    expected = {(a, b, c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)} - {(0, 0, 0)}
    assert {tuple(p) for p in points[:26, 0].int().tolist()} == expected
    assert points[0, 0].tolist() == [1, 0, 0]


@pytest.mark.parametrize("numbers", [1, 2, 3])
def test_the_region_is_covered_evenly(numbers: int):
    """No place is farther from a point than twice the spacing of a perfect grid of as many points."""
    points, _ = searched(nowhere, BOX, torch.zeros(3, numbers), Sweep(n_steps=400))
    axis = torch.linspace(-1, 1, 21)
    places = torch.cartesian_prod(*[axis] * numbers).view(-1, numbers)
    for slot in range(3):
        apart = (places[:, None] - points[None, :200, slot]).abs().amax(2).amin(1)
        assert apart.max() < 2 * 2 * 200 ** (-1 / numbers)


def test_it_converges_on_every_one_of_several_equal_peaks_or_on_the_highest():
    peaks = torch.tensor([[0.37, -0.61, 0.11], [-0.73, 0.29, 0.53], [0.1, 0.8, -0.8]])
    heights = torch.tensor([1.0, 1.1, 0.9])

    def loss(x: torch.Tensor) -> torch.Tensor:
        return (heights - (x[:, None] - peaks).norm(dim=2)).amax(1)

    _, losses = searched(loss, BOX, torch.zeros(20, 3), Sweep())
    assert (losses.amax(0) > 1.1 - 0.03).float().mean() > 0.9
    assert (losses.amax(0) > 1.0 - 0.03).all()


def test_what_gradients_cannot_see_is_found():
    """Flat everywhere but for a box of half of the width, at another place for each example."""
    at = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) * 1.5 - 1

    def loss(x: torch.Tensor) -> torch.Tensor:
        return (((x - at) > 0) & ((x - at) < 0.5)).all(1).float()

    _, losses = searched(loss, BOX, torch.zeros(50, 3), Sweep())
    assert losses.amax(0).all()


@pytest.mark.parametrize("threat", [BOX, L2(0.5), L2(0.5, bounds=None), Spatial(scale=0.1)], ids=lambda t: str(t.summary()))
def test_every_point_lies_in_the_threat(threat: Threat):
    x = torch.zeros(4, 4) if threat.space == "transform" else torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    points, _ = searched(lambda x: x.sum(1), threat, x, Sweep(n_steps=90))
    region = threat.region(x)
    for point in points:
        assert (threat.distance(point, region) <= float(threat.budget) * (1 + 1e-6)).all()
        assert ((point >= region.lower) & (point <= region.upper)).all()


def test_points_depend_on_the_key_alone():
    def loss(x: torch.Tensor) -> torch.Tensor:
        return x.square().sum(1)

    together, _ = searched(loss, BOX, torch.zeros(5, 3), Sweep(n_steps=80))
    for slot in (0, 3):
        alone, _ = searched(loss, BOX, torch.zeros(1, 3), Sweep(n_steps=80), key=slot)
        assert torch.equal(together[:, slot], alone[:, 0])
    # After the combinations of ends and middles, which all have.
    assert not torch.isclose(together[26:40, 0], together[26:40, 1]).any()


def test_losses_that_are_no_numbers_lead_nowhere():
    points, _ = searched(lambda x: torch.full((len(x),), torch.nan), BOX, torch.zeros(2, 3), Sweep(n_steps=50))
    assert points.isfinite().all()


def test_a_point_of_many_numbers_is_refused():
    with pytest.raises(ThreatError, match="a point of linf 1 has 192; use 'square'"):
        searched(nowhere, BOX, torch.zeros(1, 3, 8, 8), Sweep())
