"""Baselines: written, compared with, and what the gates make of it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace

import fake_engine
import numpy as np
import pytest

UPDATE, COMPARE = "--robust-update", "--robust-baseline"
SOURCE = """
def test_net(robust): robust(Fake({robust}, n=1000, clean={clean}), 0, eps="8/255", {more})
"""


def source(robust: int = 600, clean: int = 940, more: str = "") -> str:
    return SOURCE.format(robust=robust, clean=clean, more=more)


@pytest.fixture
def accepted(run, project):
    """A project whose check was accepted at 60.0 % robust and 94.0 % clean."""
    result = run(source(), UPDATE)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["baseline written: robust-baseline/test_it/test_net.json"])
    return project


def test_an_unchanged_model_passes_and_says_against_what(run, accepted):
    result = run(source(), COMPARE)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["*vs robust-baseline*", "test_net *+0.0 pt *", "robust gate (no-regression): pass, 1 check*"]
    )


def test_a_regression_fails_its_test_with_all_figures(run, accepted):
    result = run(source(robust=450), COMPARE)
    assert result.ret == 1
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *regressed against robust-baseline: robust accuracy fell by 15.0 points (90% CI of the drop 13.*",
            "verdict      FAIL REGRESSED",
            "*against robust-baseline * drop *",
            "  robust     REGRESSED *15.0 pt *2 pt",
            "  paired: 150 newly broken, 0 newly robust, 850 unchanged of the same 1000 examples",
            "test_net *-15.0 pt *FAIL REGRESSED",
            "robust gate (no-regression): FAIL, 1 regressed",
        ]
    )


def test_clean_accuracy_is_compared_as_well(run, accepted):
    result = run(source(clean=900), COMPARE)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["E *clean accuracy fell by 4.0 points*", "robust gate (no-regression): FAIL, 1 regressed"])


def test_floor_and_regression_are_both_named(run, accepted):
    result = run(source(robust=300, more="min_accuracy=0.4"), COMPARE)
    result.stdout.fnmatch_lines(["E *assert robust accuracy 30.0% >= 40.0%*", "test_net *FAIL floor, REGRESSED"])
    result.stdout.fnmatch_lines(["robust gate (no-regression): FAIL, 1 floor, 1 regressed"])


def test_the_very_same_model_cannot_have_dropped_however_few_the_examples(run, project):
    few = "def test_net(robust): robust(Fake(60, model='{}'), 0, eps=1)\n"
    run(few.format("model"), UPDATE)
    assert run(few.format("model"), COMPARE, "--robust-gate=release").ret == 0
    other = run(few.format("another"), COMPARE, "--robust-gate=release")
    assert other.ret == 1
    told = "test_it.py::test_net: inconclusive with *test_net.json: *; give the check more examples, or a wider margin"
    other.stdout.fnmatch_lines([told, "robust gate (release): FAIL, 1 inconclusive"])


def test_a_drop_within_the_margin_passes(run, accepted):
    assert run(source(robust=450), COMPARE, "--robust-margin=20pt").ret == 0
    assert run(source(robust=450, more="max_drop=0.2"), COMPARE).ret == 0


def test_few_changes_are_inconclusive_which_only_a_release_may_not_be(run, accepted):
    lenient = run(source(robust=585), COMPARE, "--robust-margin=1.6pt")
    assert lenient.ret == 1, "fifteen newly broken and none the other way is no chance"
    mixed = source(robust=600).replace("Fake(600", "Fake(599")
    assert run(mixed, COMPARE).ret == 0


def test_each_gate_fails_what_it_should(run, accepted):
    """NEW, INCOMPARABLE, MISSING and skipped pass the one gate and fail the other."""
    new = source() + "def test_new(robust): robust(Fake(), 0, eps=1)\n"
    other_attack = source().replace("clean=940", "clean=940, attack='another'")
    gone = "def test_new(robust): robust(Fake(), 0, eps=1)\n"
    skipped = source() + "def test_skip(robust):\n    import pytest\n    pytest.skip('no time')\n"
    suspicious = source().replace("clean=940", "clean=940, level='suspicious'")
    told = {
        new: "1 without a baseline",
        other_attack: "1 incomparable",
        gone: "1 with a baseline not run",
        skipped: "1 skipped",
        suspicious: "1 untrusted",
    }
    for text, words in told.items():
        assert run(text, COMPARE, "-Wignore").ret == 0, words
        release = run(text, COMPARE, "--robust-gate=release", "-Wignore")
        assert release.ret == 1, words
        release.stdout.fnmatch_lines([f"robust gate (release): FAIL*{words}*"])
    assert run(source(), COMPARE, "--robust-gate=release").ret == 0


def test_what_differs_is_said(run, accepted):
    result = run(source().replace("n=1000", "n=999"), COMPARE, "--robust-gate=release")
    assert result.ret == 1
    report = json.loads(report_of(run, accepted, source().replace("n=1000", "n=999")))
    (reason,) = report["checks"][0]["comparison"]["reasons"]
    assert "1 of the baseline's 1000 examples are not there any more" in reason


def report_of(run, project, text: str) -> str:
    run(text, COMPARE, "--robust-report=r.json")
    return (project.path / "r.json").read_text()


def test_many_checks_are_judged_as_one_family(run, project):
    """A drop that is hardly chance alone is to be expected among forty checks."""

    def tests(robust: int) -> str:
        nets = "\n".join(f"def test_{i}(robust): robust(Fake(600, n=1000, clean=940), 0, eps=1)" for i in range(40))
        return f"{nets}\ndef test_last(robust): robust(Fake({robust}, n=1000, clean=940), 0, eps=1)\n"

    run(tests(600), UPDATE)
    alone = "def test_last(robust): robust(Fake(594, n=1000, clean=940), 0, eps=1)\n"
    assert run(alone, COMPARE, "--robust-margin=0.5pt").ret == 1
    family = run(tests(594), COMPARE, "--robust-margin=0.5pt")
    assert family.ret == 0
    family.stdout.fnmatch_lines(["test_last *-0.6 pt (*"])


def test_early_decisions_are_not_compared_so_everything_is_decided(run, accepted):
    from fake_engine import CALLS

    run(source(more="min_accuracy=0.4"), COMPARE)
    assert CALLS[-1].stop_early is False
    run(source(more="min_accuracy=0.4"))
    assert CALLS[-1].stop_early is True


def test_update_writes_what_met_its_floor_and_says_why_not_for_the_rest(run, project):
    text = source() + (
        "def test_low(robust): robust(Fake(30), 0, eps=1, min_accuracy=0.4)\n"
        "def test_native(robust): assert robust(Fake(30), 0, eps=1).accuracy > 0.9\n"
        "def test_early(robust): robust(Fake(50, undecided=10, bound='lower'), 0, eps=1, min_accuracy=0.4)\n"
        "def test_opaque(robust): robust(Fake(50, attack=None), 0, eps=1)\n"
        "def test_invalid(robust): robust(Fake(50, level='invalid'), 0, eps=1, min_accuracy=0.4)\n"
    )
    result = run(text, UPDATE)
    result.stdout.fnmatch_lines_random(
        [
            "baseline written: *test_net.json",
            "no baseline written: test_it.py::test_low: its test did not pass",
            "no baseline written: test_it.py::test_native: its test did not pass",
            "no baseline written: test_it.py::test_early: not every example was decided",
            "no baseline written: test_it.py::test_opaque: what its attack is cannot be told*",
            "no baseline written: test_it.py::test_invalid: its test did not pass",
        ]
    )
    files = [path.name for path in (project.path / "robust-baseline").rglob("*.json")]
    assert files == ["test_net.json"]


def test_update_deletes_nothing_and_is_the_same_when_nothing_changed(run, accepted):
    path = accepted.path / "robust-baseline/test_it/test_net.json"
    before = path.read_text()
    run("def test_other(robust): robust(Fake(), 0, eps=1)\n", UPDATE)
    assert path.read_text() == before
    run(source(), UPDATE)
    assert path.read_text() == before


def test_a_cut_session_writes_no_baseline(run, project):
    text = source() + "def test_stop(robust): raise KeyboardInterrupt\n"
    result = run(text, UPDATE)
    result.stdout.fnmatch_lines(["ERROR: --robust-update: the session was cut short, so no baseline was written"])
    assert not (project.path / "robust-baseline").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([COMPARE], "there is no folder *robust-baseline; write the first baseline with pytest --robust-update*"),
        (["--robust-gate=release"], "there is no folder *robust-baseline*"),
        (["--robust-baseline=git:main"], "there is no git revision 'main' here*"),
        (["--robust-baseline=empty"], "there are no baselines in empty; was 'empty' meant as a test path[?]*"),
        ([UPDATE, "-x"], "--robust-update needs a whole run*"),
        ([UPDATE, "--maxfail=2"], "--robust-update needs a whole run*"),
        ([UPDATE, "--robust-gate=release"], "--robust-update accepts what is*"),
        ([UPDATE, "--robust-baseline=git:main"], "--robust-update writes files*"),
        (["--robust-margin=2"], "*--robust-margin: a margin lies between 0 and 1, got '2'; did you mean '2pt'[?]"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_runs(run, project, options, message):
    (project.path / "empty").mkdir()
    result = run(source(), *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{message}"])


def test_a_damaged_baseline_is_no_missing_one(run, accepted):
    path = accepted.path / "robust-baseline/test_it/test_net.json"
    path.write_text(path.read_text().replace('"robust": 600', '"robust": 6'))
    result = run(source(), COMPARE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *test_net.json: its sums and what they are of do not agree*"])


def test_a_change_cannot_edit_what_it_is_measured_against(run, accepted):
    identity = ["-c", "user.email=a@example.org", "-c", "user.name=a"]
    for command in (["init", "-q", "-b", "main", "."], ["add", "-A"], [*identity, "commit", "-qm", "accepted"]):
        subprocess.run(["git", *command], cwd=accepted.path, check=True, capture_output=True)
    run(source(robust=450), UPDATE)
    assert run(source(robust=450), COMPARE).ret == 0
    result = run(source(robust=450), "--robust-baseline=git:main")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["E *regressed against main@*", "*vs main@*"])


def test_the_ini_file_may_say_it(run, accepted):
    (accepted.path / "pytest.ini").write_text(
        "[pytest]\nrobust_gate = release\nrobust_margin = 3pt\nrobust_clean_margin = 2pt\nrobust_baseline_dir = base\n"
    )
    (accepted.path / "robust-baseline").rename(accepted.path / "base")
    result = run(source(robust=585))
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*vs base*", "robust gate (release): pass, 1 check"])


def test_an_advisory_check_regresses_with_a_warning_only(run, accepted):
    text = "import pytest\n@pytest.mark.robust(tier='advisory')\n" + source(robust=450).strip() + "\n"
    result = run(text, COMPARE)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*advisory: regressed against*"])


@pytest.mark.parametrize("option", [UPDATE, COMPARE, None])
def test_what_earlier_runs_found_comes_last_where_outcomes_are_compared(run, accepted, option):
    run(source(), *([option] if option else []))
    assert fake_engine.CALLS[-1].replay == ("last" if option else "first")


def test_what_only_earlier_runs_break_stands_in_a_baseline(run, accepted, monkeypatch):
    """It would lower a baseline that later models are measured by, which never faced it."""
    path = accepted.path / "robust-baseline" / "test_it" / "test_net.json"
    before = path.read_text()
    outcome = fake_engine.outcome

    def replayed(model, threat, **options):
        found = outcome(model, threat, **options)
        by = ("replay", *found.broken_by[1:])
        return replace(found, broken_by=by, robust=found.robust & (np.arange(len(found)) > 0))

    monkeypatch.setattr(fake_engine, "outcome", replayed)
    result = run(source(), UPDATE)
    result.stdout.fnmatch_lines(["*59.9%*"])
    assert path.read_text() == before
    assert run(source(), COMPARE).ret == 0
