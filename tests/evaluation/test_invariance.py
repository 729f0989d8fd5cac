"""What must not change an outcome: the scale of the logits, the order of the data, the batch, the neighbours."""

from __future__ import annotations

import pytest
import torch

from pytest_robust import L1, L2, Linf, evaluate
from pytest_robust.conformance.networks import Wrapped

THREATS = {"linf": Linf("0.08"), "l2": L2("0.3"), "l1": L1("0.8")}


@pytest.fixture(scope="module", params=THREATS)
def threat(request):
    return THREATS[request.param]


@pytest.fixture(scope="module")
def reference(trained, data, threat):
    result = evaluate(trained, data, threat)
    assert 0.1 < result.accuracy < result.clean_accuracy - 0.1
    return result


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 0.1, 10, 1e4])
def test_the_scale_of_the_logits(trained, data, threat, reference, scale):
    result = evaluate(Wrapped(trained, lambda model, x: model(x) * scale).eval(), data, threat)
    assert result.robust.tolist() == reference.robust.tolist()


@pytest.mark.parametrize("shift", [-100.0, 100.0])
def test_a_constant_added_to_the_logits(trained, data, threat, reference, shift):
    result = evaluate(lambda x: trained(x) + shift, data, threat)
    assert result.robust.tolist() == reference.robust.tolist()


@pytest.mark.parametrize("batch_size", [1, 7, 150])
def test_the_size_of_the_batch(trained, data, threat, reference, batch_size):
    result = evaluate(trained, data, threat, batch_size=batch_size)
    assert result.robust.tolist() == reference.robust.tolist()
    assert result.broken_by == reference.broken_by


def test_the_order_of_the_data(trained, data, threat, reference):
    x, y = data
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(3))
    result = evaluate(trained, (x[order], y[order]), threat)
    assert dict(zip(result.ids, result.robust.tolist(), strict=True)) == dict(
        zip(reference.ids, reference.robust.tolist(), strict=True)
    )


def test_the_neighbours(trained, data, threat, reference):
    x, y = data
    result = evaluate(trained, (x[40:70], y[40:70]), threat)
    assert result.robust.tolist() == reference.robust[40:70].tolist()


def test_two_runs_are_identical(trained, data, threat, reference):
    result = evaluate(trained, data, threat)
    assert result.broken_by == reference.broken_by
    assert result.cost.forward == reference.cost.forward
    assert all(torch.equal(result.adversarial(i), reference.adversarial(i)) for i in reference.witnesses)


def test_the_global_seed_has_no_part_in_it(trained, data, threat, reference):
    with torch.random.fork_rng():
        torch.manual_seed(12345)
        result = evaluate(trained, data, threat)
    assert result.broken_by == reference.broken_by
