"""Counts, early verdicts, memory, failures: what evaluate does around the attacks."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from pytest_robust import APGD, FGSM, PGD, EmbeddingBall, Linf, ModelError, PreflightError, Targeted, ThreatError, evaluate
from pytest_robust.attacks import NAMES
from pytest_robust.evaluation.result import CLEAN, UNDECIDED

EPS = Linf("0.08")


@pytest.fixture(scope="module")
def full(trained, data):
    return evaluate(trained, data, EPS)


def test_the_counts_agree_with_each_other(trained, data, full):
    x, y = data
    with torch.no_grad():
        correct = (trained(x).argmax(1) == y).numpy()
    assert full.correct.tolist() == correct.tolist()
    assert full.clean_accuracy.k == correct.sum()
    assert full.accuracy.k == full.robust.sum() == sum(by is None for by in full.broken_by)
    assert [by == CLEAN for by in full.broken_by] == (~correct).tolist()
    assert set(full.witnesses) == {i for i, by in enumerate(full.broken_by) if by not in (None, CLEAN)}
    assert sum(full.broken_counts().values()) + full.accuracy.k == len(full)
    assert full.verdict == "report"
    assert full.bound == "exact"
    assert full.decided == len(full)
    assert full.health.level == "trusted"


def test_the_cost_is_what_the_model_saw(trained, data):
    seen = {"forward": 0, "backward": 0}

    class Counted(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = trained

        def forward(self, x):
            seen["forward"] += len(x)
            out = self.inner(x)
            if out.requires_grad:
                out.register_hook(lambda grad: seen.__setitem__("backward", seen["backward"] + len(grad)))
            return out

    result = evaluate(Counted().eval(), data, EPS, attacks="pgd-margin")
    assert (result.cost.forward, result.cost.backward) == (seen["forward"], seen["backward"])
    assert result.cost.seconds > 0
    (stage,) = result.stages
    assert stage.cost.backward <= stage.attacked * 20
    assert stage.broken == len(result.witnesses)


def test_broken_examples_leave_at_once(trained, data):
    """A run costs 20 backward passes where an example survives, fewer where it breaks."""
    result = evaluate(trained, data, EPS, attacks="pgd-margin", batch_size=16)
    survivors, (stage,) = result.accuracy.k, result.stages
    assert stage.broken > 10
    assert stage.cost.backward < 20 * survivors + 8 * stage.broken


def test_later_attacks_see_only_survivors(full):
    for before, after in pairwise(full.stages):
        assert after.attacked == before.attacked - before.broken


@pytest.mark.parametrize(("floor", "bound", "verdict"), [("95%", "upper", "fail"), ("5%", "lower", "pass")])
def test_a_certain_verdict_stops_early_and_says_so(trained, data, full, floor, bound, verdict):
    result = evaluate(trained, data, EPS, min_accuracy=floor, batch_size=16)
    assert (result.bound, result.verdict) == (bound, verdict)
    assert result.health.level == "trusted"
    assert result.decided < len(result)
    assert UNDECIDED in result.broken_by
    assert result.cost.forward < full.cost.forward
    accuracy, truth = float(result.accuracy), float(full.accuracy)
    assert accuracy >= truth if bound == "upper" else accuracy <= truth


@pytest.mark.parametrize(("floor", "bound"), [("90%", "upper"), ("20%", "lower")])
def test_what_an_early_verdict_counts_does_not_depend_on_the_batch(trained, data, floor, bound):
    small, large = (evaluate(trained, data, EPS, min_accuracy=floor, batch_size=size) for size in (5, 64))
    assert small.bound == large.bound == bound
    assert small.broken_by == large.broken_by
    assert small.accuracy.k == large.accuracy.k


def test_a_floor_of_zero_needs_no_attack_and_says_so(trained, data):
    result = evaluate(trained, data, EPS, min_accuracy=0)
    assert result.verdict == "pass"
    assert not result.stages
    assert any("no attack was run" in check.detail for check in result.health.checks)


def test_the_release_profile_never_stops_early(trained, data):
    result = evaluate(trained, data, EPS, min_accuracy="99%", profile="release", n=40)
    assert result.bound == "exact"
    assert result.verdict == "fail"
    assert UNDECIDED not in result.broken_by


def test_floors_are_exact_counts(trained, data, full):
    k, n = full.accuracy.k, full.accuracy.n
    assert evaluate(trained, data, EPS, min_accuracy=Fraction(k, n)).verdict == "pass"
    assert evaluate(trained, data, EPS, min_accuracy=Fraction(k + 1, n)).verdict == "fail"


def test_smoke_says_that_it_is_no_evidence(trained, data):
    result = evaluate(trained, data, EPS, profile="smoke")
    assert len(result) == 100
    assert any("no evidence" in note for note in result.notes)
    assert any("100 of 150" in note for note in result.notes)


def test_n_takes_a_subset_with_the_same_outcomes(trained, data, full):
    result = evaluate(trained, data, EPS, n=60)
    outcomes = dict(zip(full.ids, full.robust.tolist(), strict=True))
    assert len(result) == 60
    assert result.robust.tolist() == [outcomes[i] for i in result.ids]


OTHERWISE = {"sweep", "jsma", "vat", "noise", "hopskipjump", "hotflip", "edit-search", "relaxed-pgd", "simplex-pgd", "gcg"}
"""For threats of few numbers, for counted features, without labels, by chance, by decisions, for texts: see there."""


@pytest.mark.parametrize("name", [name for name in NAMES if name not in OTHERWISE])
def test_every_named_attack_breaks_something_and_no_attack_beats_the_schedule(trained, data, full, name):
    result = evaluate(trained, data, EPS, attacks=name)
    assert result.accuracy < result.clean_accuracy - 0.1
    assert result.accuracy >= full.accuracy - 0.02
    assert set(result.broken_by) <= {None, CLEAN, name}


def test_attacks_can_be_objects_and_restarts_help_or_do_nothing(trained, data):
    one, five = (evaluate(trained, data, EPS, attacks=[PGD(n_steps=10, n_restarts=n)]).robust.tolist() for n in (1, 5))
    assert all(not late or early for early, late in zip(one, five, strict=True))


def test_targeted_breaks_reach_the_target(trained, data):
    result = evaluate(trained, data, Linf("0.2"), objective=Targeted(2))
    _, y = data
    assert len(result) == (y != 2).sum()
    assert 2 not in result.labels
    assert any("left out" in note for note in result.notes)
    assert len(result.witnesses) > 20
    assert all(trained(result.adversarial(i)[None]).argmax() == 2 for i in result.witnesses)
    with pytest.raises(PreflightError, match="nothing to attack"):
        evaluate(trained, (data[0][y == 2], y[y == 2]), EPS, objective=Targeted(2))
    with pytest.raises(PreflightError, match="classes 0 to 4"):
        evaluate(trained, data, EPS, objective=Targeted(7))


def test_broken_needs_a_single_weak_example(trained, data):
    """A backdoor in one corner of one example's ball is found."""
    x, y = data
    result = evaluate(trained, data, Linf("0.001"))
    i = int(result.robust.argmax())

    class Backdoored(nn.Module):
        def forward(self, z):
            near = (z - x[i]).abs().amax(1) < 0.05
            pull = (z[:, 0] - x[i, 0]) * near * 1e6
            out = trained(z)
            return torch.cat([out[:, :4], out[:, 4:] + pull[:, None]], 1) if y[i] != 4 else out - pull[:, None]

    if y[i] != 4:
        broken = evaluate(Backdoored(), data, Linf("0.001"))
        assert broken.robust.tolist() == [r and j != i for j, r in enumerate(result.robust.tolist())]


def test_accuracy_by_class(trained, data):
    result = evaluate(trained, data, EPS, classes=["a", "b", "c", "d", "e"])
    here = data[1].numpy() == 2
    assert result.accuracy_of("c") == result.robust[here].mean() == result.accuracy_of(2)
    with pytest.raises(LookupError, match="known classes: a, b"):
        result.accuracy_of("cat")


def test_adversarial_of_a_survivor_says_why_there_is_none(full):
    with pytest.raises(LookupError, match="survived"):
        full.adversarial(int(full.robust.argmax()))
    with pytest.raises(LookupError, match="wrong on it without attack"):
        full.adversarial(full.broken_by.index(CLEAN))


class Hungry(nn.Module):
    """Runs out of memory on more than ``limit`` examples."""

    def __init__(self, inner: nn.Module, limit: int) -> None:
        super().__init__()
        self.inner, self.limit = inner, limit

    def forward(self, x):
        if len(x) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than there is")
        return self.inner(x)


@pytest.mark.parametrize("limit", [1, 5])
def test_out_of_memory_halves_the_batch_and_changes_nothing(trained, data, full, limit):
    result = evaluate(Hungry(trained, limit).eval(), data, EPS)
    assert result.robust.tolist() == full.robust.tolist()
    assert result.cost.forward == full.cost.forward


def test_out_of_memory_on_a_single_example_is_an_error(trained, data):
    with pytest.raises((ModelError, torch.OutOfMemoryError), match="memory"):
        evaluate(Hungry(trained, 0).eval(), data, EPS)


def test_progress_counts_up(trained, data):
    seen = []
    result = evaluate(trained, data, EPS, progress=seen.append, name="my check")
    assert {p.name for p in seen} == {"my check"}
    assert [p.attack for p in seen] == sorted((p.attack for p in seen), key=result.attacks.index)
    assert all(a.decided <= b.decided and a.accuracy >= b.accuracy for a, b in pairwise(seen))
    assert seen[-1].total == 150
    assert len(seen) > 20


@pytest.mark.parametrize(
    ("options", "needle"),
    [
        ({"profile": "hard"}, "smoke, standard, release"),
        ({"attacks": "pgdd"}, "known: fgsm"),
        ({"attacks": []}, "at least one"),
        ({"attacks": [PGD(), PGD(n_steps=3)]}, "same name"),
        ({"min_accuracy": 40}, "did you mean"),
        ({"n": 0}, "at least 1"),
        ({"n": 0.5}, r"n must be a whole number, at least 1, got 0\.5"),
        ({"batch_size": 0}, "at least 1"),
        ({"batch_size": 2.5}, r"batch_size must be a whole number, at least 1, got 2\.5"),
    ],
)
def test_bad_arguments_are_refused_before_any_work(trained, data, options, needle):
    with pytest.raises(ValueError, match=needle):
        evaluate(trained, data, EPS, **options)


def test_a_threat_for_texts_is_refused_for_tensors(trained, data):
    with pytest.raises(ThreatError, match="use Linf"):
        evaluate(trained, data, EmbeddingBall(0.1))


def test_one_step_alone_is_called_weak(trained, data):
    result = evaluate(trained, data, EPS, attacks=[FGSM()], min_accuracy=0.05)
    assert result.verdict == "pass"
    assert result.health.level == "suspicious"
    assert result.health.worst is not None
    assert result.health.worst.name == "strength"
    assert evaluate(trained, data, EPS, attacks=[APGD()], n=20).health.level == "trusted"


def test_results_are_plain_arrays_in_data_order(full):
    assert full.robust.dtype == np.bool_
    assert full.predicted.dtype == np.int64
    assert len(full.ids) == len(set(full.ids)) == 150
