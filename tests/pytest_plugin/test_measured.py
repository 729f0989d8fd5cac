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
    result.stdout.fnmatch_lines([
        "measured test_it.py::test_typos*: ndcg@10 1.000 -> 0.* (95% CI 0.* - *, floor 0.200): mean over 4 texts of the "
        "worst of 5 random edits, seed 0, characters 1; a measure, no search"
    ])  # fmt: skip


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
        "E   assert ndcg@10, worst of 10 random edits, 0.* >= 0.999 (characters 1, n=4, 95% CI *, without edits 1.000)",
        "robust gate: FAIL, 1 error",
    ])  # fmt: skip
    (error,) = json.loads((pytester.path / "report.json").read_text())["errors"]
    assert "assert ndcg@10, worst of 10 random edits" in error["message"]


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
    result.stdout.fnmatch_lines(["E   assert ndcg@10, worst of 10 random edits, 0.* (the lower limit of 0.*) >= 0.*"])


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
    result.stdout.fnmatch_lines(["*advisory: ndcg@10, worst of 10 random edits*"])


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("pass", "a floor of a mean is set for this test, but it never called robust.fluctuation(model, data)"),
        ("robust(search, QUERIES, CharacterEdits(1), min_accuracy=0)", "a floor of a mean is set for this test, but*"),
        (
            "robust.fluctuation(search, [q for q, _ in QUERIES], CharacterEdits(1))",
            "*there is no ndcg@10 of this model*",
        ),
        ("robust.fluctuation(search, QUERIES, CharacterEdits(1), min_consistency=0.5)", "*there is no consistency of this*"),
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


def test_workers_send_what_was_measured(run):
    source = "def test_typos(robust): robust.fluctuation(search, QUERIES, CharacterEdits(1))\n"
    result = run(source, "-p", "xdist.plugin", "-n1")
    result.stdout.fnmatch_lines(["measured test_it.py::test_typos: ndcg@10 1.000 -> *"])


def test_a_rerun_turns_nothing_green(run):
    source = """
SEEDS = iter((0, 1))

def test_typos(robust):
    robust.fluctuation(search, QUERIES, CharacterEdits(next(SEEDS) and 0 or 1), min_ndcg=0.999)
"""
    result = run(source, "-p", "pytest_rerunfailures", "--reruns=1")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
