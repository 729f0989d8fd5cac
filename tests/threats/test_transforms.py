"""Transforms of images: what each does, that doing nothing changes no bit, and gradients."""

from __future__ import annotations

import pytest
import torch

from pytest_robust import Linf, Negation, Photometric, Spatial, ThreatError
from pytest_robust.threats import Transform

THREATS = [
    Spatial(), Spatial(20, 0, padding="border"), Spatial(0, "1/8", 0.2, "reflection"), Photometric(), Photometric(0.2, 0),
    Photometric(0, 0.5), Negation(),
]  # fmt: skip


def images(n: int = 4, channels: int = 3, height: int = 8, width: int = 8) -> torch.Tensor:
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(0))


def ends(threat: Transform, n: int) -> torch.Tensor:
    return threat.region(torch.zeros(n, len(threat.limits))).upper


@pytest.mark.parametrize("threat", THREATS, ids=lambda t: str(t.summary()))
def test_no_change_changes_no_bit_whatever_the_neighbours_do(threat):
    x = images(height=7, width=9)  # sizes at which interpolation rounds
    params = threat.origin(x)
    assert torch.equal(threat.apply(x, params), x)
    params[1] = 1
    changed = threat.apply(x, params)
    assert torch.equal(changed[[0, 2, 3]], x[[0, 2, 3]])
    assert not torch.equal(changed[1], x[1])
    assert torch.equal(threat.apply(x[1], params[1]), changed[1])


@pytest.mark.parametrize("threat", [t for t in THREATS if not isinstance(t, Negation)], ids=lambda t: str(t.summary()))
def test_gradients_are_those_of_the_transform(threat):
    x = images().double()
    for place in (0.0, 0.3):
        params = threat.origin(x).add(place).requires_grad_()
        (threat.apply(x, params).square().sum((1, 2, 3)) / 10).sum().backward()
        for i in range(len(threat.limits)):
            moved = torch.zeros_like(params)
            moved[:, i] = 1e-7
            # One side alone at no change: the interpolation has a kink there.
            sides = [threat.apply(x, params.detach() + sign * moved).square().sum((1, 2, 3)) / 10 for sign in (1, -1, 0)]
            slopes = torch.stack([(sides[0] - sides[2]) / 1e-7, (sides[2] - sides[1]) / 1e-7])
            low, high = slopes.amin(0) - 1e-4, slopes.amax(0) + 1e-4
            assert ((low <= params.grad[:, i]) & (params.grad[:, i] <= high)).all()
            assert (params.grad[:, i] != 0).any()


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 7), (6, 9)])
def test_a_quarter_turn_is_counter_clockwise(height, width):
    x = images(2, 1, height, width)
    turned = Spatial(90, 0).apply(x, torch.ones(2, 1))
    whole = torch.rot90(x, 1, (2, 3))
    if height == width:
        assert torch.allclose(turned, whole, atol=1e-5)
    else:
        # Where both have pixels: a turn about the centre, in pixels, whatever the shape.
        assert turned.shape == x.shape
        half = Spatial(180, 0).apply(x, torch.ones(2, 1))
        assert torch.allclose(half, torch.rot90(x, 2, (2, 3)), atol=1e-5)


def test_a_turn_keeps_lengths_in_an_image_that_is_not_square():
    x = torch.zeros(1, 1, 21, 41)
    x[0, 0, 10, 14:27] = 1
    turned = Spatial(90, 0).apply(x, torch.ones(1, 1))
    expected = torch.zeros_like(x)
    expected[0, 0, 4:17, 20] = 1
    assert torch.allclose(turned, expected, atol=1e-5)


def test_shifts_are_shares_of_width_and_height():
    x = images(2, 3, 8, 16)
    threat = Spatial(0, "1/8")
    assert list(threat.limits) == ["right", "down"]
    right, down = threat.apply(x, torch.tensor([[1.0, 0], [0, -1]]))
    assert torch.allclose(right[:, :, 2:], x[0, :, :, :-2], atol=1e-5)
    assert torch.equal(right[:, :, :2], torch.zeros(3, 8, 2))
    assert torch.allclose(down[:, :-1], x[1, :, 1:], atol=1e-5)


def test_shift_comes_after_the_turn():
    x = torch.zeros(1, 1, 9, 9)
    x[0, 0, 4, 6] = 1  # right of the centre by two
    out = Spatial(90, "1/9").apply(x, torch.tensor([[1.0, 1.0, 0.0]]))[0, 0]
    assert out[2, 5].item() == pytest.approx(1, abs=1e-5)  # up by two, then right by one


def test_zoom_makes_the_content_larger():
    x = torch.zeros(1, 1, 9, 9)
    x[0, 0, 4, 6] = 1
    out = Spatial(0, 0, 0.5).apply(x, torch.tensor([[1.0]]))[0, 0]
    assert out.argmax().item() == 4 * 9 + 7


def test_padding():
    x = torch.ones(1, 1, 8, 8)
    inside = {p: Spatial(0, 0.25, padding=p).apply(x, torch.ones(1, 2)).mean().item() for p in ("zeros", "border")}
    assert inside == {"zeros": pytest.approx(36 / 64), "border": 1}


def test_photometric_is_affine_about_the_middle_and_stays_within_the_bounds():
    x = images()
    threat = Photometric("0.1", "50%")
    params = torch.tensor([[1.0, 0], [-0.5, 0], [0, 1], [0, -1]])
    out = threat.apply(x, params)
    expected = torch.stack([x[0] + 0.1, x[1] - 0.05, 0.5 + 1.5 * (x[2] - 0.5), 0.5 + 0.5 * (x[3] - 0.5)]).clamp(0, 1)
    assert torch.allclose(out, expected)
    assert threat.amounts(params[1]) == {"brightness": pytest.approx(-0.05), "contrast": 0}


def test_bounds_may_differ_by_channel():
    low, high = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 4.0])
    x = torch.tensor([-0.5, 3.0]).view(1, 2, 1, 1).expand(1, 2, 3, 3)
    assert torch.equal(Negation((low, high)).apply(x, torch.ones(1, 1))[0, :, 0, 0], torch.tensor([0.5, 1.0]))
    assert torch.equal(Photometric(3, 0, (low, high)).apply(x, torch.ones(1, 1))[0, :, 0, 0], torch.tensor([1.0, 4.0]))


def test_a_negative_is_all_or_nothing_and_has_a_gradient():
    x = images()
    threat = Negation()
    for share, expected in ((1.0, 1 - x), (0.99, x), (0.5, x)):
        assert torch.allclose(threat.apply(x, torch.full((4, 1), share)), expected)
    params = threat.origin(x).requires_grad_()
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    (threat.apply(x, params) * weights).sum().backward()
    assert torch.allclose(params.grad[:, 0], ((1 - 2 * x) * weights).sum((1, 2, 3)), atol=1e-4)
    region = threat.region(threat.origin(x))
    assert (region.lower == 0).all()
    assert (region.upper == 1).all()


def test_only_parameters_with_a_limit_are_part_of_a_point():
    assert {str(t.summary()): tuple(t.limits) for t in THREATS} == {
        "spatial 30deg,0.1": ("degrees", "right", "down"),
        "spatial 20deg,0,border": ("degrees",),
        "spatial 0deg,1/8,0.2,reflection": ("right", "down", "zoom"),
        "photometric 0.1,0.1": ("brightness", "contrast"),
        "photometric 0.2,0": ("brightness",),
        "photometric 0,0.5": ("contrast",),
        "negation 1-x": ("negative",),
    }
    assert [len(t.limits) for t in THREATS] == [3, 1, 3, 2, 1, 1, 1]
    assert [t.terrain for t in THREATS] == ["few"] * 6 + ["single"]
    assert Linf(0.1).terrain == "smooth"


def test_sealed_points_reach_the_limits_and_no_farther():
    threat = Spatial()
    region = threat.region(threat.origin(images()))
    sealed = threat.seal(torch.full((4, 3), 2.0), region)
    assert torch.equal(sealed, torch.ones(4, 3))
    assert threat.contains(sealed, region).all()
    assert not threat.contains(torch.full((4, 3), 1.0001), region).any()


@pytest.mark.parametrize(
    ("build", "needle"),
    [
        (lambda: Spatial(0, 0), "give at least one limit above 0"),
        (lambda: Photometric(0, 0), "give at least one limit above 0"),
        (lambda: Spatial(-3), "degrees lies between 0 and 180, got -3"),
        (lambda: Spatial(181), "degrees lies between 0 and 180"),
        (lambda: Spatial("thirty"), "degrees: 'thirty' is not a number"),
        (lambda: Spatial(shift=3), "shift lies between 0 and 1"),
        (lambda: Spatial(scale=1), "scale lies between 0 and 0.99"),
        (lambda: Spatial(padding="wrap"), "padding is one of 'zeros', 'border', 'reflection'"),
        (lambda: Photometric(2), "brightness lies between 0 and 1"),
        (lambda: Photometric(contrast=1.5), "contrast lies between 0 and 1"),
        (lambda: Photometric(bounds=None), "finite bounds"),
        (lambda: Negation(bounds=(0, float("inf"))), "finite bounds"),
        (lambda: Negation(bounds=(1, 0)), "low < high"),
        (lambda: Spatial().origin(torch.rand(5, 784)), "(channels, height, width), and one input has shape (784,)"),
        (lambda: Negation().origin(torch.rand(5, 28, 28)), "one input has shape (28, 28)"),
        (lambda: Spatial().with_eps(0.1), "make a Spatial for each set of limits"),
    ],
)
def test_errors_say_what_to_do(build, needle):
    with pytest.raises(ThreatError) as caught:
        build()
    assert needle in str(caught.value)
