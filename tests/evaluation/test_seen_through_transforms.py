"""Image transforms go through the same evaluation as every threat; where the answer is known, it is that."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pytest_robust import Negation, Photometric, PreflightError, Spatial, Targeted, ThreatError, evaluate
from pytest_robust.store.folder import Folder

SIZE = 33
TILTS = torch.linspace(0, 40, 20)


def grid() -> tuple[Tensor, Tensor]:
    """x to the right and y upwards, in [-0.5, 0.5]."""
    c = (torch.arange(SIZE) - (SIZE - 1) / 2) / SIZE
    y, x = torch.meshgrid(-c, c, indexing="ij")
    return x, y


def bars(degrees: Tensor) -> Tensor:
    """A bar in the middle, so far counter-clockwise from horizontal."""
    x, y = grid()
    angle = torch.deg2rad(degrees).view(-1, 1, 1)
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    return torch.exp(-((along / 0.18) ** 2) - (across / 0.06) ** 2).unsqueeze(1)


def lying_or_standing(images: Tensor) -> Tensor:
    """Logits for a bar that is nearer to horizontal, or to vertical, wherever it is: by its second moments."""
    x, y = grid()
    weight = images[:, 0] / images[:, 0].sum((1, 2), keepdim=True)
    mean = [(weight * place).sum((1, 2)) for place in (x, y)]
    spread = [(weight * place.square()).sum((1, 2)) - m.square() for place, m in zip((x, y), mean, strict=True)]
    return 100 * torch.stack([spread[0] - spread[1], spread[1] - spread[0]], 1)


BARS = (torch.cat([bars(TILTS), bars(90 - TILTS)]), torch.arange(2).repeat_interleave(len(TILTS)))


@pytest.mark.parametrize("degrees", [7, 10, 24])
@pytest.mark.parametrize("shift", [0, 0.1])
def test_a_bar_breaks_where_its_turn_passes_the_diagonal(degrees, shift):
    result = evaluate(lying_or_standing, BARS, Spatial(degrees, shift), profile="smoke", n=40)
    assert result.robust.tolist() == (TILTS + degrees < 45).repeat(2).tolist()
    assert 0 < result.accuracy < 1
    threat = Spatial(degrees, shift)
    for i in result.witnesses:
        params = result.adversarial(i)
        assert params.shape == (len(threat.limits),)
        turned = abs(threat.amounts(params)["degrees"])
        assert 45 - TILTS[i % len(TILTS)] - 0.2 < turned <= degrees
        image = threat.apply(BARS[0][i], params)
        assert lying_or_standing(image[None]).argmax().item() == result.predicted[i] == 1 - BARS[1][i]


@pytest.fixture(scope="module")
def reference():
    return evaluate(lying_or_standing, BARS, Spatial(10, 0.1))


def test_the_profile_for_few_numbers_is_evidence(reference):
    assert reference.attacks == ("sweep",)
    assert reference.health.level == "trusted"
    assert reference.threat.space == "transform"
    assert str(reference.accuracy.describe()).startswith("(spatial 10deg,0.1")
    assert "no attack needed gradients" in [check.detail for check in reference.health.checks]
    assert reference.weakest.eps.startswith("0.5")  # of 10 degrees, the bar at 40
    in_tenths = evaluate(lying_or_standing, BARS, Spatial(10, "1/10"))
    assert in_tenths.weakest.eps == reference.weakest.eps


@pytest.mark.parametrize("change", [1e-4, 1e4, "batch", "order"])
def test_scale_batch_and_order_change_nothing(reference, change):
    order = torch.randperm(len(BARS[1]), generator=torch.Generator().manual_seed(0))
    if change == "batch":
        again = evaluate(lying_or_standing, BARS, Spatial(10, 0.1), batch_size=7)
    elif change == "order":
        again = evaluate(lying_or_standing, (BARS[0][order], BARS[1][order]), Spatial(10, 0.1))
    else:
        again = evaluate(lambda x: change * lying_or_standing(x), BARS, Spatial(10, 0.1))
    both = (dict(zip(result.ids, result.broken_by, strict=True)) for result in (reference, again))
    assert next(both) == next(both)
    assert again.health.level == "trusted"


def test_what_no_turn_changes_survives():
    x, y = grid()
    disc = torch.exp(-((x.square() + y.square()).sqrt() / 0.2).pow(4))
    images = torch.linspace(0.2, 1, 40).view(-1, 1, 1, 1) * disc
    labels = (torch.arange(40) >= 20).long()

    def brightness(images: Tensor) -> Tensor:
        bright = images.mean((1, 2, 3)) / disc.mean()
        return torch.stack([0.6 - bright, bright - 0.6], 1)

    result = evaluate(brightness, (images, labels), Spatial(180, 0.05), min_accuracy=1)
    assert result.verdict == "pass"
    assert result.health.level == "trusted"
    assert evaluate(brightness, (images, labels), Photometric(0.1, 0)).accuracy < 1


class Narrow(nn.Module):
    """Wrong only where the bar was turned by 20 to 24 degrees, with no slope that leads there."""

    def forward(self, images: Tensor) -> Tensor:
        x, y = grid()
        weight = images[:, 0]
        angle = torch.rad2deg(torch.atan2(2 * (weight * x * y).sum((1, 2)), (weight * (x**2 - y**2)).sum((1, 2)))) / 2
        hidden = ((angle - 22).abs() < 2).detach()
        return torch.stack([torch.where(hidden, -1.0, 1 - 1e-3 * angle), 1e-3 * angle], 1)


def test_a_weakness_without_slopes_is_found_and_gradients_alone_are_no_evidence():
    data = (bars(torch.linspace(-8, 8, 30)), torch.zeros(30, dtype=torch.int64))
    threat = Spatial(32, 0)
    assert evaluate(Narrow(), data, threat).accuracy == 0
    by_gradients = evaluate(Narrow(), data, threat, attacks="fgsm,pgd-margin")
    assert by_gradients.broken_counts()["sweep-probe"] > 0
    assert by_gradients.health.level == "invalid"
    assert by_gradients.accuracy.k == 0
    checks = {check.name: check.detail for check in by_gradients.health.checks}
    assert "search too little" in checks["black-box"]
    assert "convergence" not in checks  # a longer search by gradients would ask the same again


def linear(seed: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A linear model of images, and images well within [0, 1] with its own labels."""
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 5 * 5, 1))
    with torch.no_grad():
        model[1].weight.copy_(torch.randn(1, 75, generator=generator))
        x = 0.3 + 0.4 * torch.rand(200, 3, 5, 5, generator=generator)
        model[1].bias.copy_(-model[1](x.flatten(1)).median() + model[1].bias)
    return model.eval(), x, (model(x)[:, 0] > 0).long().detach()


@pytest.mark.parametrize(("brightness", "contrast"), [(0.02, 0.2), (0.03, 0), (0, 0.5)])
def test_photometric_on_a_linear_model_is_the_closed_form(brightness, contrast):
    model, x, y = linear(0)
    weight, logit = model[1].weight[0].detach().double(), model(x)[:, 0].detach().double()
    about_middle = (x.flatten(1).double() - 0.5) @ weight
    left = logit.abs() - brightness * weight.sum().abs() - contrast * about_middle.abs()
    assert left.abs().min() > 1e-4
    result = evaluate(model, (x, y), Photometric(brightness, contrast))
    assert result.robust.tolist() == (left > 0).tolist()
    assert 0 < result.accuracy < 1
    assert result.health.level == "trusted"


def test_photometric_cuts_off_at_the_bounds():
    """Half of the pixels are white: they can only get darker."""
    grey = torch.linspace(0.2, 0.8, 40)
    x = torch.ones(40, 1, 4, 4)
    x[:, :, :2] = grey.view(-1, 1, 1, 1)
    y = (grey > 0.5).long()

    def model(images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3)) - 0.75
        return torch.stack([-mean, mean], 1)

    result = evaluate(model, (x, y), Photometric("0.09", 0))
    assert result.robust.tolist() == torch.where(y == 1, (grey + 1) / 2 - 0.09 > 0.75, grey + 0.09 < 0.5).tolist()


@pytest.mark.parametrize("attacks", [None, "fgsm", "square", "pgd"])
def test_negation_breaks_a_linear_model_exactly_where_the_negative_is_wrong(attacks):
    model, x, y = linear(1)
    wrong = (model(1 - x)[:, 0] > 0).long() != y
    result = evaluate(model, (x, y), Negation(), attacks=attacks)
    assert result.robust.tolist() == (~wrong).tolist()
    assert 0 < result.accuracy < 1
    assert all(result.adversarial(i).item() == 1 for i in result.witnesses)
    if attacks is None:
        assert result.health.level == "trusted"
        assert result.cost.forward < 5 * len(y)


def test_bounds_are_those_of_the_images():
    model, x, y = linear(1)
    for threat in (Negation(), Photometric()):
        with pytest.raises(PreflightError, match=r"bounds: inputs range from .* 0-255 data"):
            evaluate(model, (255 * x, y), threat)
    x[3, 0, 0, 0] = torch.nan
    with pytest.raises(PreflightError, match="inputs: example 3"):
        evaluate(model, (x, y), Spatial())


def test_inputs_that_are_no_images_are_refused_with_their_shape():
    with pytest.raises(ThreatError, match=r"one input has shape \(75,\); reshape the data"):
        evaluate(nn.Linear(75, 2), (torch.rand(20, 75), torch.arange(20) % 2), Spatial())


def test_other_columns_go_along():
    class Shifted(nn.Module):
        def forward(self, images: Tensor, offset: Tensor) -> Tensor:
            return lying_or_standing(images) + torch.stack([offset, -offset], 1)

    columns = {"images": BARS[0], "offset": torch.zeros(len(BARS[1]), dtype=torch.int64)}
    columns["offset"][0] = 100  # of the bar at 0 degrees: no turn can break it then
    expected = (TILTS + 44 < 45).repeat(2)
    expected[0] = True
    result = evaluate(Shifted(), (columns, BARS[1]), Spatial(44, 0))
    assert result.robust.tolist() == expected.tolist()


def test_a_target_is_reached():
    result = evaluate(lying_or_standing, BARS, Spatial(10, 0), objective=Targeted(1))
    assert result.robust.tolist() == (TILTS + 10 < 45).tolist()


@pytest.mark.parametrize("options", [{"profile": "release"}, {"autocast": True}], ids=str)
def test_release_searches_longer_and_a_rough_search_is_made_exact(options):
    some = slice(14, 26)
    result = evaluate(lying_or_standing, (BARS[0][some], BARS[1][some]), Spatial(10, 0.1), **options)
    assert result.robust.tolist() == (TILTS + 10 < 45).repeat(2)[some].tolist()
    assert result.health.level == "trusted"
    assert result.attacks == ("sweep", "sweep-restarts" if "profile" in options else "sweep-exact")


def test_a_finished_check_is_found_again_and_its_points_are_tried_first(tmp_path):
    some = slice(14, 26)
    data = (BARS[0][some], BARS[1][some])
    first = evaluate(lying_or_standing, data, Spatial(10, 0), memory=Folder(tmp_path))
    again = evaluate(lying_or_standing, data, Spatial(10, 0), memory=Folder(tmp_path))
    assert again.cached
    assert again.robust.tolist() == first.robust.tolist()
    memory = Folder(tmp_path)
    memory.replayed = (first.identity.check,)
    for threat, by in ((Spatial(12, 0), {"replay"}), (Spatial(10, 0.1), {"sweep"})):  # of another shape, points are no help
        other = evaluate(lying_or_standing, data, threat, memory=memory)
        assert not other.cached
        assert {by for by, once in zip(other.broken_by, first.broken_by, strict=True) if once is not None} == by
        assert other.identity.model == first.identity.model
