"""An evaluation against an earlier one: paired by content, or incomparable for a reason that is said."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from pytest_robust import PGD, Linf, Outcomes, compare, curve, evaluate
from pytest_robust.evaluation.result import Health, HealthCheck
from pytest_robust.threats import ThreatSummary

THREAT = ThreatSummary("linf", "8/255", 8 / 255, "input", "[0, 1]")


def outcomes(robust: str = "11110000", clean: str | None = None, ids: str = "abcdefgh", **other: object) -> Outcomes:
    bits = (tuple(bit == "1" for bit in text) for text in (clean or "1" * len(robust), robust))
    facts = {"threat": THREAT, "objective": "untargeted", "seed": 0, "schedule": ("pgd",), "digest": "d"} | other
    return Outcomes(tuple(ids), *bits, **facts)


def counts(change) -> tuple[int, int, int]:
    return change.paired.n, change.paired.newly_broken, change.paired.newly_robust


def test_examples_are_paired_by_content_whatever_their_order():
    old = outcomes("11110000", "11111100")
    new = outcomes("10010010", "10111111", ids="hgfedcba")  # in the order of the old ids: 01001001 and 11111101
    found = compare(old, new, margin="3pt", clean_margin="1.5%", confidence=0.8)
    assert counts(found.robust) == (8, 3, 2)
    assert counts(found.clean) == (8, 0, 1)
    assert (found.robust.margin, found.clean.margin) == (0.03, 0.015)
    assert found.robust.confidence == found.clean.confidence == 0.8


def test_equal_examples_are_paired_in_their_order():
    old = outcomes("110", ids="aab")
    assert counts(compare(old, outcomes("011", ids="baa")).robust) == (3, 0, 0)
    assert counts(compare(old, outcomes("010", ids="baa")).robust) == (3, 1, 0)
    assert counts(compare(outcomes("10", ids="aa"), outcomes("01", ids="aa")).robust) == (2, 1, 1)


def test_a_metric_is_compared_text_by_text():
    values = {"clean": (0.5, 0.5, 1.0), "robust": (0.5, 0.4, 1.0)}
    old = replace(outcomes("111", ids="abc"), **values, metric="ndcg@10")
    new = replace(outcomes("111", ids="cba"), clean=(1.0, 0.5, 0.5), robust=(0.1, 0.4, 0.6), metric="ndcg@10")
    found = compare(old, new)
    assert counts(found.robust) == (3, 1, 1)
    assert found.robust.paired.drop == pytest.approx((0.9 - 0.1) / 3)
    assert found.clean.paired.drop == 0
    assert compare(old, replace(new, metric="mrr@10")).reasons[0] == "metric differs: ndcg@10 in the baseline, mrr@10 now"
    # How much stays without edits is no question.
    assert compare(replace(old, metric="rbo"), replace(new, metric="rbo")).clean is None


def test_swapping_old_and_new_mirrors_the_change():
    old, new = outcomes("11110000"), outcomes("10100001")
    there, back = compare(old, new).robust, compare(new, old).robust
    assert back.paired.drop == -there.paired.drop
    assert back.interval == tuple(-limit for limit in reversed(there.interval))


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (outcomes(threat=replace(THREAT, norm="l2")), "norm differs: linf in the baseline, l2 now"),
        (outcomes(threat=replace(THREAT, eps="4/255", value=4 / 255)), "eps differs: 8/255 in the baseline, 4/255 now"),
        (outcomes(threat=replace(THREAT, space="embedding")), "space differs: input in the baseline, embedding now"),
        (outcomes(threat=replace(THREAT, bounds="[0, 2]")), "bounds differ: [0, 1] in the baseline, [0, 2] now"),
        (outcomes(objective="targeted at 1"), "objective differs: untargeted in the baseline, targeted at 1 now"),
        (outcomes(seed=1), "seed differs: 0 in the baseline, 1 now"),
        (outcomes(schedule=("pgd(n_steps=5)",)), "attacks differ: pgd in the baseline, pgd(n_steps=5) now"),
        (outcomes(schedule=("pgd", "square")), "attacks differ: no others in the baseline, square now"),
        (outcomes(digest="e"), "no name here: a mask, bounds of single features, the order of the attacks, or the version"),
        (outcomes(digest=None), "what the attacks of the new evaluation were cannot be told"),
        (outcomes("11111", ids="abcxy"), "2 of 5 examples are not in the baseline; 5 of the baseline's 8 examples are not"),
        (outcomes("1" * 9, ids="abcdefghh"), "1 of 9 examples are not in the baseline"),
        (outcomes("1" * 8, ids="abcdefgg"), "1 of 8 examples are not in the baseline; 1 of the baseline's 8 examples"),
    ],
)  # fmt: skip
def test_what_is_not_the_same_is_named_and_nothing_is_compared(new, reason):
    """Even where all that was robust is broken."""
    found = compare(outcomes("1" * 8), replace(new, robust=(False,) * len(new.ids)))
    assert found.verdict == "incomparable"
    assert reason in str(found)
    assert found.changes == ()


def test_two_differences_are_both_named():
    found = compare(outcomes(), outcomes(seed=1, objective="targeted at 1", digest="e"))
    assert len(found.reasons) == 2


def test_of_attacks_that_cannot_be_told_nothing_is_compared_on_either_side():
    for old, new in ((None, None), (None, "d"), ("d", None)):
        found = compare(outcomes(digest=old), outcomes(digest=new))
        assert found.verdict == "incomparable"


def test_without_a_baseline_it_is_new_and_without_a_result_missing():
    assert compare(None, outcomes()).verdict == "new"
    assert compare(outcomes(), None).verdict == "missing"
    with pytest.raises(ValueError, match="there is nothing to compare"):
        compare(None, None)


def test_an_early_decision_is_not_compared_but_its_clean_accuracy_is():
    """The bits of the undecided are a bound: as broken they would regress, as robust they would hide a drop."""
    ids = "".join(map(chr, range(1000, 2000)))
    full = outcomes("1" * 1000, ids=ids)
    early = replace(full, undecided=7)
    for old, new, whose in ((full, early, "the new evaluation"), (early, full, "the baseline")):
        found = compare(old, new)
        assert found.verdict == "incomparable"
        assert found.robust is None
        assert found.clean.verdict == "pass"
        assert f"the attacks of {whose} did not decide 7 of 1000 examples; use stop_early=False" in str(found)
    worse = replace(early, clean=(False,) * 50 + (True,) * 950)
    assert compare(full, worse).verdict == "regressed"


def test_a_doubtful_evaluation_does_not_pass_but_what_it_broke_stays_broken():
    ids = "".join(map(chr, range(1000, 2000)))
    full = outcomes("1" * 1000, ids=ids)
    broken = replace(full, robust=(False,) * 100 + (True,) * 900)
    assert compare(full, full).verdict == "pass"
    masked = compare(full, replace(full, doubt="slope: masked"))
    assert masked.verdict == "incomparable"
    assert "robust accuracy of the new evaluation is no evidence: slope: masked" in str(masked)
    assert compare(full, replace(broken, doubt="slope: masked")).verdict == "regressed"
    assert compare(replace(full, doubt="slope: masked"), broken).verdict == "incomparable"


@pytest.mark.parametrize("name", ["margin", "clean_margin"])
@pytest.mark.parametrize(
    ("wrong", "hint"), [(2, "did you mean '2pt'"), (0, "above 0"), (-0.1, "between 0 and 1"), ("x", "is not a")]
)
def test_a_margin_that_cannot_be_used_is_refused(name, wrong, hint):
    with pytest.raises(ValueError, match=hint):
        compare(outcomes(), outcomes(), **{name: wrong})


def test_a_confidence_that_cannot_be_used_is_refused():
    with pytest.raises(ValueError, match="did you mean 0.9"):
        compare(outcomes(), outcomes(), confidence=0.1)


def test_outcomes_have_one_bit_per_example():
    with pytest.raises(ValueError, match="got 8 ids, 3 clean, 3 robust"):
        outcomes("111")
    with pytest.raises(ValueError, match="at least one"):
        outcomes("", ids="")


def line(shift: float):
    """Two classes on a line, and where the model has the border between them."""
    return lambda x: torch.cat([0.5 + shift - x, x - 0.5 - shift], 1)


X = torch.linspace(0, 1, 400).unsqueeze(1)
DATA = X, (X[:, 0] > 0.5).long()
EPS = Linf("0.1")


@pytest.fixture(scope="module")
def baseline():
    return evaluate(line(0), DATA, EPS)


def test_a_border_that_moved_is_found_with_its_examples(baseline):
    """12 of 400 points lie between the two borders."""
    moved = evaluate(line(0.03), DATA, EPS)
    found = compare(baseline, moved)
    for change, old, new in ((found.robust, baseline.robust, moved.robust), (found.clean, baseline.correct, moved.correct)):
        assert counts(change) == (400, (old & ~new).sum(), (~old & new).sum())
    assert found.robust.paired.newly_broken == found.clean.paired.newly_broken == 12
    assert found.verdict == found.clean.verdict == "regressed"
    assert compare(Outcomes.of(baseline), Outcomes.of(moved)) == found
    assert compare(baseline, evaluate(line(0), tuple(part.flip(0) for part in DATA), EPS)).verdict == "pass"


@pytest.mark.parametrize(
    "options", [{"min_accuracy": 0.5}, {"min_accuracy": 0.99}, {"min_accuracy": 0.3, "confidence": 0.9}]
)
def test_an_evaluation_that_stopped_early_is_not_compared(baseline, options):
    early = evaluate(line(0), DATA, EPS, **options)
    assert early.bound != "exact"
    assert compare(baseline, early).verdict == compare(early, baseline).verdict == "incomparable"
    # The way out, taken.
    assert compare(baseline, evaluate(line(0), DATA, EPS, stop_early=False, **options)).verdict == "pass"


def test_parameters_of_attacks_count_not_their_names_alone(baseline):
    one, other = (evaluate(line(0), DATA, EPS, attacks=PGD(n_steps=n)) for n in (5, 6))
    assert one.attacks == other.attacks
    assert "pgd(n_steps=5) in the baseline, pgd(n_steps=6) now" in str(compare(one, other))
    assert compare(one, one).verdict == "pass"


def test_what_ran_beyond_the_schedule_is_a_finding_and_no_other_schedule():
    """Whether a search without gradients is let loose depends on the model; what was asked for does not."""

    def rounded(x):
        score = 1e-3 * x[:, :1] + (255 * x[:, 1:]).round() / 255 - 0.5
        return torch.cat([-score, score], 1)

    def plain(x):
        return torch.cat([0.5 - x[:, 1:], x[:, 1:] - 0.5], 1)

    data = torch.cat([X.flip(0), X], 1), DATA[1]
    masked, honest = (evaluate(model, data, EPS) for model in (rounded, plain))
    assert masked.attacks != honest.attacks
    assert masked.schedule == honest.schedule


def test_a_waived_finding_is_no_doubt(baseline):
    check = HealthCheck("slope", "invalid", "masked")
    doubted = replace(baseline, health=Health((check,)))
    assert "no evidence: slope: masked" in str(compare(baseline, doubted))
    assert compare(baseline, replace(doubted, health=Health((replace(check, waived="known"),)))).verdict == "pass"


def test_the_verdicts_need_neither_torch_nor_numpy():
    run = "import sys, pytest_robust.regression; sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", run], check=False).returncode == 0


def test_a_numpy_seed_is_the_seed(baseline):
    assert compare(baseline, evaluate(line(0), DATA, EPS, seed=np.int64(0))).verdict == "pass"


def test_floor_profile_and_waivers_are_no_other_attack(baseline):
    """A baseline outlives a floor that was raised; what no text tells, such as a mask, counts all the same."""
    other = evaluate(line(0), DATA, EPS, min_accuracy=0.9, stop_early=False, waive={"chance": "a reason"})
    assert compare(baseline, other).verdict == "pass"
    release = evaluate(line(0), DATA, EPS, profile="release", attacks="pgd-margin")
    assert compare(evaluate(line(0), DATA, EPS, attacks="pgd-margin"), release).unlike is None
    masked = evaluate(line(0), DATA, Linf("0.1", mask=torch.ones(1)), attacks="pgd-margin")
    assert "a mask" in str(compare(release, masked))
    assert compare(baseline, evaluate(line(0), DATA, EPS, autocast=True)).verdict == "incomparable"


class Corpus:
    """Remembers nothing but one point, for each example."""

    def finished(self, key):
        return None

    progress = finished

    def finish(self, *kept):
        pass

    keep = finish

    def known(self, norm, space, ids):
        return {name: [torch.full((1,), 0.3)] for name in ids}


def test_what_earlier_runs_add_belongs_to_neither_side():
    """Points found for another model are one more attack: a baseline that faced it is lower, and a worse model may pass."""

    def spiked(x):
        """At 0.3 it is wrong, which no search finds."""
        return line(0)(x) * (1 - 2 * ((x - 0.3).abs() < 1e-6).float())

    alone = evaluate(spiked, DATA, EPS)
    last, first = (evaluate(spiked, DATA, EPS, memory=Corpus(), replay=when) for when in ("last", "first"))
    assert alone.accuracy.k - last.accuracy.k == last.broken_by.count("replay") == 80
    # Tried first, it breaks some that the attacks would have broken as well.
    assert first.broken_by.count("replay") == 120
    assert Outcomes.of(last) == Outcomes.of(alone)
    for old, new, whose in ((first, alone, "the baseline"), (alone, first, "the new evaluation")):
        found = compare(old, new)
        assert found.verdict == "incomparable"
        assert f"the attacks of {whose} did not decide 120 of 400 examples; use" in str(found)
        assert "replay='last'" in str(found)


def test_what_makes_attacks_stronger_or_weaker_belongs_to_them(baseline):
    """Whether the mean of random gradients is taken, over how many draws, and whether a part has a gradient at all."""

    class Stepped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps = torch.nn.Hardtanh()

        def forward(self, x):
            return line(0)(self.steps(x))

    attacked = partial(evaluate, Stepped(), DATA, EPS, attacks="fgsm")
    plain = attacked()
    some, more = (attacked(draws=n) for n in (2, 3))
    assert "attacks differ: draws=2 in the baseline, draws=3 now" in str(compare(some, more))
    assert "attacks differ: no others in the baseline, draws=2 now" in str(compare(plain, some))
    smoothed = attacked(non_differentiable=["steps"])
    assert "attacks differ: no others in the baseline, non_differentiable=steps now" in str(compare(plain, smoothed))


def test_a_point_of_a_curve_is_no_evaluation_of_its_budget_alone(baseline):
    point = curve(line(0), DATA, EPS, budgets=["0.1"]).at("0.1")
    assert "it is a point of a curve" in str(compare(baseline, point))
