"""``robust.fluctuation``: means under random edits, with floors. The engine is the real one."""

from __future__ import annotations

import json

import pytest
from projects import ARGUMENTS

# Before pytest runs inside a test: it forgets the modules that it imports itself.
from pytest_robust.evaluation import fluctuation  # noqa: F401
from pytest_robust.models import retrieval  # noqa: F401

SEARCH = """
import numpy as np
import pytest
from pytest_robust import CharacterEdits, RetrieverFunction

CORPUS = {"d1": "wonderful film", "d2": "tedious plot", "d3": "awful music", "d4": "clever script"}
WORDS = sorted({word for text in CORPUS.values() for word in text.split()})
QUERIES = [("wonderful", ["d1"]), ("tedious plot", ["d2"]), ("awful", ["d3"]), ("clever funny script", ["d4"])]

def encode(texts):
    # A word that is misspelt is lost.
    return np.array([[float(word in text.split()) for word in WORDS] + [0.01] for text in texts])

search = RetrieverFunction(encode, CORPUS, holds="top-1")
"""


@pytest.fixture
def run(pytester):
    def runner(source, *args):
        pytester.makepyfile(test_it=SEARCH + source)
        return pytester.runpytest_inprocess(*ARGUMENTS, "--robust-device=cpu", *args)

    return runner


def test_a_floor_of_the_marker_that_is_met(run):
    result = run("""
@pytest.mark.robust(norm="characters", eps=1, min_ndcg=0.2)
def test_typos(robust):
    found = robust.fluctuation(search, QUERIES, samples=5)
    assert found["ndcg@10"].worst >= 0.2
""")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["test_typos?characters-1?::ndcg@10  characters 1 * 100.0% * 20.0%  measure   pass"])


def test_a_floor_that_is_missed_fails_with_one_sentence(run, pytester):
    result = run(
        """
def test_typos(robust):
    robust.fluctuation(search, QUERIES, CharacterEdits(1), min_ndcg=0.999, name="search")
""",
        "--robust-report=report.json",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([
        "E   assert ndcg@10 *% >= 99.9% (worst of 10 random edits, characters 1, n=4, 95% CI *)",
        "verdict      FAIL floor 99.9% (* pt short)",
        "threat       characters 1, worst of 10 random edits of each text, seed 0: a measure, no search",
        "               ndcg@10  95% CI",
        "worst text   #2 100.0% -> 50.0%: *[[]*>*",
        "note         without edits, and with the worst: *mrr@10 100.0% -> *",
        "test_typos::search::ndcg@10 *measure * FAIL floor",
        "robust gate: FAIL, 1 floor",
    ])  # fmt: skip
    assert "broken by" not in result.stdout.str()
    assert "health  " not in result.stdout.str().split("= robustness")[0]
    (check,) = json.loads((pytester.path / "report.json").read_text())["checks"]
    assert (check["metric"], check["samples"], check["verdict"]) == ("ndcg@10", 10, "fail")
    assert check["robust"]["k"] < check["needed"] == pytest.approx(4 * 0.999)


def test_with_a_confidence_the_lower_limit_has_to_reach_the_floor(run):
    result = run("""
FOUND = []

def test_figure(robust):
    FOUND.append(robust.fluctuation(search, QUERIES, CharacterEdits(1))["ndcg@10"].worst)

def test_itself(robust):
    robust.fluctuation(search, QUERIES, CharacterEdits(1), min_ndcg=FOUND[0] - 0.001)

def test_surely(robust):
    robust.fluctuation(search, QUERIES, CharacterEdits(1), min_ndcg=FOUND[0] - 0.001, confidence=0.95)
""")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["E   assert ndcg@10 *%, 95% sure of *%, >= *% (worst of 10 random edits, *)"])


def test_an_advisory_floor_warns(run):
    result = run(
        """
@pytest.mark.robust(tier="advisory", min_ndcg=0.999)
def test_typos(robust):
    robust.fluctuation(search, QUERIES, CharacterEdits(1))
""",
        "-W",
        "default",
    )
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*advisory: ndcg@10 *% >= 99.9% (worst of 10 random edits*", "* advisory: FAIL floor"])


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("pass", "a floor of a mean is set for this test, but it never called robust.fluctuation(model, data)"),
        ("robust(search, QUERIES, CharacterEdits(1), min_accuracy=0)", "a floor of a mean is set for this test, but*"),
        (
            "robust.fluctuation(search, [q for q, _ in QUERIES], CharacterEdits(1))",
            "*min_ndcg is for ndcg@10, and for this model and data there is only: rbo, top-1",
        ),
        ("robust.fluctuation(search, QUERIES, CharacterEdits(1), samples=0)", "*samples must be a whole number*"),
        ("robust.fluctuation(search, QUERIES, CharacterEdits(1), min_ndcg=20)", "*min_ndcg lies in ?0, 1?, got 20"),
    ],
)
def test_no_floor_is_passed_by_in_silence(run, body, why):
    result = run(f"""
@pytest.mark.robust(min_ndcg=0)
def test_typos(robust):
    {body}
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([why])


def test_a_floor_that_is_none_ends_at_collection(run):
    result = run("@pytest.mark.robust(min_ndcg=20)\ndef test_typos(robust): pass\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: test_it.py::test_typos: marker robust(...): min_ndcg lies in *"])


QUERY = "def test_typos(robust): robust.fluctuation({}, QUERIES * {}, CharacterEdits(1), {})\n"


def test_a_mean_is_compared_with_its_baseline(run, pytester):
    result = run(QUERY.format("search", 30, ""), "--robust-update")
    result.stdout.fnmatch_lines(["baseline written: robust-baseline/test_it/test_typos-ndcg_10.json"])
    result = run(QUERY.format("search", 30, ""), "--robust-baseline", "--robust-gate=release")
    assert result.ret == 0, "the very same model cannot have dropped"
    result.stdout.fnmatch_lines(["test_typos::ndcg@10 * +0.0 pt * no regression", "robust gate (release): pass, 1 check*"])
    source = (
        QUERY.format("noisy", 30, "{}")
        + """
def noise(texts):
    return encode(["" if text not in CORPUS.values() and text not in dict(QUERIES) else text for text in texts])

noisy = RetrieverFunction(noise, CORPUS, holds="top-1")
"""
    )
    result = run(source.format(""), "--robust-baseline", "--robust-report=report.md", "--robust-report=report.html")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([
        "E *regressed against robust-baseline: robust ndcg@10 fell by * points (90% CI *: * worse, 0 better of 120*",
        "  clean      inconclusive * 0.0 pt *",
        "  robust     REGRESSED *",
        "  paired: * worse, 0 better, * unchanged of the same 120 texts",
        "test_typos::ndcg@10 * FAIL REGRESSED",
        "robust gate (no-regression): FAIL, 1 regressed",
    ])  # fmt: skip
    markdown, page = ((pytester.path / f"report.{kind}").read_text() for kind in ("md", "html"))
    assert "| measure  | FAIL REGRESSED |" in markdown.replace("-", " ")
    assert "worst of 10 random edits of each text" in page
    assert "Broken by" not in page
    assert "Health" not in page
    assert "worse, 0 better" in page
    assert run(source.format("max_drop=0.9"), "--robust-baseline").ret == 0


def test_other_edits_are_another_question(run):
    run(QUERY.format("search", 1, ""), "--robust-update")
    for more, why in (("samples=5", "attacks differ: 10 random edits in the baseline, 5*"), ("seed=1", "seed differs: 0*")):
        result = run(QUERY.format("search", 1, more), "--robust-baseline", "--robust-gate=release")
        assert result.ret == 1
        result.stdout.fnmatch_lines([f"*::ndcg@10: incomparable with *test_typos-ndcg_10.json: {why}"])


def test_a_release_asks_for_every_baseline_of_a_mean(run):
    run(QUERY.format("search", 1, ""), "--robust-update")
    other = "def test_typos(robust): robust.fluctuation(search, QUERIES, CharacterEdits(1), min_consistency=0)\n"
    result = run(other, "--robust-baseline", "--robust-gate=release")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*test_typos::rbo: new: *", "*::ndcg@10: MISSING: *"])


def test_of_results_consistency_is_their_overlap(run):
    result = run("""
def test_typos(robust):
    found = robust.fluctuation(search, [query for query, _ in QUERIES], CharacterEdits(1), min_consistency=0.1)
    assert found["rbo"].worst >= 0.1

@pytest.mark.robust(eps=[1, 2], norm="characters", min_consistency=0.999, min_ndcg=0.1)
def test_both(robust):
    robust.fluctuation(search, QUERIES)
""")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines([
        "E   assert rbo *% >= 99.9% (worst of 10 random edits, characters 1, n=4, *",
        "eps curve    1 *%   2 *%",
        "test_typos::rbo  * pass",
        "test_both?characters-1?::ndcg@10 * pass",
        "test_both?characters-1?::rbo * FAIL floor",
        "robust gate: FAIL, 2 floors",
    ])  # fmt: skip


def test_a_subset_is_chosen_by_content_and_said(run):
    source = """
def test_typos(robust):
    found = robust.fluctuation(search, QUERIES, CharacterEdits(1))
    assert (len(found.ids), found.of) == (2, 4)
    again = robust.fluctuation(search, QUERIES[::-1], CharacterEdits(1))
    assert sorted(again.ids) == sorted(found.ids)
    assert 0, "to see the details"
"""
    result = run(source, "--robust-n=2")
    result.stdout.fnmatch_lines(["note         a subset of 2 of 4 texts, chosen by content and seed 0"])


def test_a_shard_measures_nothing(run):
    result = run(QUERY.format("search", 1, ""), "--robust-shard=1/2")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*robust.fluctuation(...) cannot be shared out; deselect this test in the shards*"])


NAN = """
def broken(texts):
    return np.full((len(texts), 9), np.nan) if texts[0] not in CORPUS.values() else encode(texts)

nowhere = RetrieverFunction(broken, CORPUS, holds="top-1")
"""


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (
            "robust.fluctuation(nowhere, QUERIES, CharacterEdits(1), min_ndcg=0)",
            "*returned NaN or infinity for 4 of 4 texts*",
        ),
        (
            "robust.fluctuation(search, ['12 34', '7'], CharacterEdits(1), min_consistency=0.1)",
            "E *not evidence: room: nothing can be edited in 2 of 2 texts, which count as stable (robust rbo 100.0%, *",
        ),
        (
            "robust.fluctuation(search, [('awful', ['d3']), ('12', ['d1'])], CharacterEdits(1), min_ndcg=0.7)",
            "E *not evidence: room: nothing can be edited in 1 of 2 texts, *; without them the floor is missed*",
        ),
        (
            "robust.fluctuation(search, QUERIES[:1] + [(q, []) for q, _ in QUERIES[1:]], CharacterEdits(1), min_ndcg=0.1)",
            "E *not evidence: references: ndcg@10 is of 1 of 4 texts: *",
        ),
    ],
)
def test_no_floor_is_met_by_what_was_not_tried(run, body, why):
    result = run(f"{NAN}\ndef test_typos(robust): {body}\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([why])


def test_what_was_not_tried_can_be_waived_with_a_reason(run):
    result = run("""
WAIVE = {"room": "numbers are asked for as well"}

def test_typos(robust):
    robust.fluctuation(search, ["12 34", "tedious plot"], CharacterEdits(1), min_consistency=0.1, waive=WAIVE)
""")
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("marker", "body", "why"),
    [
        ("min_accuracy=0.5", "robust.fluctuation(search, QUERIES)", "it never called robust(model, data)"),
        (
            "min_ndcg=0.5",
            "caught(lambda: robust.fluctuation(search, [q for q, _ in QUERIES]))",
            "its check ended in an error*",
        ),
        (
            "min_accuracy={1: 0.5}",
            "robust.fluctuation(search, QUERIES); caught(lambda: robust(search, [], min_accuracy={1: 0.5}))",
            "its check ended in an error*",
        ),
    ],
)
def test_a_floor_of_the_marker_is_met_by_no_other_check(run, marker, body, why):
    result = run(f"""
def caught(call):
    try:
        call()
    except Exception:
        pass

@pytest.mark.robust(norm="characters", eps=1, {marker})
def test_typos(robust): {body}
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"a floor* is set for this test, but {why}"])


def test_other_documents_are_another_question(run):
    run(QUERY.format("search", 1, ""), "--robust-update")
    source = QUERY.format("RetrieverFunction(encode, {**CORPUS, 'd5': 'x'}, holds='top-1')", 1, "")
    result = run(source, "--robust-baseline", "--robust-gate=release")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["*incomparable with *: objective differs: ndcg@10 of 4 documents (*) in the baseline, *of 5 *"]
    )


def test_other_references_are_another_question(run):
    source = """
from pytest_robust import TranslatorFunction

def test_typos(robust):
    translator = TranslatorFunction(lambda texts: [text.upper() for text in texts])
    robust.fluctuation(translator, [("a longer text", "{}")], CharacterEdits(1))
"""
    run(source.format("A LONGER TEXT"), "--robust-update")
    result = run(source.format("UN TEXTE"), "--robust-baseline", "--robust-gate=release")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*::chrf: incomparable with *: 1 of 1 examples are not in the baseline*"])


def test_figures_that_differ_read_so(run):
    result = run("def test_typos(robust): robust.fluctuation(search, QUERIES, CharacterEdits(0), min_ndcg=0.99999)\n")
    result.assert_outcomes(passed=1)
    result = run("""
def test_typos(robust):
    found = robust.fluctuation(search, QUERIES, CharacterEdits(1))["ndcg@10"].worst
    robust.fluctuation(search, QUERIES, CharacterEdits(1), min_ndcg=found + 1e-5)
""")
    result.stdout.fnmatch_lines(["E   assert ndcg@10 8*.*[0-9][0-9][0-9][0-9]% >= 8*.*[0-9][0-9][0-9][0-9]% (*"])


def test_workers_send_what_was_measured(run):
    source = "def test_typos(robust): robust.fluctuation(search, QUERIES, CharacterEdits(1))\n"
    result = run(source, "-p", "xdist.plugin", "-n1")
    result.stdout.fnmatch_lines(["test_typos::ndcg@10 * 100.0% *report only"])


def test_a_rerun_turns_nothing_green(run):
    source = """
SEEDS = iter((0, 1))

def test_typos(robust):
    robust.fluctuation(search, QUERIES, CharacterEdits(next(SEEDS) and 0 or 1), min_ndcg=0.999)
"""
    result = run(source, "-p", "pytest_rerunfailures", "--reruns=1")
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_the_search_of_a_function_is_a_black_box(run):
    result = run(
        'def test_typos(robust): robust(search, QUERIES, CharacterEdits(1), min_accuracy=1, waive={"room": "toy"})\n'
    )
    told = "threat       characters 1, edits of texts, untargeted, top-1 of 4 documents (*), black box"
    result.stdout.fnmatch_lines([told, "cost * 0 backward"])
