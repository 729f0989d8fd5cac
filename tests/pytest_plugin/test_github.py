"""Under GitHub Actions failures are shown at their lines."""

from __future__ import annotations

TESTS = """
def test_low(robust): robust(Fake(31), 0, eps="8/255", min_accuracy=0.4)
def test_odd(robust): robust(Fake(80, level="suspicious"), 0, eps="8/255", min_accuracy=0.4)
def test_fine(robust): robust(Fake(80), 0, eps="8/255", min_accuracy=0.4)
def test_error(robust): robust(Fake(raises=ValueError("boom, 100%")), 0, eps="8/255", min_accuracy=0.4)
def test_plain(): assert False
"""


def commands(result):
    return [line for line in result.outlines if line.startswith("::")]


def test_failures_and_suspicions_are_annotated(run, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    low, error, odd = commands(run(TESTS))
    assert low.startswith(
        "::error file=test_it.py,line=5,title=test_it.py%3A%3Atest_low::assert robust accuracy 31.0%25 >= 40"
    )
    assert error == "::error file=test_it.py,line=8,title=test_it.py%3A%3Atest_error::ValueError: boom, 100%25"
    assert odd.startswith("::warning file=test_it.py,line=6,title=test_it.py%3A%3Atest_odd::")
    assert "is suspicious: gradients: gradients are zero on 37%25 of inputs" in odd


def test_nowhere_else(run):
    assert commands(run(TESTS)) == []


def test_workers_annotate_once(run_workers, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert len(commands(run_workers(TESTS, "-n2"))) == 3


def test_a_regression_that_the_whole_run_shows_is_annotated(run, monkeypatch):
    """The second test passes: among so many comparisons its drop may be chance. Holm's procedure finds it all the same."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    nets = "".join(f"def test_{i}(robust): robust(Fake({{}}, n=1000, clean=940), 0, eps=1)\n" for i in range(2))
    run(nets.format(600, 600), "--robust-update")
    result = run(nets.format(590, 595), "--robust-baseline", "--robust-margin=0.5pt")
    result.assert_outcomes(passed=1, failed=1)
    titles = {line.split("title=")[1].split("::")[0] for line in commands(result)}
    assert titles == {"test_it.py%3A%3Atest_0", "test_it.py%3A%3Atest_1"}
