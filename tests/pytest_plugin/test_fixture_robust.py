"""The fixture: what fails a test, and how that reads."""

from __future__ import annotations

import json

import fake_engine
import pytest
from projects import Run


def test_missed_floor_fails_with_the_verdict_in_one_line(run: Run):
    result = run(
        """
        def test_release(robust):
            robust(Fake(312, 1000, 942), None, norm="linf", eps="8/255", min_accuracy=0.40)
        """.replace("\n        ", "\n")
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E   assert robust accuracy 31.2% >= 40.0% (linf 8/255, n=1000, 95% CI 28.3-34.2)"])
    assert "fixture.py" not in result.stdout.str()
    assert "robust = <" not in result.stdout.str()


def test_met_floor_passes_and_returns_the_evaluation(run: Run):
    result = run(
        "def test_a(robust):\n"
        "    result = robust(Fake(41), 'data', eps=0.1, min_accuracy='40%')\n"
        "    assert (result.accuracy.k, result.accuracy.n) == (41, 100)\n"
        "    assert robust.results == (result,)\n"
    )
    result.assert_outcomes(passed=1)
    assert fake_engine.CALLS[0].data == "data"


def test_early_decision_shows_its_bound(run: Run):
    result = run("def test_a(robust): robust(Fake(39, undecided=20, bound='upper'), 0, eps='8/255', min_accuracy=0.4)\n")
    result.stdout.fnmatch_lines(
        [
            "*assert robust accuracy 39.0% >= 40.0% (linf 8/255, n=100, at most: decided on 80 of 100)",
            "verdict * FAIL floor 40.0% (certain after 80 of 100; *release says how far below)",
        ]
    )


def test_rounding_never_hides_the_gap(run: Run):
    result = run("def test_a(robust): robust(Fake(3999, 10000, 9000), 0, eps='8/255', min_accuracy=0.4)\n")
    result.stdout.fnmatch_lines(["*assert robust accuracy 3999 of 10000 >= 4000 (linf*"])


def test_native_assert_reads_well(run: Run):
    result = run("def test_a(robust):\n    assert robust(Fake(312, 1000, 942), 0, eps='8/255').accuracy >= 0.4\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *assert robust accuracy 31.2% >= 40.0% (linf 8/255, n=1000, 95% CI 28.3-34.2)"])
    result.stdout.fnmatch_lines(["test_a * FAIL assertion", "robust gate: FAIL, 1 assertion"])


def test_no_budget_anywhere_names_three_ways_to_give_one(run: Run):
    result = run("def test_a(robust): robust(Fake(), 0)\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*no budget*robust(model, data, eps=*@pytest.mark.robust(eps=*--robust-eps 8/255*robust_eps*"]
    )
    assert "fixture.py" not in result.stdout.str()


def test_an_invalid_evaluation_fails_over_its_floor(run: Run):
    result = run("def test_a(robust): robust(Fake(60, level='invalid'), 0, eps='8/255', min_accuracy=0.4)\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E *not evidence: gradients: gradients are zero on 37% of inputs (robust accuracy 60.0%, linf 8/255)"]
    )
    result.stdout.fnmatch_lines(["*FAIL not evidence", "robust gate: FAIL, 1 not evidence"])


def test_an_invalid_evaluation_fails_a_native_test_that_passed(run: Run):
    result = run("def test_a(robust):\n    assert robust(Fake(60, level='invalid'), 0, eps='8/255').accuracy > 0.4\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["not evidence: gradients:*", "robust gate: FAIL, 1 not evidence"])


def test_a_missed_floor_needs_no_trust(run: Run):
    result = run("def test_a(robust): robust(Fake(10, level='invalid'), 0, eps='8/255', min_accuracy=0.4)\n")
    result.stdout.fnmatch_lines(["E *assert robust accuracy 10.0% >= 40.0%*", "robust gate: FAIL, 1 floor"])


def test_a_suspicious_pass_warns(run: Run):
    result = run("def test_a(robust): robust(Fake(60, level='suspicious'), 0, eps='8/255', min_accuracy=0.4)\n")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(
        [
            "*RobustWarning: test_it.py::test_a: robust accuracy 60.0% is suspicious: gradients: *",
            "robust gate: pass, 1 check, 1 suspicious",
        ]
    )


def test_warnings_as_errors_fail_a_suspicious_pass_but_keep_its_record(run: Run):
    source = "def test_a(robust): robust(Fake(60, level='suspicious'), 0, eps='8/255', min_accuracy=0.4)\n"
    result = run(source, "-W", "error")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_a * 60.0% *suspicious*"])


def test_errors_of_the_engine_are_one_message_and_other_tests_go_on(run: Run):
    result = run(
        "from pytest_robust import PreflightError\n"
        "def test_a(robust): robust(Fake(raises=PreflightError('inputs reach 255.0: divide by 255')), 0, eps='8/255')\n"
        "def test_b(robust): robust(Fake(60), 0, eps='8/255', min_accuracy=0.4)\n"
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*inputs reach 255.0: divide by 255", "test_a * ERROR", "robust gate: FAIL, 1 error"])
    assert "fake_engine.py" not in result.stdout.str()


def test_errors_of_the_engine_can_be_expected(run: Run):
    result = run(
        "from pytest_robust import PreflightError\n"
        "def test_a(robust):\n"
        "    with pytest.raises(PreflightError, match='labels'):\n"
        "        robust(Fake(raises=PreflightError('labels')), 0, eps='8/255')\n"
    )
    result.assert_outcomes(passed=1)


def test_threat_object_and_its_parts_exclude_each_other(run: Run):
    result = run(
        "from pytest_robust import L2\n"
        "def test_a(robust): robust(Fake(), 0, L2(0.5))\n"
        "def test_b(robust): robust(Fake(), 0, L2(0.5), eps=0.3)\n"
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*either a threat, or norm, eps and bounds; not both"])
    assert str(fake_engine.CALLS[0].threat.summary()) == "l2 0.5"


def test_norm_and_bounds_make_the_threat(run: Run):
    run(
        "def test_a(robust):\n"
        "    robust(Fake(), 0, eps=1, norm='l2', bounds=None)\n"
        "    robust(Fake(), 0, eps=1, bounds=(-1, 1))\n"
        "    robust(Fake(), 0, eps=1)\n"
        "    robust(Fake(space='embedding'), 0, eps=1, norm='l2')\n"
    ).assert_outcomes(passed=1)
    threats = [call.threat for call in fake_engine.CALLS]
    assert [threat.norm for threat in threats] == ["l2", "linf", "linf", "l2"]
    assert [threat.bounds for threat in threats] == [None, (-1, 1), (0, 1), None]
    assert [threat.space for threat in threats] == ["input", "input", "input", "embedding"]


def test_everything_else_reaches_the_engine(run: Run):
    run(
        "def test_a(robust):\n"
        "    robust(Fake(), 0, eps=1, attacks='fgsm', n=10, profile='smoke', seed=3, device='cpu', name='mine',\n"
        "           batch_size=7, classes=['a', 'b'], waive={'chance': 'few'}, objective='o', min_accuracy={'1': 0.1})\n"
    ).assert_outcomes(passed=1)
    call = fake_engine.CALLS[0]
    assert (call.attacks, call.n, call.profile, call.seed, call.device) == (["fgsm"], 10, "smoke", 3, "cpu")
    assert (call.name, call.batch_size, call.classes) == ("mine", 7, ["a", "b"])
    assert (call.waive, call.objective, float(call.min_accuracy)) == ({"chance": "few"}, "o", 0.1)


def test_normalisation_is_folded_in_once(run: Run, monkeypatch):
    from pytest_robust import models

    folded = []
    monkeypatch.setattr(models, "adapt", lambda model, normalize, **_: folded.append(normalize) or Fake())
    Fake = fake_engine.Fake
    run(
        "from pytest_robust import Linf\n"
        "def test_a(robust):\n"
        "    robust(Fake(), 0, eps=1, normalize=(0, 1))\n"
        "    robust(Fake(), 0, Linf(1), normalize=(0, 1))\n"
    ).assert_outcomes(passed=1)
    assert folded == [(0, 1)]
    assert [call.normalize for call in fake_engine.CALLS] == [None, (0, 1)]


def test_approximations_are_put_into_the_model_once(run: Run, monkeypatch):
    from pytest_robust import models

    given = []
    monkeypatch.setattr(models, "adapt", lambda model, non_differentiable, **_: given.append(non_differentiable) or Fake())
    Fake = fake_engine.Fake
    run(
        "from pytest_robust import Linf\n"
        "def test_a(robust):\n"
        "    robust(Fake(), 0, eps=1, non_differentiable=['quantise'])\n"
        "    robust(Fake(), 0, Linf(1), non_differentiable=['quantise'])\n"
    ).assert_outcomes(passed=1)
    assert given == [["quantise"]]
    assert [call.non_differentiable for call in fake_engine.CALLS] == [None, ["quantise"]]


def test_several_checks_of_one_test_have_ids_of_their_own(run: Run):
    result = run(
        "def test_a(robust):\n"
        "    for name in (None, None, 'deer', 'deer'):\n"
        "        robust(Fake(60), 0, eps=1, min_accuracy=0.1, name=name)\n"
    )
    result.stdout.fnmatch_lines(
        ["test_a  *", "test_a#2 *", "test_a::deer *", "test_a::deer#2 *", "robust gate: pass, 4 checks"]
    )


def test_caught_failure_is_named_as_such(run: Run):
    result = run(
        "def test_undefended_model_breaks(robust):\n"
        "    with pytest.raises(AssertionError, match='31.0% >= 40.0%'):\n"
        "        robust(Fake(), 0, eps=1, min_accuracy=0.4)\n"
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["* FAIL floor (caught by the test)", "robust gate: pass, 1 check, 1 missed floor caught by its test"]
    )


def test_expected_failure_is_no_failure_of_the_gate(run: Run):
    result = run("@pytest.mark.xfail(reason='known')\ndef test_a(robust): robust(Fake(), 0, eps=1, min_accuracy=0.4)\n")
    result.assert_outcomes(xfailed=1)
    result.stdout.fnmatch_lines(["* FAIL floor (xfail)", "robust gate: pass, 1 check, 1 missed floor expected (xfail)"])


@pytest.mark.parametrize(
    ("fake", "verdict", "gate"),
    [
        ("Fake()", "FAIL floor", "1 missed floor"),
        ("Fake(60, level='invalid')", "FAIL not evidence", "1 invalid check"),
    ],
)
def test_failure_that_ends_in_a_skip_is_named_as_such(run: Run, fake, verdict, gate):
    result = run(
        "def test_a(robust):\n"
        f"    try: robust({fake}, 0, eps=1, min_accuracy=0.4)\n"
        "    except AssertionError: pytest.skip('breaks')\n"
    )
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        [f"* {verdict} (skipped by the test)", f"robust gate: pass, 1 check, {gate} skipped by its test"]
    )


ERROR = "robust(Fake(raises=RuntimeError('no\\nweights')), 0, eps=1, min_accuracy=0.4)\n"


def test_caught_error_is_recorded(run: Run, project):
    source = f"def test_a(robust):\n    try: {ERROR}    except Exception: pass\n"
    result = run(source, "--robust-report=r.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["test_a * ERROR (caught by the test)", "robust gate: no check was decided, 1 error caught by its test"]
    )
    report = json.loads((project.path / "r.json").read_text())
    assert report["errors"] == [{"id": "test_it.py::test_a", "message": "RuntimeError: no", "outcome": "passed"}]
    assert report["gate"]["verdict"] == "none"


def test_expected_errors_are_recorded_beside_what_was_decided(run: Run):
    result = run(
        f"def test_a(robust):\n    with pytest.raises(RuntimeError): {ERROR}"
        "    robust(Fake(60), 0, eps=1, min_accuracy=0.4)\n"
        f"@pytest.mark.xfail\ndef test_b(robust): {ERROR}"
        "def test_c(robust):\n    with pytest.raises(ValueError): robust(Fake(), 0, eps='x')\n"
    )
    result.assert_outcomes(passed=2, xfailed=1)
    result.stdout.fnmatch_lines(
        [
            "test_a#2 *pass",
            "test_a * ERROR (caught by the test)",
            "test_b * ERROR (xfail)",
            "test_c * ERROR (caught by the test)",
            "robust gate: pass, 1 check, 2 errors caught by their tests, 1 error expected (xfail)",
        ]
    )


def test_caught_error_under_a_floor_of_the_marker_fails(run: Run):
    result = run(f"@pytest.mark.robust(min_accuracy=0.4)\ndef test_a(robust):\n    try: {ERROR}    except Exception: pass\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "a floor is set for this test, but its check ended in an error: RuntimeError: no",
            "test_a * ERROR",
            "robust gate: FAIL, 1 error",
        ]
    )


def test_error_beside_a_reported_check_is_no_assertion(run: Run):
    result = run("def test_a(robust):\n    robust(Fake(), 0, eps=1).accuracy_of('frog')\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*LookupError: no class is called 'frog'*", "*- robust -*", "test_a *31.0% *report only", "test_a * ERROR"]
    )
    result.stdout.fnmatch_lines(["robust gate: FAIL, 1 error"])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("0, eps=1, attacks='agpd'", "no attack is called 'agpd'; known: *"),
        ("0, eps=1, profile='quick'", "profile must be one of smoke, standard, release, got 'quick'"),
        ("0, eps='8//255'", "eps: '8//255' is not a number*"),
        ("0, eps=1, n=0", "n must be a whole number*"),
        ("0, eps=1, min_accuracy=40", "min_accuracy: *did you mean '40%'?"),
        ("0, eps=1, min_accuracy={}", "min_accuracy: the mapping is empty*"),
        ("0, [1]", "the third argument is a list, *; give the data as one pair: robust(model, (inputs, labels))"),
    ],
)
def test_wrong_argument_is_one_line(run: Run, arguments, complaint):
    result = run(f"def test_a(robust): robust(Fake(), {arguments})\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"robust(...): {complaint}", "robust gate: FAIL, 1 error"])
    assert "fixture.py" not in result.stdout.str()


@pytest.mark.parametrize("marked", [False, True])
def test_bounds_of_a_text_model_are_refused(run: Run, marked):
    marker, argument = ("@pytest.mark.robust(bounds=(0, 1))\n", "") if marked else ("", ", bounds=(0, 1)")
    result = run(f"{marker}def test_a(robust): robust(Fake(space='embedding'), 0, norm='l2', eps=1{argument})\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["bounds are given for a text model*"])


def test_a_fixture_of_the_user_may_call_it(run: Run):
    result = run(
        "@pytest.fixture\n"
        "def evaluated(robust): return robust(Fake(), 0, eps=1, min_accuracy=0.4)\n"
        "def test_a(evaluated): pass\n"
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E *assert robust accuracy 31.0% >= 40.0% *", "robust gate: FAIL, 1 floor"])


@pytest.mark.skipif(pytest.version_tuple < (9,), reason="subtests came with pytest 9")
def test_subtests_keep_every_record_once(run: Run):
    result = run(
        "def test_a(robust, subtests):\n"
        "    for floor in (0.3, 0.4, 0.2):\n"
        "        with subtests.test(floor=floor): robust(Fake(), 0, eps=1, min_accuracy=floor)\n"
    )
    assert result.ret == 1
    result.stdout.fnmatch_lines(["test_a *pass", "test_a#2 *FAIL floor", "test_a#3 *pass", "robust gate: FAIL, 1 floor"])
