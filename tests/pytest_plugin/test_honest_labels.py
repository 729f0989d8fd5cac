"""What a check was asked for is what ran, and no floor is lost on the way."""

from __future__ import annotations

import fake_engine
import pytest
from projects import Run

CALL = "def test_a(robust): robust(Fake(60), 0, eps='0.001', min_accuracy=0.4)\n"


def test_marker_and_call_may_not_name_different_threats(run: Run):
    result = run("@pytest.mark.robust(eps='0.3', min_accuracy=0.4)\n" + CALL)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the marker says linf 0.3, the call asks for linf 0.001: name *"])
    assert fake_engine.CALLS == []


def test_call_wins_over_the_options_and_the_row_says_so(run: Run):
    result = run(CALL, "--robust-eps=0.3")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(
        ["*RobustWarning: *linf 0.3, *the call asked for linf 0.001*", "test_a?linf-0.3? *linf 0.001 *"]
    )


def test_only_a_critical_floor_of_the_test_stops_early(run: Run):
    run(CALL)
    run("@pytest.mark.robust(tier='advisory')\n" + CALL)
    run("def test_a(robust): robust(Fake(60), 0, eps=1)\n", "--robust-fail-under=0.4")
    run("@pytest.mark.robust(eps=1, min_accuracy=0.4)\ndef test_a(robust): robust(Fake(60), 0)\n")
    assert [call.stop_early for call in fake_engine.CALLS] == [True, False, False, True]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pytest.ini", "[pytest]\nrobust_fail_undr = 0.9\n"),
        ("tox.ini", "[pytest]\nrobust_fail_undr = 0.9\n"),
        ("setup.cfg", "[tool:pytest]\nrobust_fail_undr = 0.9\n"),
        ("pyproject.toml", "[tool.pytest.ini_options]\nrobust_fail_undr = 0.9\n"),
    ],
)
def test_misspelt_ini_key_exits_4(run: Run, project, name, text):
    (project.path / name).write_text(text)
    result = run(CALL)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *robust_fail_undr; did you mean robust_fail_under[?]"])


def test_floor_for_a_budget_that_does_not_run(run: Run):
    result = run("@pytest.mark.robust(eps='8/255', min_accuracy={'8/225': 0.4})\ndef test_a(robust): robust(Fake(), 0)\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *a floor for 8/225, which is not among the budgets (8/255)"])


def test_floor_of_a_budget_given_as_a_float(run: Run):
    run("def test_a(robust): robust(Fake(), 0, eps=8/255, min_accuracy={'8/255': 0.4})\n").assert_outcomes(failed=1)


def test_floor_of_the_run_on_a_test_that_never_calls(run: Run):
    source = "def test_a(robust): pass\n"
    run(source).assert_outcomes(passed=1)
    run(source, "--robust-fail-under=0.4").assert_outcomes(failed=1)
    own = "@pytest.fixture\ndef robust(): return 1\n" + source
    run(own, "--robust-fail-under=0.4").assert_outcomes(passed=1)


@pytest.mark.parametrize("option", ["fail-under", "n", "eps", "seed"])
def test_empty_option_exits_4(run: Run, option):
    assert run(CALL, f"--robust-{option}=").ret == pytest.ExitCode.USAGE_ERROR


def test_empty_ini_value_exits_4_and_empty_device_is_unset(run: Run, project, monkeypatch):
    monkeypatch.setenv("PYTEST_ROBUST_DEVICE", "")
    run(CALL).assert_outcomes(passed=1)
    project.makeini("[pytest]\nrobust_profile =\n")
    assert run(CALL).ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize("second", ["pass", "pytest.skip('no')", "robust(Fake(60), 0, eps=1, min_accuracy=0.4, name='b')"])
def test_rerun_cannot_avoid_a_missed_floor(run: Run, second):
    source = (
        "calls = []\ndef test_a(robust):\n    calls.append(1)\n"
        f"    if len(calls) > 1: {second}\n    else: robust(Fake(), 0, eps=1, min_accuracy=0.4)\n"
    )
    result = run(source, "-p", "pytest_rerunfailures", "--reruns=1", "-W", "ignore::ResourceWarning")
    result.assert_outcomes(failed=1)
