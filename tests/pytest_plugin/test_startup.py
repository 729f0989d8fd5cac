"""The plugin costs a project without robust tests next to nothing: nothing heavy is imported."""

from __future__ import annotations

import pytest
from projects import ARGUMENTS

SPY = """
import sys

def pytest_unconfigure(config):
    heavy = ("torch", "numpy", "scipy", "tabulate", "tqdm", "hypothesis", "transformers")
    print("heavy:", sorted(set(heavy) & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("def test_a(): pass\n", ["--collect-only"]),
        ("def test_a(): assert 1 + 1 == 2\n", []),
        ("def test_a(): pass\n", ["--robust-eps=2/255,8/255", "--robust-fail-under=0.4", "--robust-device=auto"]),
        ("def test_a(robust): robust(None, None)\n", ["--collect-only", "--robust-eps=8/255"]),
    ],
    ids=["collect", "run", "options", "collect-robust"],
)
def test_nothing_heavy_is_imported(project, source, options):
    project.makepyfile(test_it=source, spy=SPY)
    result = project.runpytest_subprocess(*ARGUMENTS, "-p", "spy", *options)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["heavy: [[]]"])


def test_help_and_markers_describe_everything(project):
    shown = project.runpytest_inprocess(*ARGUMENTS, "--help").stdout.str()
    options = [
        "eps",
        "norm",
        "profile",
        "attack",
        "n",
        "seed",
        "device",
        "fail-under",
        "confidence",
        "force",
        "report",
        "model",
        "data",
        "selfcheck",
        "replay",
        "witness",
    ]
    assert [option for option in options if f"--robust-{option}" not in shown] == []
    keys = ["eps", "norm", "profile", "attacks", "n", "seed", "fail_under", "confidence"]
    assert [key for key in keys if f"robust_{key} (" not in shown] == []
    assert "adversarial robustness" in shown
    markers = project.runpytest_inprocess(*ARGUMENTS, "--markers")
    markers.stdout.fnmatch_lines(["@pytest.mark.robust(norm, eps, *, min_accuracy, *"])
    fixtures = project.runpytest_inprocess(*ARGUMENTS, "--fixtures")
    fixtures.stdout.fnmatch_lines(["*Check a model's adversarial robustness: *"])
