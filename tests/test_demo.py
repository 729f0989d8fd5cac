"""The console script, and the examples, run as a user runs them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_robust import cli
from pytest_robust.cli import demo

EXAMPLES = Path(__file__).parents[1] / "examples"
README = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
REGRESSIONS = (EXAMPLES.parent / "docs/how-to/regressions.md").read_text(encoding="utf-8")


def labels(text: str) -> list[str]:
    """The word at the head of each line that begins with one."""
    return re.findall(r"^ *(\w+)", text, re.MULTILINE)


def test_demo_shows_a_failure_and_a_pass(capfd):
    assert cli.main(["demo"]) == 0
    out = capfd.readouterr().out
    assert "1 failed, 1 passed" in out
    assert "assert robust accuracy" in out
    table = out[out.rindex("robustness") :]
    assert "test_standard_training" in table
    assert "test_adversarial_training" in table
    assert "FAILS a check that the same network" in out
    shown = README.split("From `make demo`")[1].split("```")[1]
    first = "_ test_standard_training"
    assert first in shown
    assert labels(shown[shown.index(first) :]) == labels(out[out.index(first) :])[: len(labels(shown))]


@pytest.mark.parametrize(
    ("status", "verdicts"),
    [(0, ("pass", "pass")), (1, ("fail", "fail")), (1, ("pass", "fail")), (2, ("fail", "pass"))],
)
def test_demo_fails_when_its_outcome_is_another(monkeypatch, capsys, status, verdicts):
    ids = ("test_digits.py::test_standard_training[linf-0.1]", "test_digits.py::test_adversarial_training[linf-0.1]")

    def run(command, *, cwd, **_):
        checks = [{"id": i, "verdict": verdict} for i, verdict in zip(ids, verdicts, strict=True)]
        (Path(cwd) / "demo.json").write_text(json.dumps({"checks": checks}))
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(demo.subprocess, "run", run)
    assert cli.main(["demo"]) == 1
    assert f"exit status {status}" in capsys.readouterr().err


def test_demo_fails_when_pytest_wrote_no_report(monkeypatch, capsys):
    monkeypatch.setattr(demo.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1))
    assert cli.main(["demo"]) == 1
    assert "NOT the outcome" in capsys.readouterr().err


def test_demo_without_scikit_learn_names_the_extra(monkeypatch, capsys):
    monkeypatch.setattr(demo, "find_spec", lambda _: None)
    assert cli.main(["demo"]) == 2
    assert "pip install 'pytest-robust[demo]'" in capsys.readouterr().err


def test_no_command_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main([])
    assert exit_.value.code == 2
    assert "required: command" in capsys.readouterr().err


def test_release_story_stops_the_release_that_lost_robustness():
    story = [sys.executable, EXAMPLES / "release" / "story.py"]
    result = subprocess.run(story, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    first, second, third = result.stdout.split("== v")[1:]
    assert "baseline written: robust-baseline/test_release/test_release-linf-0.1.json" in first
    assert "robust gate (no-regression): FAIL, 1 regressed" in second
    assert "robust gate (no-regression): pass, 1 check\n" in third
    shown = REGRESSIONS.split("says of the second:")[1].split("```")[1]
    # Lines that are indented further go on with what depends on the figures.
    heads = [re.findall(r"^ {0,2}(\w+)", text[text.index("verdict  ") :], re.MULTILINE) for text in (shown, second)]
    assert len(heads[0]) > 12
    assert heads[0] == heads[1][: len(heads[0])]


@pytest.mark.parametrize(("name", "checks"), [("text", 6), ("chat", 4), ("retrieval", 3), ("translation", 3)])
def test_example_of_language_models_passes(monkeypatch, tmp_path, name, checks):
    pytest.importorskip("transformers")
    # A copy, so that nothing is remembered from one run of this test to the next.
    folder = shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=shutil.ignore_patterns(".robust", "__pycache__"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", ".", "."]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{checks} passed" in result.stdout


@pytest.mark.parametrize(("story", "method"), [("digits", "nfgsm"), ("typos", "typos")])
def test_retraining_story_ends_with_a_model_that_passes(story, method):
    if story == "typos":
        pytest.importorskip("transformers")
    story = [sys.executable, EXAMPLES / "retraining" / "story.py", story]
    result = subprocess.run(story, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"it passes this check; by {method}" in result.stdout
    assert "was retrained, and passes it" in result.stdout
