"""Findings that the user sets aside, with a reason."""

from __future__ import annotations

import pytest
import torch

from pytest_robust import PGD, Linf, PreflightError, evaluate
from pytest_robust.reports.record import record
from pytest_robust.waivers import WAIVABLE, checked_waivers

X = torch.rand(80, 6, generator=torch.Generator().manual_seed(0))
WEIGHTS = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))


class Flipped(torch.autograd.Function):
    """The identity, with the gradient's sign turned."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return -grad


def line(x):
    return x @ WEIGHTS - 0.5 * WEIGHTS.sum(0)


def evaluated(**more):
    data = (X, line(X).argmax(1))
    return evaluate(lambda x: line(Flipped.apply(x)), data, Linf("0.05"), profile="release", min_accuracy="1%", **more)


def levels(result):
    return {check.name: check.level for check in result.health.checks if check.level != "trusted"}


def test_a_finding_of_the_attack_that_is_waived_no_longer_counts():
    plain = evaluated()
    found = levels(plain)
    assert plain.verdict == "fail"
    assert {"slope", "planted"} <= found.keys()
    waived = evaluated(waive=dict.fromkeys(found, "the backward pass is part of the product"))
    assert waived.verdict == "pass"
    assert waived.health.level == "trusted"
    assert levels(waived) == found
    assert {c.name for c in waived.health.checks if c.waived} == found.keys()
    # What was found stays found, and reports get it with the reason.
    assert waived.broken_by == plain.broken_by
    reasons = {check["name"]: check["waived"] for check in record(waived, "a")["health"]["checks"] if check["waived"]}
    assert reasons == dict.fromkeys(found, "the backward pass is part of the product")


def test_a_waiver_is_for_one_finding_only():
    result = evaluated(waive={"slope": "the backward pass is part of the product"})
    assert result.verdict == "fail"
    assert result.health.worst.name != "slope"


def test_a_waiver_of_what_is_in_order_is_not_shown():
    result = evaluated(waive={"determinism": "just in case"})
    assert all(check.waived is None for check in result.health.checks)


def test_a_schedule_that_did_not_converge_may_be_waived():
    weak, data = PGD(n_steps=10, step_size=0.001), (X, line(X).argmax(1))
    plain = evaluate(line, data, Linf("0.05"), attacks=weak, min_accuracy="1%", profile="release")
    waived = evaluate(
        line, data, Linf("0.05"), attacks=weak, min_accuracy="1%", profile="release", waive={"convergence": "on purpose"}
    )
    assert (plain.verdict, waived.verdict) == ("fail", "pass")


def test_strength_cannot_be_waived_for_there_is_always_more_attack():
    with pytest.raises(PreflightError, match="'strength' is not a finding that can be waived; use mode, .*black-box"):
        evaluated(waive={"strength": "it is quick"})


@pytest.mark.parametrize("name", WAIVABLE)
def test_every_one_needs_a_reason(name):
    assert checked_waivers({name: "because"}) == {name: "because"}
    for reason in ("", "  ", None, 3):
        with pytest.raises(ValueError, match=f"'{name}' has no reason; say why"):
            checked_waivers({name: reason})


def test_no_waivers():
    assert checked_waivers(None) == checked_waivers({}) == {}
