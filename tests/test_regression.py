"""Regression verdicts: the interval against its definition, what the verdicts cost and catch, and many at once."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binom, binomtest, norm, t

from pytest_robust.regression import VERDICTS, Change, Comparison, Paired, PairedMeans, corrected, holm

Z = norm.ppf(0.95)


@st.composite
def paired(draw, most=400):
    n = draw(st.integers(1, most))
    b = draw(st.integers(0, n))
    return Paired(n, b, draw(st.integers(0, n - b)))


def likeliest(pair: Paired, drop: float) -> float:
    """The rate of "newly robust" that makes the counts likeliest where the difference of the rates is ``drop``."""
    b, c, n = pair.newly_broken, pair.newly_robust, pair.n

    def unlikely(q):
        rates = np.array([q + drop, q, 1 - 2 * q - drop])
        return -sum(k * math.log(max(p, 1e-300)) for k, p in zip((b, c, n - b - c), rates, strict=True) if k)

    return minimize_scalar(unlikely, bounds=(max(0, -drop), (1 - drop) / 2), method="bounded", options={"xatol": 1e-13}).x


@given(paired(60))
def test_the_interval_inverts_the_score_of_the_constrained_likelihood(pair):
    """Tango's definition, with a numerical maximum in place of the closed form."""
    for limit, side in zip(pair.interval(0.90), (1, -1), strict=True):
        if abs(limit) < 1:
            q = likeliest(pair, limit)
            error = math.sqrt((2 * q + limit - limit**2) / pair.n)
            assert (pair.drop - limit) / error == pytest.approx(side * Z, rel=1e-3)


@pytest.mark.parametrize("n", [1, 10, 10**6])
def test_the_limits_without_a_change_and_where_all_change_have_a_closed_form(n):
    none, all_ = Paired(n, 0, 0).interval(), Paired(n, n, 0).interval()
    assert none == pytest.approx((-(Z**2) / (n + Z**2), Z**2 / (n + Z**2)))
    assert all_ == pytest.approx(((n - Z**2) / (n + Z**2), 1))
    assert Paired(n, 0, 0).p_value == 0.5


@given(paired(10**6), st.floats(0.01, 0.999))
def test_the_interval_holds_the_drop_and_swapping_mirrors_it(pair, confidence):
    low, high = pair.interval(confidence)
    assert -1 <= low <= pair.drop <= high <= 1
    swapped = Paired(pair.n, pair.newly_robust, pair.newly_broken)
    assert swapped.interval(confidence) == (-high, -low)
    assert swapped.p_value == pytest.approx(1 - pair.p_value)
    wider = pair.interval((1 + confidence) / 2)
    assert wider[0] <= low <= high <= wider[1]


@given(paired(), st.integers(2, 5))
def test_more_examples_of_the_same_kind_make_it_narrower(pair, times):
    more = Paired(times * pair.n, times * pair.newly_broken, times * pair.newly_robust)
    (low, high), (low_of_more, high_of_more) = pair.interval(), more.interval()
    assert low <= low_of_more <= high_of_more <= high
    assert high_of_more - low_of_more < high - low


@given(paired())
def test_the_p_value_and_the_interval_agree(pair):
    for confidence in (0.5, 0.9, 0.99):
        assert (pair.interval(confidence)[0] > 0) == (pair.p_value < (1 - confidence) / 2)


@given(st.integers(0, 200), st.integers(0, 200))
def test_the_p_value_is_close_to_that_of_the_exact_test(b, c):
    """McNemar's exact p-value counts all of the chance of what was seen, the score test about half of it."""
    p, changed = Paired(1000, b, c).p_value, b + c
    if changed:
        exact = binomtest(b, changed, 0.5, alternative="greater").pvalue
        assert exact - 0.5 * binom.pmf(b, changed, 0.5) == pytest.approx(p, abs=0.25 / changed)


@pytest.mark.parametrize("counts", [(0, 0, 0), (10, 6, 5), (10, -1, 5), (10, 5, -1)])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(ValueError, match=f"newly robust of {counts[0]} examples cannot be"):
        Paired(*counts)


@pytest.mark.parametrize("confidence", [0, 1, 90])
def test_an_impossible_confidence_is_refused(confidence):
    with pytest.raises(ValueError, match="between 0 and 1, got .*; 90 % is 0.9"):
        Paired(10, 1, 1).interval(confidence)


@given(paired(), st.floats(0.001, 0.5))
def test_the_verdict_follows_from_the_interval_alone(pair, margin):
    change = Change(pair, margin)
    low, high = change.interval
    assert change.verdict == ("pass" if high < margin else "regressed" if low > 0 else "inconclusive")


REPEATS = 3000


VALUE = st.integers(0, 1000).map(lambda value: value / 1000)
VALUES = st.lists(st.tuples(VALUE, VALUE), min_size=1, max_size=60)


@given(VALUES.filter(lambda pairs: len(pairs) > 3), st.floats(0.5, 0.95))
def test_limits_of_means_are_those_of_student_with_one_text_more(pairs, confidence):
    """The text gained all for the lower limit, and lost all for the upper one; quantiles are those of scipy, nearly."""
    found = PairedMeans.of(pairs)
    falls = [old - new for old, new in pairs]
    far = t.ppf((1 + confidence) / 2, len(falls))
    for limit, side, more in zip(found.interval(confidence), (-1, 1), (-1.0, 1.0), strict=True):
        with_it = np.array([*falls, more])
        error = with_it.std(ddof=1) / math.sqrt(len(with_it))
        exact = max(-1.0, min(1.0, with_it.mean() + side * far * error))
        assert limit == pytest.approx(exact, abs=0.01 * far * error + 1e-6)


@given(VALUES)
def test_of_means_the_p_value_and_the_lower_limit_agree(pairs):
    found = PairedMeans.of(pairs)
    low, p = found.interval(0.90)[0], found.p_value
    assert (low > 0) == (p < 0.05) or p == pytest.approx(0.05, rel=1e-6)


@given(st.integers(1, 10**5))
def test_means_that_do_not_change_rule_out_no_more_than_as_many_examples_do(n):
    low, high = PairedMeans(n, 0, 0, 0.0, 0.0).interval()
    assert low == -high
    assert high >= 0.97 * Paired(n, 0, 0).interval()[1]


@given(VALUES, st.floats(0.5, 0.99))
def test_swapping_old_and_new_mirrors_the_interval_of_means(pairs, confidence):
    there, back = (PairedMeans.of(p).interval(confidence) for p in (pairs, [pair[::-1] for pair in pairs]))
    assert back == pytest.approx((-there[1], -there[0]))


@pytest.mark.parametrize("margin", [0.9, 0.3, 0.1, 0.02, 0.001])
def test_without_any_change_of_means_the_number_that_decides_passes(margin):
    few = PairedMeans(2, 0, 0, 0.0, 0.0)
    n = Change(few, margin).deciding
    assert Change(PairedMeans(n, 0, 0, 0.0, 0.0), margin).verdict == "pass"
    assert n == 1 or Change(PairedMeans(n * 9 // 10, 0, 0, 0.0, 0.0), margin).verdict == "inconclusive"


def test_falls_that_are_next_to_nothing_are_no_regression():
    for n in (4, 10, 40, 100, 200):
        assert Change(PairedMeans.of([(0.9, 0.8999)] * n), 0.02).verdict != "regressed"


def test_many_small_falls_and_rare_rises_are_no_drop():
    random = np.random.default_rng(2)
    for n in (3, 10, 40):
        falls = np.where(random.random((2000, n)) < 0.05, -0.95, 0.05)
        regressed = [PairedMeans.of([(max(f, 0), max(-f, 0)) for f in row]).interval()[0] > 0 for row in falls]
        assert np.mean(regressed) <= 0.05 + slack(0.05)


@pytest.mark.parametrize("drop", [0.0, 0.02])
def test_means_miss_the_drop_in_one_of_twenty_runs_at_most(drop):
    """Most texts keep their value; some lose or gain a little, and a few all."""
    random = np.random.default_rng(5)
    runs, n = 4000, 120
    kind = random.choice(3, (runs, n), p=(0.8, 0.17, 0.03))
    falls = np.where(kind == 1, random.uniform(-0.3, 0.3, (runs, n)), 0) + (kind == 2) * random.choice((-1, 1), (runs, n))
    # Some more that lose half of all they have.
    falls = np.where((kind == 0) & (random.random((runs, n)) < drop / 0.5 / 0.8), 0.5, falls)
    found = [PairedMeans.of([(max(fall, 0), max(-fall, 0)) for fall in row]).interval() for row in falls]
    above, below = (np.mean([low > drop for low, _ in found]), np.mean([high < drop for _, high in found]))
    assert max(above, below) <= 0.05 + slack(0.05)
    assert min(above, below) >= 0.003, "no wider than they have to be"


def test_figures_of_means_that_cannot_be_are_refused():
    for wrong in ((0, 0, 0, 0.0, 0.0), (2, 2, 1, 0.1, 0.5), (2, 1, 0, 0.9, 0.1), (2, 1, 1, 0.0, 1.5)):
        with pytest.raises(ValueError, match="cannot be"):
            PairedMeans(*wrong)
    with pytest.raises(ValueError, match="confidence lies between 0 and 1"):
        PairedMeans(2, 0, 0, 0.0, 0.0).interval(90)


@functools.cache
def judged(n: int, b: int, c: int) -> tuple[str, float]:
    """At a margin of 2 points: the verdict, and the upper limit."""
    change = Change(Paired(n, b, c), 0.02)
    return change.verdict, change.interval[1]


def simulated(n: int, flips: float, drop: float) -> dict[str, float]:
    """How often each verdict is given, and how often the upper limit is not below the drop."""
    rates = [(flips + drop) / 2, (flips - drop) / 2, 1 - flips]
    counts = np.random.default_rng(n).multinomial(n, rates, REPEATS)[:, :2]
    unique, times = np.unique(counts, axis=0, return_counts=True)
    found = [(judged(n, int(b), int(c)), int(k)) for b, c, k in zip(*unique.T, times, strict=True)]
    shares = {name: sum(k for (v, _), k in found if v == name) / REPEATS for name in VERDICTS}
    return shares | {"covered": sum(k for (_, high), k in found if high >= drop) / REPEATS}


def slack(p: float) -> float:
    """Four standard errors of a simulated share, and the rounding of the table."""
    return 4 * math.sqrt(p * (1 - p) / REPEATS) + 0.005


@pytest.mark.parametrize(
    ("n", "flips", "drop", "passes", "regresses"),
    [
        (200, 0.04, 0, 0.37, 0.05), (200, 0.04, 0.02, 0.05, 0.42), (200, 0.04, 0.03, 0.01, 0.74),
        (500, 0.10, 0, 0.40, 0.05), (500, 0.10, 0.01, 0.17, 0.17), (500, 0.10, 0.02, 0.05, 0.41),
        (500, 0.10, 0.05, 0, 0.97),
        (1000, 0.04, 0, 0.92, 0.05), (1000, 0.04, 0.01, 0.45, 0.46), (1000, 0.04, 0.02, 0.05, 0.94),
        (1000, 0.04, 0.03, 0, 1),
        (2000, 0.10, 0, 0.88, 0.05), (2000, 0.10, 0.02, 0.05, 0.88), (2000, 0.10, 0.05, 0, 1),
    ],
)  # fmt: skip
def test_how_often_each_verdict_is_given(n, flips, drop, passes, regresses):
    """Without a drop one in twenty regresses at most, at a drop of the margin one in twenty passes."""
    shares = simulated(n, flips, drop)
    assert shares["pass"] == pytest.approx(passes, abs=slack(max(passes, 0.01)))
    assert shares["regressed"] == pytest.approx(regresses, abs=slack(min(max(regresses, 0.01), 0.99)))
    assert 0.94 - slack(0.05) < shares["covered"] < 0.96 + slack(0.05)


@pytest.mark.parametrize("flips", [0.04, 0.10])
def test_the_number_of_examples_that_decides_lets_four_of_five_pass(flips):
    seen = Change(Paired(100, round(50 * flips), round(50 * flips)), 0.02)
    assert seen.deciding == math.floor(6.18255 * flips / 0.02**2) + 1
    # The formula is that of large samples.
    assert simulated(seen.deciding, flips, 0)["pass"] == pytest.approx(0.8, abs=slack(0.8) + 0.02)


@given(st.floats(0.005, 0.3))
def test_without_any_flip_the_number_that_decides_is_the_least_that_passes(margin):
    n = Change(Paired(10, 0, 0), margin).deciding
    assert Change(Paired(n, 0, 0), margin).verdict == "pass"
    assert Change(Paired(n - 1, 0, 0), margin).verdict == "inconclusive"


def test_holm_rejects_step_by_step():
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert holm([0.013, 0.04, 0.012, 0.02], 0.05) == [True, True, True, True]
    assert holm([0.04, 0.013]) == [True, True]
    assert holm([0.04, 0.026]) == [False, False]
    assert holm([0.05]) == [True]
    assert holm([]) == []
    for wrong in ([1.1], [math.nan]):
        with pytest.raises(ValueError, match="lie in"):
            holm(wrong)
    with pytest.raises(ValueError, match=r"alpha in \(0, 1\), got 5"):
        holm([0.1], 5)


BAD, SLIGHT, SAME = (Change(Paired(1000, b, 10), 0.02) for b in (60, 26, 10))


def test_among_many_checks_a_slight_drop_may_be_chance():
    assert [change.verdict for change in (BAD, SLIGHT, SAME)] == ["regressed", "regressed", "pass"]
    family = [Comparison(BAD, SAME), Comparison(SLIGHT, SAME), *[Comparison(SAME, SAME)] * 8]
    verdicts = [one.verdict for one in corrected(family)]
    assert verdicts == ["regressed", "inconclusive", *["pass"] * 8]
    assert corrected(family)[1].robust == Change(SLIGHT.paired, 0.02, by_chance=True)
    assert "among so many comparisons that may be chance" in str(corrected(family)[1])
    # Alone it is none, and what cannot be compared is no test.
    assert [one.verdict for one in corrected([Comparison(SLIGHT)])] == ["regressed"]
    alone = corrected([Comparison(unlike="new"), Comparison(SLIGHT), Comparison(unlike="incomparable")])
    assert [one.verdict for one in alone] == ["new", "regressed", "incomparable"]


@pytest.mark.parametrize("checks", [1, 5, 20])
def test_a_family_of_unchanged_checks_regresses_in_one_of_twenty_runs_at_most(checks):
    rng, runs = np.random.default_rng(checks), 400
    wrong = 0
    for _ in range(runs):
        counts = rng.multinomial(300, [0.05, 0.05, 0.9], 2 * checks)
        changes = [Change(Paired(300, int(b), int(c)), 0.02) for b, c, _ in counts]
        family = [Comparison(*two) for two in zip(changes[::2], changes[1::2], strict=True)]
        wrong += any(one.verdict == "regressed" for one in corrected(family))
    assert wrong / runs < 0.05 + 3 * math.sqrt(0.0475 / runs)


def test_the_worst_verdict_is_the_verdict():
    assert Comparison(SAME, SAME).verdict == "pass"
    assert Comparison(SAME, BAD).verdict == "regressed"
    assert Comparison(None, SAME, "incomparable").verdict == "incomparable"
    assert Comparison(None, BAD, "incomparable").verdict == "regressed"
    assert Comparison(Change(Paired(50, 1, 1), 0.02), SAME).verdict == "inconclusive"


def test_a_comparison_of_means_says_of_what():
    change = Change(PairedMeans.of([(0.9, 0.4)] * 30 + [(0.5, 0.6)] * 10), 0.02)
    told = str(Comparison(change, metric="ndcg@10"))
    assert told.startswith("REGRESSED: robust ndcg@10 fell by 35.0 points (90% CI of the drop ")
    assert told.endswith(", margin 2), regressed: 30 worse, 10 better of 40")


def test_a_comparison_reads_as_one_sentence():
    assert str(Comparison(Change(Paired(1000, 163, 16), 0.02), Change(Paired(1000, 1, 3), 0.01))) == (
        "REGRESSED: robust accuracy fell by 14.7 points (90% CI of the drop 12.7 to 16.8, margin 2), regressed: 163 newly "
        "broken, 16 newly robust of 1000; clean accuracy rose by 0.2 points (90% CI of the drop -0.7 to 0.2, margin 1), "
        "pass: 1 newly wrong, 3 newly right of 1000"
    )
    assert str(Comparison(Change(Paired(200, 10, 10), 0.02))).endswith("; about 1546 examples would decide")
    assert "there may be a drop close to the margin" in str(Comparison(Change(Paired(2000, 115, 95), 0.02)))
    assert str(Comparison(unlike="new", reasons=("there is no baseline",))) == "NEW: there is no baseline"
