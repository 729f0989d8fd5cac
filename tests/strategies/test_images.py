"""Image transforms: within their limits, the image itself first, and shrunk to the smallest change."""

from __future__ import annotations

import pytest
import torch
from hypothesis import find, given, settings

from pytest_robust import Negation, Photometric, Spatial, ThreatError
from pytest_robust.strategies import ImageTransform, assert_invariant, attacks, image_transforms

QUICK = settings(database=None, derandomize=True, max_examples=200)
IMAGE = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)) / 2 + 0.25
BOTH = (Spatial(degrees=20, shift=0.25), Photometric(brightness="0.2", contrast=0.5))


def test_the_simplest_is_the_image_itself():
    simplest = find(image_transforms(*BOTH), lambda change: True, settings=QUICK)
    assert torch.equal(simplest(IMAGE), IMAGE)
    assert repr(simplest) == "<the image as it is>"


def test_shrinks_to_the_one_change_that_matters_and_to_its_smallest_amount():
    # Brightness of 0.2 in 8 parts: 0.1 is the fourth; contrast leaves the mean of a centred image nearly alone.
    image = torch.full((1, 4, 4), 0.5)
    found = find(image_transforms(*BOTH), lambda change: bool(change(image)[0, 1:3, 1:3].mean() >= 0.5999), settings=QUICK)
    assert repr(found) == "<brightness 0.1>"
    assert found(image).mean().item() == pytest.approx(0.6)


def test_a_failing_test_prints_the_amounts():
    darker = lambda x: torch.stack([x.mean((1, 2, 3)) - 0.4, 0 * x[:, 0, 0, 0]], 1)  # noqa: E731

    @settings(QUICK)
    @given(change=image_transforms(Photometric(brightness=0.4, contrast=0), levels=4))
    def fails(change):
        image = torch.full((1, 2, 2), 0.55)
        assert_invariant(darker, image, change(image))

    with pytest.raises(AssertionError, match="from class 0 .* into class 1") as raised:
        fails()
    assert "<brightness -0.2>" in "".join(raised.value.__notes__)


def test_transforms_are_applied_in_order_and_to_batches_alike():
    change = ImageTransform(BOTH, ((0.5, -0.5, 0.25), (1.0, -1.0)))
    first = BOTH[0].apply(IMAGE, torch.tensor([0.5, -0.5, 0.25]))
    assert torch.equal(change(IMAGE), BOTH[1].apply(first, torch.tensor([1.0, -1.0])))
    assert torch.allclose(change(torch.stack([IMAGE, IMAGE.flip(2)]))[0], change(IMAGE))
    assert repr(change) == "<degrees 10, right -0.125, down 0.0625, brightness 0.2, contrast -0.5>"


def test_parts_of_a_limit_lie_within_it():
    seen = set()

    @settings(QUICK, max_examples=400)
    @given(change=image_transforms(Photometric(brightness=0.1, contrast=0), levels=2))
    def collect(change):
        seen.add(change.parameters)

    collect()
    assert seen == {((share,),) for share in (-1.0, -0.5, 0.0, 0.5, 1.0)}


def test_a_negative_is_one_or_none():
    seen = set()

    @settings(QUICK, max_examples=50)
    @given(change=image_transforms(Negation()))
    def collect(change):
        seen.add(change.parameters)

    collect()
    assert seen == {((0.0,),), ((1.0,),)}


def test_wrong_arguments():
    with pytest.raises(ValueError, match="at least one transform"):
        image_transforms()
    with pytest.raises(ValueError, match="levels must be at least 1"):
        image_transforms(Spatial(10), levels=0)
    with pytest.raises(ThreatError, match="has no eps"):
        attacks(threat=Spatial(10))
