"""The plugin among pytest's own options and other plugins."""

from __future__ import annotations

import json

import pytest
from projects import Run

PASSING = "def test_ok(robust): robust(Fake(60), 0, eps='8/255', min_accuracy=0.4)\n"
FAILING = "def test_bad(robust): robust(Fake(31), 0, eps='8/255', min_accuracy=0.4)\n"


def test_rerun_reuses_the_verdict(run: Run, project):
    source = (
        "calls = []\n"
        "def test_flaky(robust):\n"
        "    calls.append(1)\n"
        "    robust(Fake(31 if len(calls) == 1 else 60), 0, eps='8/255', min_accuracy=0.4)\n"
    )
    options = ("-p", "pytest_rerunfailures", "--reruns=2", "--robust-report=r.json", "-W", "ignore::ResourceWarning")
    result = run(source, *options)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["robust gate: FAIL, 1 floor", "*1 failed, 2 rerun*"])
    checks = json.loads((project.path / "r.json").read_text())["checks"]
    assert [(check["id"], check["robust"]["k"]) for check in checks] == [("test_it.py::test_flaky", 31)]


def test_rerun_of_another_failure_still_passes(run: Run):
    source = (
        "calls = []\n"
        "def test_flaky(robust):\n"
        "    robust(Fake(60), 0, eps='8/255', min_accuracy=0.4)\n"
        "    calls.append(1)\n"
        "    assert len(calls) == 2, 'network'\n"
    )
    result = run(source, "-p", "pytest_rerunfailures", "--reruns=2")
    result.stdout.fnmatch_lines(["robust gate: pass, 1 check", "*1 passed, 1 rerun*"])


def test_rerun_takes_an_error_back(run: Run):
    source = (
        "fakes = iter([Fake(raises=OSError('network')), Fake(60)])\n"
        "def test_flaky(robust): robust(next(fakes), 0, eps='8/255', min_accuracy=0.4)\n"
    )
    result = run(source, "-p", "pytest_rerunfailures", "--reruns=2")
    result.stdout.fnmatch_lines(["robust gate: pass, 1 check", "*1 passed, 1 rerun*"])


@pytest.mark.parametrize(
    "options",
    [("-p", "no:cacheprovider"), ("--strict-markers", "--strict-config"), ("-W", "error"), ("-p", "no:capture"), ("-s",)],
    ids=" ".join,
)
def test_options_of_pytest(run: Run, options):
    result = run(PASSING + FAILING, *options)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["robust gate: FAIL, 1 floor"])


def test_without_a_terminal_the_exit_code_and_the_report_remain(run: Run, project):
    result = run(FAILING, "-p", "no:terminal", "--robust-report=r.json")
    assert result.ret == 1
    assert json.loads((project.path / "r.json").read_text())["gate"]["verdict"] == "fail"


def test_stop_at_the_first_failure_says_incomplete(run: Run, project):
    result = run(FAILING + PASSING, "-x", "--robust-report=r.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["robust gate: FAIL, 1 floor, incomplete"])
    assert json.loads((project.path / "r.json").read_text())["complete"] is False


def test_keyword_and_last_failed(run: Run):
    run(PASSING + FAILING, "-k", "ok").assert_outcomes(passed=1, deselected=1)
    run(PASSING + FAILING)
    run(PASSING + FAILING, "--lf").assert_outcomes(failed=1)


def test_random_order_changes_no_verdict(run: Run, project):
    names = []
    for seed in range(4):
        result = run(PASSING + FAILING, "-p", "pytest_randomly", f"--randomly-seed={seed}", "--robust-report=r.json")
        result.assert_outcomes(passed=1, failed=1)
        checks = json.loads((project.path / "r.json").read_text())["checks"]
        names.append(tuple(check["name"] for check in checks))
        assert {check["name"]: check["verdict"] for check in checks} == {"test_ok": "pass", "test_bad": "fail"}
    assert len(set(names)) == 2


def test_interrupt_keeps_the_summary_of_what_was_decided(run: Run, project):
    source = (
        "from pytest_robust.evaluation.progress import Progress\n"
        "def interrupt(progress):\n"
        "    progress(Progress('x', 'apgd-ce', 40, 100, 0.55))\n"
        "    raise KeyboardInterrupt\n" + PASSING + "def test_long(robust): robust(Fake(during=interrupt), 0, eps=0.1)\n"
    )
    result = run(source, "--robust-report=r.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        [
            "test_ok *pass",
            "interrupted: test_long: apgd-ce, 40 of 100 decided, robust accuracy <= 55.0%",
            "robust gate: INCOMPLETE, 1 check",
        ]
    )
    report = json.loads((project.path / "r.json").read_text())
    assert (report["complete"], len(report["checks"])) == (False, 1)


def test_collection_error_is_left_to_pytest(run: Run, project):
    project.makepyfile(test_broken="import nothing_of_this_name")
    result = run(PASSING, "--robust-report=r.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert json.loads((project.path / "r.json").read_text())["complete"] is False


def test_a_project_may_have_a_fixture_of_this_name(run: Run):
    result = run("@pytest.fixture\ndef robust(): return 1\ndef test_a(robust): assert robust == 1\n")
    result.assert_outcomes(passed=1)
    assert "robust gate" not in result.stdout.str()


def test_classes_and_unittest(run: Run):
    source = (
        "import unittest\n"
        "class TestA:\n    def test_a(self, robust): robust(Fake(60), 0, eps=1, min_accuracy=0.4)\n"
        "class TestB(unittest.TestCase):\n    def test_b(self): pass\n"
    )
    run(source).assert_outcomes(passed=2)
