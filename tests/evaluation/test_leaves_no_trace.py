"""After a run, also one that raised, everything of the user's is byte for byte what it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_robust import Linf, ModelError, evaluate
from pytest_robust.conformance.trace import Awkward, changed, photograph


@pytest.mark.parametrize(
    "options",
    [{}, {"non_differentiable": {"body.1": nn.functional.softplus}}, {"draws": 2, "attacks": "fgsm"}],
    ids=["plain", "bpda", "draws"],
)
@pytest.mark.parametrize("fail_after", [None, 1, 4, 30])
def test_nothing_of_the_users_changes(trained, data, fail_after, options):
    model, (x, y) = Awkward(trained), data
    model.fail_after = fail_after
    before = photograph(model, x, y)
    if fail_after is None:
        evaluate(model, (x, y), Linf("0.05"), **options)
    else:
        with pytest.raises(ModelError, match="the model gave up"):
            evaluate(model, (x, y), Linf("0.05"), **options)
    assert changed(before, photograph(model, x, y)) == []


def test_nor_when_the_user_interrupts(trained, data):
    model, (x, y) = Awkward(trained), data
    before = photograph(model, x, y)

    def interrupt(progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(model, (x, y), Linf("0.05"), progress=interrupt)
    assert changed(before, photograph(model, x, y)) == []


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_the_callers_mode_changes_no_outcome(trained, data, context):
    plain = evaluate(trained, data, Linf("0.08"), attacks="pgd-margin")
    with context():
        inside = evaluate(trained, data, Linf("0.08"), attacks="pgd-margin")
    assert inside.broken_by == plain.broken_by


def test_a_model_that_writes_into_its_input_spoils_nothing(data):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Threshold(0.05, 0.0, inplace=True), nn.Linear(12, 5)).eval()
    x, y = data
    copy_of_x = x.clone()
    result = evaluate(model, (x, y), Linf("0.05"), waive={"chance": "random weights"})
    assert torch.equal(x, copy_of_x)
    assert all((result.adversarial(i) - x[i]).abs().max() <= 0.05 for i in result.witnesses)
