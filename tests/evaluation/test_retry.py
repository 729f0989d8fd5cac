"""An adversarial example found before, put to a model once more."""

from __future__ import annotations

import copy

import pytest
import torch

from pytest_robust import L0, L1, L2, Linf, ModelError, Negation, Photometric, PreflightError, Spatial, Targeted, evaluate
from pytest_robust.conformance.networks import Wrapped
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.retry import retry
from pytest_robust.models import adapt


def images(net):
    """The network on images of 3 x 4 pixels."""
    return Wrapped(net, lambda inner, x: inner(x.flatten(1))).eval()


def found(model, data, threat, **options):
    """The ids of what is broken, and the points."""
    result = evaluate(model, data, threat, **options)
    assert result.witnesses
    return {result.ids[row]: point for row, point in result.witnesses.items()}


@pytest.mark.parametrize("threat", [Linf("0.1"), L2(0.3), L1(0.8), L0(2), Linf(0.1, bounds=None)], ids=str)
def test_what_an_evaluation_found_is_broken_still_to_the_last_bit(trained, data, threat, monkeypatch):
    points = found(trained, data, threat, attacks="fgsm-t")
    monkeypatch.setattr(Passes, "gradient", lambda *_: pytest.fail("no attack is run"))
    for id, point in points.items():
        again = retry(trained, data, id, threat, point)
        assert (again.verdict, again.inside, again.clean_wrong) == ("broken", True, False)
        assert torch.equal(again.point, point)
        assert again.example.ids == (id,)
        assert again.predicted != int(again.example.labels[0])


@pytest.mark.parametrize("threat", [Spatial(30, 0.3), Photometric(0.4, 0.5), Negation()], ids=lambda t: t.norm)
def test_transforms_are_seen_through(trained, data, threat):
    pictures = data[0].view(-1, 1, 3, 4), data[1]
    for id, point in found(images(trained), pictures, threat).items():
        again = retry(images(trained), pictures, id, threat, point)
        assert (again.verdict, again.inside) == ("broken", True)
        assert torch.equal(again.point, point)


def test_a_model_that_is_right_has_mended_it(trained, data):
    points = found(trained, data, Linf(0.1), attacks="fgsm-t")

    def remembering(inner, x):
        labels = data[1][torch.cdist(x, data[0]).argmin(1)]
        return 0 * inner(x) + torch.nn.functional.one_hot(labels, 5)

    mended = Wrapped(trained, remembering).eval()
    assert {retry(mended, data, id, Linf(0.1), point).verdict for id, point in points.items()} == {"mended"}


def test_of_a_smaller_threat_it_is_broken_within_or_nothing_is_said(trained, data):
    points = found(trained, data, Linf(0.1), attacks="fgsm-t")
    verdicts = set()
    for id, point in points.items():
        again = retry(trained, data, id, Linf(0.04), point)
        clean = data[0][evaluate(trained, data, Linf(0), attacks="fgsm").ids.index(id)]
        assert float((again.point.double() - clean.double()).abs().max()) <= 0.04
        assert not again.inside
        verdicts.add(again.verdict)
    assert verdicts == {"broken", "outside"}


def test_bounds_and_masks_of_the_threat_count(trained, data):
    points = found(trained, data, Linf(0.1), attacks="fgsm-t")
    id, point = next(iter(points.items()))
    still = retry(trained, data, id, Linf(0.1, mask=torch.zeros(12, dtype=torch.bool)), point)
    assert (still.verdict, still.inside) == ("outside", False)


def test_wrong_without_any_attack_is_broken(trained, data):
    id, point = next(iter(found(trained, data, Linf(0.1), attacks="fgsm-t").items()))
    again = retry(Wrapped(trained, lambda inner, x: -inner(x)).eval(), data, id, Linf(0.1), point)
    assert (again.verdict, again.clean_wrong) == ("broken", True)


def test_a_target_counts(trained, data):
    points = found(trained, data, Linf(0.2), objective=Targeted(2))
    id, point = next(iter(points.items()))
    again = retry(trained, data, id, Linf(0.2), point, objective=Targeted(2))
    assert (again.verdict, again.predicted) == ("broken", 2)
    other = next(c for c in range(5) if c not in (2, int(again.example.labels[0])))
    assert retry(trained, data, id, Linf(0.2), point, objective=Targeted(other)).verdict == "mended"


def test_the_same_change_is_made_from_where_the_example_is_now(trained, data):
    id, point = next(iter(found(trained, data, Linf(0.1), attacks="fgsm-t").items()))
    x = retry(trained, data, id, Linf(0.1), point).origin
    elsewhere = x + 0.25
    moved = retry(trained, data, id, Linf(0.1, bounds=None), elsewhere + (point - x), origin=elsewhere)
    assert (moved.verdict, moved.inside) == ("broken", True)
    assert torch.allclose(moved.point, point, atol=1e-6)


def test_a_random_model_is_asked_by_votes(trained, data):
    noisy = Wrapped(trained, lambda inner, x: inner(x) + 0.02 * torch.randn(len(x), 5)).eval()
    id, point = next(iter(found(trained, data, Linf(0.1), attacks="fgsm-t").items()))
    verdicts = {retry(noisy, data, id, Linf(0.1), point, draws=4, seed=seed).verdict for seed in range(6)}
    assert verdicts == {"broken"}


def test_draws_that_do_not_say_are_no_pass(trained, data):
    id, point = next(iter(found(trained, data, Linf(0.1), attacks="fgsm-t").items()))
    label = retry(trained, data, id, Linf(0.1), point).example.labels

    def tossing(inner, x):
        near = (x - point).abs().amax(1) < 1e-3
        coin = torch.rand(len(x)) < 0.48
        right = torch.nn.functional.one_hot(label.expand(len(x)), 5).float()
        return torch.where((near & coin).unsqueeze(1), -right, right) + 0 * inner(x)

    model = Wrapped(trained, tossing).eval()
    verdicts = [retry(model, data, id, Linf(0.1), point, draws=4, seed=seed).verdict for seed in range(12)]
    assert "broken" not in verdicts
    assert "contested" in verdicts


def test_nothing_of_the_users_changes(trained, data):
    id, point = next(iter(found(trained, data, Linf(0.1), attacks="fgsm-t").items()))
    model, kept, inputs = copy.deepcopy(trained), point.clone(), data[0].clone()
    state = torch.get_rng_state()
    retry(model, data, id, Linf(0.1), point)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), trained.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(point, kept)
    assert torch.equal(data[0], inputs)


def test_an_adapted_model_and_its_classes(trained, data):
    id, point = next(iter(found(trained, data, Linf(0.1), attacks="fgsm-t").items()))
    again = retry(adapt(trained, classes=list("abcde")), data, id, Linf(0.1), point)
    assert again.verdict == "broken"
    assert again.example.classes == tuple("abcde")


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        (lambda m, d, i, p: (m, d, "0" * 16, p), PreflightError, "none of the 150 examples has the content id 0{16}"),
        (lambda m, d, i, p: (m, (d[0] + 1e-6, d[1]), i, p), PreflightError, "has changed since"),
        (
            lambda m, d, i, p: (m, d, i, p[:5]),
            PreflightError,
            r"has shape \(12,\) in .* adversarial example \(5,\)",
        ),
        (
            lambda m, d, i, p: (Wrapped(m, lambda net, x: torch.where((x == p).all(), torch.nan, net(x))).eval(), d, i, p),
            ModelError,
            "NaN or infinity at the adversarial example",
        ),
        (lambda m, d, i, p: (Wrapped(m, lambda net, x: torch.nan * net(x)).eval(), d, i, p), PreflightError, "outputs: "),
        (lambda m, d, i, p: (Wrapped(m, lambda net, x: net(x)[:, :1]).eval(), d, i, p), PreflightError, "labels: "),
    ],
    ids=["id", "data", "shape", "nan", "nan-clean", "labels"],
)
def test_what_cannot_be_asked_is_an_error(trained, data, change, error, told):
    points = found(trained, data, Linf(0.1), attacks="fgsm-t")
    result = evaluate(trained, data, Linf(0), attacks="fgsm")
    id = next(i for i in points if result.labels[result.ids.index(i)] > 1)
    with pytest.raises(error, match=told):
        retry(*change(trained, data, id, points[id])[:3], Linf(0.1), change(trained, data, id, points[id])[3])
