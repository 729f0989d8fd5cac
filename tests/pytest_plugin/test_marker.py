"""The marker: what it declares, and that a wrong one stops the session before anything runs."""

from __future__ import annotations

import fake_engine
import pytest
from projects import Run

from pytest_robust.pytest_plugin import marker


def test_marker_declares_the_check(run: Run):
    result = run(
        "@pytest.mark.robust(norm='l2', eps='1/2', min_accuracy=0.4, attacks=['fgsm'], n=50, bounds=(-1, 1),\n"
        "                    profile='release')\n"
        "def test_release(robust): robust(Fake(), 0)\n"
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*test_release?l2-1/2?*", "E *assert robust accuracy 31.0% >= 40.0% (l2 1/2, n=100,*"])
    call = fake_engine.CALLS[0]
    assert (call.threat.norm, call.threat.bounds, call.n, call.profile) == ("l2", (-1, 1), 50, "release")
    assert call.attacks == ["fgsm"]


def test_attacks_may_be_one_text(run: Run):
    run("@pytest.mark.robust(eps=1, attacks='fgsm, pgd')\ndef test_a(robust): robust(Fake(), 0)\n").assert_outcomes(passed=1)
    assert fake_engine.CALLS[0].attacks == ["fgsm", "pgd"]


def test_call_wins_over_marker(run: Run):
    run(
        "@pytest.mark.robust(min_accuracy=0.9, n=50)\n"
        "def test_a(robust): robust(Fake(), 0, norm='linf', eps=0.1, min_accuracy=0.3, n=20)\n"
    ).assert_outcomes(passed=1)
    call = fake_engine.CALLS[0]
    assert (str(call.threat.summary()), float(call.min_accuracy), call.n) == ("linf 0.1", 0.3, 20)


def test_closest_marker_wins_for_each_argument(run: Run):
    run(
        "pytestmark = pytest.mark.robust(norm='l2', eps=0.5, min_accuracy=0.9)\n"
        "@pytest.mark.robust(min_accuracy=0.3)\n"
        "class TestA:\n"
        "    @pytest.mark.robust(n=10)\n"
        "    def test_a(self, robust): robust(Fake(), 0)\n"
    ).assert_outcomes(passed=1)
    call = fake_engine.CALLS[0]
    assert (str(call.threat.summary()), float(call.min_accuracy), call.n) == ("l2 0.5", 0.3, 10)


def test_findings_are_waived_by_the_marker_unless_the_call_waives_others(run: Run):
    run(
        "@pytest.mark.robust(eps=0.1, waive={'black-box': 'ticket 12'})\n"
        "def test_a(robust):\n"
        "    robust(Fake(), 0)\n"
        "    robust(Fake(), 0, waive={'slope': 'ticket 13'})\n"
    ).assert_outcomes(passed=1)
    assert [call.waive for call in fake_engine.CALLS] == [{"black-box": "ticket 12"}, {"slope": "ticket 13"}]


def test_draws_come_from_the_call_or_the_marker(run: Run):
    run(
        "@pytest.mark.robust(eps=0.1, draws=5)\ndef test_a(robust):\n    robust(Fake(), 0)\n    robust(Fake(), 0, draws=9)\n"
    ).assert_outcomes(passed=1)
    assert [call.draws for call in fake_engine.CALLS] == [5, 9]


def test_a_call_that_waives_something_unknown_fails_its_test(run: Run):
    result = run("def test_a(robust): robust(Fake(), 0, eps=0.1, waive={'blackbox': 'ticket 12'})\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["robust(...): waive: 'blackbox' is not a finding that can be waived; use mode, *"])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("draws=0", "draws must be a whole number, at least 1, got 0"),
        ("waive={'speed': 'fast'}", "waive: 'speed' is not a finding that can be waived; use mode, *black-box"),
        ("waive={'slope': ''}", "waive: 'slope' has no reason; say why: waive={'slope': 'the reason'}"),
        ("waive=['slope']", "waive: it takes findings with reasons"),
        ("epsilon=0.1", "unexpected keyword argument 'epsilon'"),
        ("eps='8//255'", "eps: '8//255' is not a number"),
        ("norm='l3'", "norm must be one of linf, l2, l1, l0, characters, got 'l3'"),
        ("min_accuracy=40", "min_accuracy: an accuracy floor lies in [[]0, 1], got 40; did you mean '40%'?"),
        ("min_accuracy={'x': 0.1}", "min_accuracy: eps: 'x' is not a number"),
        ("min_accuracy={}", "min_accuracy: the mapping is empty"),
        ("n=0", "n must be a whole number"),
        ("eps=[]", "eps is empty"),
        ("attacks=()", "attacks is empty"),
        ("tier='soft'", "tier must be one of critical, advisory"),
        ("profile='quick'", "profile must be one of smoke, standard, release"),
    ],
)
def test_wrong_marker_names_the_test_and_exits_4(run: Run, arguments, complaint):
    result = run(f"@pytest.mark.robust({arguments})\ndef test_a(robust): pass\ndef test_b(): pass\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: test_it.py::test_a: marker robust(...): *{complaint}*"])
    result.assert_outcomes()


def test_unknown_attack_in_a_marker_exits_4(run: Run):
    result = run("@pytest.mark.robust(attacks='agpd')\ndef test_a(robust): pass\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: test_it.py::test_a: marker robust(...): no attack is called 'agpd'; known: *apgd-ce*"]
    )


def test_marker_without_the_fixture_checks_nothing_and_is_refused(run: Run):
    result = run("@pytest.mark.robust(min_accuracy=0.4)\ndef test_a(): pass\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: test_it.py::test_a: the marker robust(...) checks nothing by itself; take the fixture*"]
    )


def test_module_wide_marker_leaves_tests_without_the_fixture_alone(run: Run):
    run("pytestmark = pytest.mark.robust(eps=0.1)\ndef test_a(): pass\n").assert_outcomes(passed=1)


def test_promised_check_that_is_never_made_fails(run: Run):
    result = run("@pytest.mark.robust(eps=0.1, min_accuracy=0.4)\ndef test_a(robust): pass\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["a floor is set for this test, but it never called robust(model, data)"])


def test_tests_that_take_the_fixture_are_marked_by_themselves(run: Run):
    source = "def test_a(robust): robust(Fake(), 0, eps=1)\ndef test_b(): pass\n"
    result = run(source, "-m", "robust", "-v", "--strict-markers")
    result.assert_outcomes(passed=1, deselected=1)
    result.stdout.fnmatch_lines(["test_it.py::test_a PASSED*"])
    run(source, "-m", "not robust").assert_outcomes(passed=1, deselected=1)


def test_several_budgets_with_a_floor_each(run: Run):
    result = run(
        "@pytest.mark.robust(eps=['2/255', '4/255', '8/255'], min_accuracy={'2/255': 0.3, '8/255': 0.4})\n"
        "def test_a(robust): robust(Fake(), 0)\n"
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "test_a?linf-2/255? * 30.0%  trusted   pass",
            "test_a?linf-4/255? * -  trusted   report only (no floor for linf 4/255)",
            "test_a?linf-8/255? * 40.0%  trusted   FAIL floor",
        ]
    )


def test_a_mapping_of_the_call_leaves_other_budgets_the_floor_of_the_marker(run: Run):
    source = "def test_a(robust): robust(Fake(), 0, eps='8/255', min_accuracy={'2/255': 0.3})\n"
    result = run("@pytest.mark.robust(min_accuracy=0.4)\n" + source)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *assert robust accuracy 31.0% >= 40.0% (linf 8/255,*"])
    result = run(source)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["test_a *report only (no floor for linf 8/255)", "robust gate: no floor was set, 1 check reported only"]
    )


def test_floors_alone_name_the_budgets(run: Run):
    run(
        "@pytest.mark.robust(min_accuracy={'2/255': 0.3, '8/255': 0.2})\ndef test_a(robust): robust(Fake(), 0)\n", "-v"
    ).stdout.fnmatch_lines(["*test_a?linf-2/255? PASSED*", "*test_a?linf-8/255? PASSED*"])


def test_advisory_check_warns_and_does_not_fail(run: Run):
    result = run(
        "@pytest.mark.robust(eps='8/255', min_accuracy=0.4, tier='advisory')\n"
        "def test_floor(robust): robust(Fake(), 0)\n"
        "@pytest.mark.robust(eps='8/255', tier='advisory')\n"
        "def test_health(robust): robust(Fake(level='invalid'), 0)\n"
    )
    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines(
        [
            "*RobustWarning: test_it.py::test_floor[[]linf-8/255]: advisory: robust accuracy 31.0% >= 40.0% *",
            "test_floor*advisory: FAIL floor",
            "robust gate: pass, 2 checks, 1 advisory*",
        ]
    )


def test_declarations_merge_with_tensors_as_bounds():
    import torch

    low, high = torch.zeros(3), torch.ones(3)
    near, far = marker.robust(n=3), marker.robust("l2", bounds=(low, high))
    merged = near.over(far)
    assert (merged.n, merged.norm, merged.bounds) == (3, "l2", (low, high))


def test_unbounded_is_not_silence():
    assert marker.robust(bounds=None).over(marker.robust(bounds=(0, 1))).bounds is None


def test_equal_budgets_are_one():
    assert [str(eps) for eps in marker.read_eps(["1/2", 0.5, "0.25"]) or ()] == ["1/2", "0.25"]
