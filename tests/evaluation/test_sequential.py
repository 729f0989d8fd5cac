"""Sampling until the answer is clear: the confidence sequence, and evaluations that use it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import betabinom

from pytest_robust import Linf, evaluate
from pytest_robust.errors import EvidenceError
from pytest_robust.evaluation.result import UNDECIDED
from pytest_robust.evaluation.sequential import ConfidenceSequence, Sample
from pytest_robust.models import adapt


@given(st.integers(1, 60), st.data())
def test_the_interval_holds_what_the_ratio_of_prior_and_posterior_keeps(total, data):
    drawn = data.draw(st.integers(0, total))
    successes = data.draw(st.integers(0, drawn))
    least, most = ConfidenceSequence(total, 0.95).interval(successes, drawn)
    for count in range(total + 1):
        prior = betabinom.pmf(count, total, 1, 1)
        rest = betabinom.pmf(count - successes, total - drawn, 1 + successes, 1 + drawn - successes)
        assert (least <= count <= most) == (rest > 0 and prior / rest < 20)


@pytest.mark.parametrize("confidence", [0.6, 0.99, 1 - 1e-9])
def test_nothing_drawn_says_nothing_and_everything_drawn_all(confidence):
    sequence = ConfidenceSequence(40, confidence)
    assert sequence.interval(0, 0) == (0, 40)
    assert sequence.interval(13, 40) == (13, 13)


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="5 successes among 4 of 10 cannot be"):
        ConfidenceSequence(10, 0.9).interval(5, 4)


@pytest.mark.parametrize("needed", [30, 75, 100])
@pytest.mark.parametrize("robust_is_enough", [False, True])
def test_the_wrong_side_is_believed_no_more_often_than_the_confidence_allows(needed, robust_is_enough):
    """The worst case: the truth is one example off the floor, and one looks after every example drawn."""
    total, confidence, repeats = 120, 0.9, 1500
    truth = needed if robust_is_enough else needed - 1
    sequence, rng = ConfidenceSequence(total, confidence), np.random.default_rng(needed)
    spans = {(s, d): sequence.interval(s, d) for d in range(total + 1) for s in range(d + 1) if s <= truth <= total - d + s}
    wrong = 0
    for _ in range(repeats):
        drawn = np.cumsum(rng.permutation(np.arange(total) < truth))
        for size, successes in enumerate(drawn, 1):
            least, most = spans[int(successes), size]
            if least >= needed or most < needed:
                wrong += (least >= needed) != robust_is_enough
                break
    assert wrong / repeats < 0.1 + 3 * math.sqrt(0.09 / repeats)
    assert wrong > 0, "a sequence that is never wrong draws too many"


@pytest.mark.parametrize(("clean", "robust", "floor"), [(10_000, 6_000, 0.5), (9_000, 4_000, 0.5), (9_500, 8_000, 0.9)])
def test_ten_points_from_the_floor_one_in_twenty_of_ten_thousand_is_enough(clean, robust, floor):
    sequence, rng, sizes = ConfidenceSequence(clean, 0.99), np.random.default_rng(0), []
    for _ in range(40):
        drawn = np.cumsum(rng.permutation(np.arange(clean) < robust))
        for size in range(78, clean + 1, 78):
            least, most = sequence.interval(int(drawn[size - 1]), size)
            if least >= floor * 10_000 or most < floor * 10_000:
                sizes.append(size)
                break
    assert np.mean(sizes) <= 500


def test_an_estimate_lies_within_its_interval():
    assert Sample(drawn=10, survived=9, total=100, confidence=0.9, least=40, most=80).estimate == 80
    assert Sample(drawn=10, survived=5, total=100, confidence=0.9, least=40, most=80).estimate == 50


N, EPS = 3000, 0.25


@pytest.fixture(scope="module")
def line():
    """Points of [0, 1], class 1 from 0.5 on, of which about half lie within EPS of the boundary; some labels are wrong."""
    x = torch.rand(N, 1, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0.5).long()
    y[::17] = 1 - y[::17]
    robust = ((x[:, 0] - 0.5).abs() > EPS) & (y == (x[:, 0] > 0.5))
    return (lambda t: torch.cat([0.5 - t, t - 0.5], 1)), (x, y), int(robust.sum())


@pytest.mark.parametrize(("away", "verdict"), [(-0.1, "pass"), (0.1, "fail")])
def test_a_sample_decides_and_says_what_it_rests_on(line, away, verdict):
    model, data, robust = line
    full = evaluate(model, data, Linf(EPS))
    assert full.accuracy.k == robust
    result = evaluate(model, data, Linf(EPS), min_accuracy=robust / N + away, confidence=0.99)
    assert (result.bound, result.verdict) == ("sampled", verdict)
    assert result.health.level == "trusted"
    assert int(result.passes.sum()) < 0.2 * int(full.passes.sum())
    sample = result.sample
    assert sample is not None
    assert sample.total == int(full.correct.sum())
    assert sample.least <= robust <= sample.most
    assert sample.drawn == N - result.broken_by.count(UNDECIDED) - int((~result.correct).sum())
    assert sample.survived == result.broken_by.count(None)
    drawn = [i for i, by in enumerate(result.broken_by) if by != UNDECIDED]
    assert [result.broken_by[i] for i in drawn] == [full.broken_by[i] for i in drawn]


def test_comparisons_are_answered_by_the_interval_of_the_sample(line):
    model, data, robust = line
    result = evaluate(model, data, Linf(EPS), min_accuracy=robust / N - 0.1, confidence=0.99)
    assert result.accuracy >= robust / N - 0.1
    assert result.accuracy < 0.95
    with pytest.raises(EvidenceError, match="not decided"):
        bool(result.accuracy >= robust / N)
    assert f"99% sure of {100 * result.sample.least / N:.1f}-" in result.accuracy.describe()
    assert f"from {result.sample.drawn} drawn" in result.accuracy.describe()


def test_who_is_drawn_depends_neither_on_the_batch_nor_on_the_order(line):
    model, (x, y), robust = line
    floor = robust / N + 0.07
    turned = torch.arange(N - 1, -1, -1)
    one, other, back = (
        evaluate(model, data, Linf(EPS), min_accuracy=floor, confidence=0.95, batch_size=size)
        for data, size in (((x, y), 7), ((x, y), 500), ((x[turned], y[turned]), 64))
    )
    assert one.broken_by == other.broken_by == back.broken_by[::-1]
    assert one.sample == other.sample == back.sample


def test_a_floor_at_the_truth_is_decided_by_the_count(line):
    model, (x, y), _ = line
    data = x[:300], y[:300]
    k = evaluate(model, data, Linf(EPS)).accuracy.k
    for floor, verdict in ((k, "pass"), (k + 1, "fail")):
        result = evaluate(model, data, Linf(EPS), min_accuracy=floor / 300, confidence=0.999)
        assert result.bound != "sampled"
        assert result.sample is None
        assert result.verdict == verdict


def test_the_release_profile_draws_no_sample(line):
    model, (x, y), _ = line
    result = evaluate(model, (x[:200], y[:200]), Linf(EPS), min_accuracy=0.1, confidence=0.9, profile="release")
    assert result.bound == "exact"
    assert any("the release profile decides every example" in note for note in result.notes)


def test_a_confidence_needs_a_floor_and_lies_in_its_range(line):
    model, data, _ = line
    with pytest.raises(ValueError, match="it needs a floor; give min_accuracy"):
        evaluate(model, data, Linf(EPS), confidence=0.99)
    for wrong, meant in ((0.01, "0.99"), (99, "0.99"), ("5%", "0.95")):
        with pytest.raises(ValueError, match=f"between 0.5 and 1, got .*; did you mean {meant}"):
            evaluate(model, data, Linf(EPS), min_accuracy=0.5, confidence=wrong)
    with pytest.raises(ValueError, match="between 0.5 and 1"):
        evaluate(model, data, Linf(EPS), min_accuracy=0.5, confidence=1)


class Rounded(torch.nn.Module):
    """Gradients of the second feature are cut off, and only it can break anything."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = x[:, :1] * 1e-3 + (x[:, 1:] * 255).round() / 255 - 0.5
        return torch.cat([-score, score], 1)


def test_a_pass_of_a_sample_is_probed_like_any_other():
    x = torch.rand(2000, 2, generator=torch.Generator().manual_seed(1))
    model = adapt(Rounded().eval())
    y = model.logits(x, {}).argmax(1)
    result = evaluate(Rounded().eval(), (x, y), Linf(EPS), min_accuracy=0.9, confidence=0.99)
    assert result.verdict == "fail"
