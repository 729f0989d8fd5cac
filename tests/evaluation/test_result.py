"""What a result says of one class and of its bounds."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_robust import EvidenceError, Linf, evaluate

EPS = Linf("0.08")


@pytest.mark.parametrize("floor", ["95%", "5%"])
def test_one_class_is_unknown_after_an_early_decision(trained, data, floor):
    result = evaluate(trained, data, EPS, min_accuracy=floor, batch_size=16)
    assert result.decided < len(result)
    with pytest.raises(LookupError) as caught:
        result.accuracy_of(2)
    assert str(caught.value) == (
        f"robust accuracy of 2 is not known: the verdict was certain after {result.decided} of 150 examples; "
        "leave min_accuracy out, or use profile='release', to decide all of them"
    )
    low, high = result.accuracy.span
    assert high - low == len(result) - result.decided
    assert result.accuracy.k == (high if result.bound == "upper" else low)
    # The way out, taken.
    whole = evaluate(trained, data, EPS, min_accuracy=floor, profile="release", attacks="pgd-margin")
    assert whole.accuracy_of(2).n == (data[1] == 2).sum()
    assert whole.accuracy.span == (whole.accuracy.k,) * 2


def test_a_class_may_be_named_by_an_integer_of_numpy(trained, data):
    result = evaluate(trained, data, EPS, attacks="fgsm")
    for label in np.unique(result.labels):
        assert result.accuracy_of(label) == result.robust[result.labels == label].mean()
    with pytest.raises(LookupError, match="no example has label 9"):
        result.accuracy_of(np.int32(9))


def test_a_class_without_a_name_may_be_named_by_its_number_as_text(trained, data):
    result = evaluate(trained, data, EPS, attacks="fgsm")
    assert result.accuracy_of("3") == result.accuracy_of(3)
    named = evaluate(trained, data, EPS, attacks="fgsm", classes=["a", "b", "c", "d", "e"])
    with pytest.raises(LookupError, match="no class is called '3'; known classes: a, b"):
        named.accuracy_of("3")


def test_an_early_decision_and_an_invalid_evaluation_answer_no_floor_of_the_users_own(trained, data):
    early = evaluate(trained, data, EPS, min_accuracy="95%", batch_size=16)
    assert early.accuracy < 0.95
    with pytest.raises(EvidenceError, match="not decided: robust accuracy"):
        assert early.accuracy >= 0.01 + min(early.accuracy.span) / len(early)
    rounded = evaluate(lambda x: trained((x * 64).round() / 64), data, EPS, waive={"gradient": "on purpose"})
    assert rounded.health.level == "invalid"
    for rate in (rounded.accuracy, rounded.accuracy_of(1)):
        with pytest.raises(EvidenceError, match=f"not evidence: {rounded.health.worst.name}: "):
            assert rate >= 0.01
